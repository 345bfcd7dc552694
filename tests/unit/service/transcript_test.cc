// SPDX-License-Identifier: GPL-2.0-or-later
// This project's server and libfuse's helper: the conversation that was seen, packet by packet.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "server/service/session.h"
#include "tests/unit/protocol/replay.h"

namespace fuse4fs::service {
namespace {

namespace script = protocol::testing;

TEST(Transcript, LibfusesHelperStartsThisServer) {
  const script::LeakCheck leaks;
  script::SocketPair pair;
  script::Replay helper(std::move(pair.other), script::transcript_of_libfuses_helper(),
                        script::Speaker::kHelper, std::string(script::kDeviceInTranscripts));
  {
    auto session = Session::accept(std::move(pair.one));
    ASSERT_TRUE(session) << session.error().message;
    EXPECT_EQ(session->options().source, script::kDeviceInTranscripts);
    EXPECT_EQ(session->options().mount_point, "/mnt/x");
    EXPECT_EQ(session->options().mount_flags, static_cast<unsigned long>(MS_NOSUID | MS_NODEV | MS_NOATIME));
    EXPECT_TRUE(session->take_fuse_device());
    EXPECT_FALSE(session->open_log());
    EXPECT_FALSE(session->helper_knows_us());
    const auto device = session->open_device();
    ASSERT_TRUE(device) << device.error().message;
    EXPECT_GE(session->claim_fd(), 0);
    const auto mounted = session->mount(1024);
    ASSERT_TRUE(mounted) << mounted.error().message;
    EXPECT_FALSE(session->open_clone());
    session->say_goodbye(0);
  }
  EXPECT_TRUE(helper.finish());
}

}  // namespace
}  // namespace fuse4fs::service
