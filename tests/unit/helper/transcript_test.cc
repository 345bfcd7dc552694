// SPDX-License-Identifier: GPL-2.0-or-later
// This project's helper and a server written for libfuse's service API: the conversation that was seen,
// packet by packet, over a real device. The mount itself is a recorded wish (service_test.cc does it).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "helper/command_session.h"
#include "protocol/arguments.h"
#include "tests/unit/helper/support.h"
#include "tests/unit/protocol/replay.h"

namespace fuse4fs::helper {
namespace {

namespace script = protocol::testing;

TEST(Transcript, ThisHelperStartsLibfusesServer) {
  REQUIRE_FUSE();
  const testing::TemporaryDirectory directory;
  const std::string image = directory.make_image("image");
  auto source = Source::open(image, {.claim = Claim::kLeftToService});
  ASSERT_TRUE(source) << source.error().message;
  // Any name serves here, since the device is found by its descriptor; this one is as long as the
  // transcript's.
  const std::string name(script::kDeviceInTranscripts);
  const UniqueFd fuse_device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));

  script::SocketPair pair;
  script::Replay server(std::move(pair.other), script::transcript_of_libfuses_server(),
                        script::Speaker::kServer, name);
  protocol::HelperEnd end(script::channel_of(std::move(pair.one)));
  const auto arguments =
      protocol::write_arguments({"service_ll", name, "/mnt/x", "-o", "require_bdev,blocksize=1024"});
  ASSERT_TRUE(arguments);
  ASSERT_TRUE(end.greet({.may_allow_other = true, .may_use_fuseblk = true}, arguments->get(),
                        fuse_device.get(), std::chrono::seconds(60)));
  FileOpener opener(OpenPolicy(Trust::kPlainService, name, Access::kReadWrite), *source,
                    {.fuse_device = fuse_device.get(), .log_file = {}, .notify_socket = {}});
  std::vector<MountRequest> wishes;
  CommandSession session(
      {.trust = Trust::kPlainService, .source = name, .mount_point = "/mnt/x", .type = "service_ll"}, opener,
      [&](const MountRequest& request) -> Outcome<void> {
        wishes.push_back(request);
        return {};
      });
  const auto code = session.run(end, [] { return Result<void>(); });
  EXPECT_EQ(code, 0U);
  EXPECT_TRUE(server.finish());
  const MountRequest wanted{.type = MountType::kFuse, .flags = MS_NOSUID | MS_NODEV, .source = "service_ll"};
  EXPECT_EQ(wishes, std::vector{wanted});
  // What BDEV asked for was done, though the device was claimed.
  int block_size = 0;
  const auto device = source->reopen(O_RDONLY);
  ASSERT_TRUE(device);
  EXPECT_EQ(::ioctl(device->get(), BLKBSZGET, &block_size), 0);
  EXPECT_EQ(block_size, 1024);
}

}  // namespace
}  // namespace fuse4fs::helper
