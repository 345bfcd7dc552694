// SPDX-License-Identifier: GPL-2.0-or-later
// What a service may ask for that only a kernel with iomap has: no answer gives it more than the user did.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/helper/command_session_fixture.h"

namespace fuse4fs::helper {
namespace {

using protocol::Command;
using testing::CommandSessionTest;
using testing::HostileServer;

TEST_F(CommandSessionTest, AnotherServiceMayNameTheRootsNode) {
  kernel_options_ = {"root_nodeid=2", "root_nodeid=18446744073709551615", "root_nodeid=0"};
  HostileServer server = start(Trust::kPlainService);
  // Not known to this kernel, and what is no number of a node.
  for (const char* const wrong : {"root_nodeid=3", "root_nodeid=0", "root_nodeid=", "root_nodeid",
                                  "root_nodeid=2x", "root_nodeid=-1", "root_nodeid=0x2", "root_nodeid= 2",
                                  "root_nodeid=18446744073709551616", "max_read=8192,root_nodeid=3"})
    EXPECT_EQ(server.ask(options(wrong)), EINVAL) << wrong;
  EXPECT_EQ(server.ask(options("root_nodeid=18446744073709551615,allow_other")), 0)
      << "what was refused may be said in another way";
  EXPECT_EQ(server.ask(options("allow_other")), EINVAL);
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(place()), 0);
  EXPECT_EQ(server.ask(doit()), 0);
  ASSERT_EQ(wishes_.size(), 1U);
  EXPECT_EQ(wishes_[0].root_node, ~std::uint64_t{0});
  EXPECT_EQ(wishes_[0].max_read, 0U) << "of a refused list nothing is kept";
  server.leave();
}

TEST_F(CommandSessionTest, OurRootIsTheFirstNodeWhateverTheKernelTakes) {
  kernel_options_ = {"root_nodeid=2"};
  HostileServer server = start();
  EXPECT_EQ(server.ask(options("root_nodeid=2")), EINVAL);
  server.leave();
}

Command iomap(protocol::IomapNeed need) { return protocol::RequestIomap{need}; }
constexpr auto kOptional = protocol::IomapNeed::kOptional;
constexpr auto kMandatory = protocol::IomapNeed::kMandatory;

TEST_F(CommandSessionTest, IomapIsOfNoConcernToAServiceThatDoesWithout) {
  HostileServer server = start(Trust::kPlainService);
  EXPECT_EQ(server.ask(iomap(kOptional)), 0);
  EXPECT_EQ(server.ask(type()), 0);
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(place()), 0);
  EXPECT_EQ(server.ask(doit()), 0);
  server.leave();
  EXPECT_EQ(end_session(), fail(ECONNRESET));
  EXPECT_TRUE(mounted_);
  EXPECT_FALSE(failure_);
}

TEST_F(CommandSessionTest, AServiceThatNeedsIomapIsToldAndNotMountedWithoutIt) {
  HostileServer server = start(Trust::kTrustedService);
  EXPECT_EQ(server.ask(iomap(kMandatory)), ENOTTY);
  EXPECT_EQ(server.ask(type()), -1);
  EXPECT_EQ(end_session(), fail(ENOTTY));
  ASSERT_TRUE(failure_);
  EXPECT_EQ(failure_->error, Errno(ENOTTY));
  EXPECT_EQ(failure_->message, "the service does not do without iomap: none in this kernel");
}

TEST_F(CommandSessionTest, WhereItIsBlessedAServiceMayNeedIt) {
  HostileServer server = start(Trust::kPlainService, 0, {});
  EXPECT_EQ(server.ask(iomap(kMandatory)), 0);
  EXPECT_EQ(server.ask(iomap(kOptional)), 0);
  EXPECT_EQ(server.ask(type()), 0);
  // Once the type is known it is too late.
  EXPECT_EQ(server.ask(iomap(kOptional)), EINVAL);
  EXPECT_EQ(server.ask(name()), -1);
  EXPECT_EQ(end_session(), fail(EINVAL));
  EXPECT_TRUE(failure_);
}

TEST_F(CommandSessionTest, AfterTheMountNobodyAsksForIomap) {
  HostileServer server = start(Trust::kPlainService, 0, {});
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(place()), 0);
  EXPECT_EQ(server.ask(doit()), 0);
  EXPECT_EQ(server.ask(iomap(kOptional)), EINVAL);
  EXPECT_EQ(end_session(), fail(EINVAL));
}

TEST_F(CommandSessionTest, OurServerAsksTheDescriptorAndNotForIomap) {
  for (const auto need : {kOptional, kMandatory}) {
    HostileServer server = start(Trust::kOwnServer, 0, {});
    EXPECT_EQ(server.ask(iomap(need)), EPERM);
    EXPECT_EQ(server.ask(name()), -1);
    EXPECT_EQ(end_session(), fail(EPERM));
    EXPECT_TRUE(failure_);
  }
}

TEST_F(CommandSessionTest, ALoopDeviceIsMadeOfTheSourceAlone) {
  HostileServer server = start(Trust::kTrustedService);
  // Of the source it was made unasked.
  ASSERT_EQ(server.ask(protocol::OpenFile{.path = source_->path(), .open_flags = O_RDWR, .try_loop = true}),
            0);
  struct stat status = {};
  ASSERT_EQ(::fstat(server.fd(), &status), 0);
  EXPECT_EQ(status.st_rdev, source_->device_number());
  // Of another image it is not: this one is answered as it would be without the wish.
  const std::string other = directory_.make_image("other");
  ASSERT_EQ(server.ask(protocol::OpenFile{.path = other, .open_flags = O_RDWR, .try_loop = true}), 0);
  ASSERT_EQ(::fstat(server.fd(), &status), 0);
  EXPECT_TRUE(S_ISREG(status.st_mode));
  EXPECT_EQ(server.ask(protocol::OpenBlockDevice{.path = other, .open_flags = O_RDWR, .try_loop = true}),
            ENOTBLK);
  EXPECT_EQ(testing::loop_devices_of(other), 0);
  server.leave();
  [[maybe_unused]] const auto ended = end_session();
  HostileServer plain = start(Trust::kPlainService);
  EXPECT_EQ(plain.ask(protocol::OpenFile{.path = other, .open_flags = O_RDWR, .try_loop = true}), EACCES);
  EXPECT_EQ(testing::loop_devices_of(other), 0);
  plain.leave();
}

}  // namespace
}  // namespace fuse4fs::helper
