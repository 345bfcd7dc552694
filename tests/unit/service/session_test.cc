// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/unit/protocol/support.h"
#include "tests/unit/service/fake_helper.h"

namespace fuse4fs::service::testing {
namespace {

using protocol::testing::LeakCheck;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr ClaimPatience kShort{.interval = std::chrono::milliseconds(5),
                               .limit = std::chrono::milliseconds(60)};
const std::string kOptions = "OPTS default_permissions,allow_other,blksize=1024";

// Minor number of the memory device that stands in for the device (FakeHelper): 3 plain, 5 direct; -1 if
// empty.
int kind_of(const UniqueFd& fd) {
  struct stat status;
  return fd && ::fstat(fd.get(), &status) == 0 ? static_cast<int>(minor(status.st_rdev)) : -1;
}
constexpr int kPlain = 3;
constexpr int kDirect = 5;

// The whole start as main does it. The first failure ends it.
Outcome<void> start(FakeHelper& helper) {
  ASSIGN_OR_RETURN(Session session, Session::accept(helper.take_socket()));
  const UniqueFd log = session.open_log();
  ASSIGN_OR_RETURN(const DeviceDescriptors device, session.open_device(kShort));
  RETURN_IF_ERROR(session.mount(1024));
  const UniqueFd clone = session.open_clone();
  session.say_goodbye(0);
  return {};
}

TEST(Session, OurHelperFromStartToEnd) {
  const LeakCheck leaks;
  FakeHelper helper({.arguments = {"ext4", "/dev/fake", "/mnt", "-o", "nosuid,max_read=65536,threads=2"}});
  auto session = Session::accept(helper.take_socket());
  ASSERT_TRUE(session);
  EXPECT_EQ(session->options().subtype, "ext4");
  EXPECT_EQ(session->options().threads, 2U);
  EXPECT_GE(session->fd(), 0);
  EXPECT_EQ(kind_of(session->take_fuse_device()), kPlain);

  EXPECT_FALSE(session->helper_knows_us());
  EXPECT_TRUE(session->open_log());
  EXPECT_TRUE(session->helper_knows_us());
  const auto device = session->open_device();
  ASSERT_TRUE(device);
  EXPECT_EQ(kind_of(device->buffered), kPlain);
  EXPECT_EQ(kind_of(device->direct), kDirect);
  EXPECT_FALSE(device->read_only);
  EXPECT_FALSE(device->write_refusal);
  EXPECT_TRUE(session->mount(1024));
  EXPECT_TRUE(session->open_clone());
  session->say_goodbye(0);
  EXPECT_EQ(session->fd(), -1);
  EXPECT_THAT(helper.finish(),
              ElementsAre("OPEN journal", "BDEV rw", "BDEV rw direct", "TYPE fuseblk", "NAME /dev/fake",
                          "MNTP /mnt", kOptions + ",max_read=65536", "DOIT 0x2", "OPEN clone", "BYEE 0"));
}

TEST(Session, LibfusesHelperFromStartToEnd) {
  const LeakCheck leaks;
  FakeHelper helper({.whose = Whose::kLibfuses});
  auto session = Session::accept(helper.take_socket());
  ASSERT_TRUE(session);
  EXPECT_FALSE(session->open_log());
  EXPECT_FALSE(session->helper_knows_us());
  const auto device = session->open_device();
  ASSERT_TRUE(device);
  EXPECT_GE(session->claim_fd(), 0);
  EXPECT_EQ(kind_of(device->buffered), kPlain);
  EXPECT_EQ(kind_of(device->direct), kDirect);
  EXPECT_TRUE(session->mount(1024));
  EXPECT_EQ(session->claim_fd(), -1);
  EXPECT_FALSE(session->open_clone());
  session->say_goodbye(0);
  EXPECT_THAT(helper.finish(), ElementsAre("OPEN journal", "BDEV rw excl", "BDEV rw", "BDEV rw direct",
                                           "TYPE fuseblk", "NAME /dev/fake", "MNTP /mnt", kOptions,
                                           "DOIT 0x0", "claim dropped", "OPEN clone", "BYEE 0"));
}

TEST(Session, OurHelperWithoutALogIsStillOurs) {
  FakeHelper helper({.answers = {{"OPEN journal", {EOPNOTSUPP}}}});
  auto session = Session::accept(helper.take_socket());
  ASSERT_TRUE(session);
  EXPECT_FALSE(session->open_log());
  EXPECT_TRUE(session->helper_knows_us());
}

TEST(Session, OtherErrorsDoNotProveOurHelper) {
  for (const int error : {ENOENT, EACCES, EPERM, ELOOP, EIO}) {
    FakeHelper helper({.answers = {{"OPEN journal", {error}}}});
    auto session = Session::accept(helper.take_socket());
    ASSERT_TRUE(session);
    EXPECT_FALSE(session->open_log());
    EXPECT_FALSE(session->helper_knows_us()) << error;
  }
}

TEST(Session, AFileOfThatNameIsNotALog) {
  // Somebody made ./fuse4fs:journal where libfuse's helper runs.
  const LeakCheck leaks;
  FakeHelper helper(
      {.whose = Whose::kLibfuses,
       .answers = {{"OPEN journal", {FakeHelper::kRealFile}}, {"OPEN clone", {FakeHelper::kRealFile}}}});
  auto session = Session::accept(helper.take_socket());
  ASSERT_TRUE(session);
  EXPECT_FALSE(session->open_log());
  EXPECT_FALSE(session->helper_knows_us());
  EXPECT_FALSE(session->open_clone());
}

TEST(Session, ReadOnlyIsNotOpenedForWriting) {
  FakeHelper helper({.arguments = {"ext4", "/dev/fake", "/mnt", "-o", "ro"}});
  ASSERT_TRUE(start(helper));
  EXPECT_THAT(helper.finish(),
              ElementsAre("OPEN journal", "BDEV ro", "BDEV ro direct", "TYPE fuseblk", "NAME /dev/fake",
                          "MNTP /mnt", kOptions, "DOIT 0x1", "OPEN clone", "BYEE 0"));
}

TEST(Session, ADeviceThatRefusesWritingIsMountedReadOnly) {
  for (const int refusal : {EROFS, EACCES, EPERM}) {
    FakeHelper helper({.answers = {{"BDEV rw", {refusal}}}});
    auto session = Session::accept(helper.take_socket());
    ASSERT_TRUE(session);
    EXPECT_TRUE(session->open_log());
    const auto device = session->open_device(kShort);
    ASSERT_TRUE(device);
    EXPECT_TRUE(device->read_only);
    EXPECT_EQ(device->write_refusal, Errno(refusal));
    EXPECT_FALSE(session->options().read_only);  // the user did not ask for it
    EXPECT_TRUE(session->mount(1024));
    session->say_goodbye(0);
    EXPECT_THAT(helper.finish(), ::testing::Contains("DOIT 0x1"));
  }
}

TEST(Session, AReadOnlyDeviceIsClaimedReadOnly) {
  FakeHelper helper({.whose = Whose::kLibfuses, .answers = {{"BDEV rw excl", {EROFS}}}});
  ASSERT_TRUE(start(helper));
  EXPECT_THAT(helper.finish(), ElementsAre("OPEN journal", "BDEV rw excl", "BDEV ro excl", "BDEV ro",
                                           "BDEV ro direct", "TYPE fuseblk", "NAME /dev/fake", "MNTP /mnt",
                                           kOptions, "DOIT 0x1", "claim dropped", "OPEN clone", "BYEE 0"));
}

TEST(Session, TheVolumeMayDemandReadOnly) {
  FakeHelper helper({});
  auto session = Session::accept(helper.take_socket());
  ASSERT_TRUE(session);
  session->make_read_only();
  EXPECT_TRUE(session->mount(1024));
  session->say_goodbye(0);
  EXPECT_THAT(helper.finish(), ::testing::Contains("DOIT 0x1"));
}

TEST(Session, PressureFilesAreAskedForUntilThereAreNoMore) {
  const LeakCheck leaks;
  constexpr int kFile = FakeHelper::kPressureFile;
  struct Case {
    std::deque<int> answers;
    std::size_t files;
  };
  for (const Case& one : {Case{{EOPNOTSUPP}, 0}, Case{{kFile, EOPNOTSUPP}, 1}, Case{{kFile, kFile, kFile}, 2},
                          Case{{FakeHelper::kRealFile}, 0}, Case{{0}, 0}}) {
    FakeHelper helper({.answers = {{"OPEN psi", one.answers}}});
    auto session = Session::accept(helper.take_socket());
    ASSERT_TRUE(session);
    EXPECT_THAT(session->open_pressure(), IsEmpty()) << "nothing is asked of a helper that nobody knows";
    EXPECT_TRUE(session->open_log());
    EXPECT_EQ(session->open_pressure().size(), one.files);
  }
}

TEST(Session, DirectIoIsALuxury) {
  const LeakCheck leaks;
  FakeHelper helper({.answers = {{"BDEV rw direct", {EINVAL}}}});
  auto session = Session::accept(helper.take_socket());
  ASSERT_TRUE(session);
  EXPECT_TRUE(session->open_log());
  const auto device = session->open_device();
  ASSERT_TRUE(device);
  EXPECT_EQ(kind_of(device->buffered), kPlain);
  EXPECT_FALSE(device->direct);
}

TEST(Session, AClaimWaitsForWhoeverLooksAtTheDevice) {
  FakeHelper helper({.whose = Whose::kLibfuses, .answers = {{"BDEV rw excl", {EBUSY, EBUSY, EBUSY}}}});
  ASSERT_TRUE(start(helper));
  EXPECT_EQ(std::ranges::count(helper.finish(), "BDEV rw excl"), 4);
}

TEST(Session, AClaimDoesNotWaitForEver) {
  FakeHelper helper({.whose = Whose::kLibfuses, .answers = {{"BDEV rw excl", std::deque<int>(1000, EBUSY)}}});
  const auto started = start(helper);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().error, Errno(EBUSY));
  EXPECT_THAT(started.error().message, HasSubstr("\"/dev/fake\""));
  const auto attempts = std::ranges::count(helper.finish(), "BDEV rw excl");
  EXPECT_GE(attempts, 2);
  EXPECT_LE(attempts, 13);
}

TEST(Session, OurHelpersBusyIsNotWaitedFor) {
  // It has the claim, or it would have said so before.
  FakeHelper helper({.answers = {{"BDEV rw", {EBUSY}}}});
  EXPECT_FALSE(start(helper));
  EXPECT_EQ(std::ranges::count(helper.finish(), "BDEV rw"), 1);
}

TEST(Session, BlocksAboveAPageAreNamedAsAPage) {
  FakeHelper helper({});
  auto session = Session::accept(helper.take_socket());
  ASSERT_TRUE(session);
  EXPECT_TRUE(session->mount(1 << 20));
  session->say_goodbye(0);
  EXPECT_THAT(helper.finish(),
              ::testing::Contains(HasSubstr("blksize=" + std::to_string(::sysconf(_SC_PAGESIZE)))));
}

// The name of a step for the helper, and what the words for its failure must contain.
struct Step {
  const char* name;
  const char* words;
};
const Step kSteps[] = {{"BDEV rw", "open the device"},
                       {"TYPE", "(TYPE)"},
                       {"NAME", "(NAME)"},
                       {"MNTP", "(MNTP)"},
                       {"OPTS", "(OPTS)"},
                       {"DOIT", "(DOIT)"}};

TEST(Session, EachRefusalNamesItsStep) {
  const LeakCheck leaks;
  for (const auto& step : kSteps) {
    FakeHelper helper({.answers = {{step.name, {EXDEV}}}});
    const auto started = start(helper);
    ASSERT_FALSE(started) << step.name;
    EXPECT_EQ(started.error().error, Errno(EXDEV)) << step.name;
    for (const char* const part : {step.words, "\"/dev/fake\"", "\"/mnt\"", "the helper says"})
      EXPECT_THAT(started.error().message, HasSubstr(part));
    EXPECT_THAT(helper.finish(), ::testing::Not(::testing::Contains("BYEE 0")));
  }
}

TEST(Session, EndOfFileAtEachStepIsAnErrorThere) {
  const LeakCheck leaks;
  for (const auto& step : kSteps) {
    FakeHelper helper({.answers = {{step.name, {FakeHelper::kHangUp}}}});
    const auto started = start(helper);
    ASSERT_FALSE(started) << step.name;
    EXPECT_EQ(started.error().error, Errno(ECONNRESET)) << step.name;
    EXPECT_THAT(started.error().message, HasSubstr(step.words));
    EXPECT_THAT(started.error().message, HasSubstr("connection to the helper"));
  }
  // The descriptor that is a luxury, too: nothing that comes after it could succeed.
  FakeHelper helper({.answers = {{"BDEV rw direct", {FakeHelper::kHangUp}}}});
  EXPECT_EQ(start(helper).error().error, Errno(ECONNRESET));
  FakeHelper deaf({.answers = {{"OPEN journal", {FakeHelper::kHangUp}}}});
  EXPECT_EQ(start(deaf).error().error, Errno(ECONNRESET));
}

TEST(Session, HostileAnswersAtEachStepAreRefused) {
  const LeakCheck leaks;
  for (const auto& step : kSteps) {
    FakeHelper helper({.answers = {{step.name, {FakeHelper::kHostile}}}});
    const auto started = start(helper);
    ASSERT_FALSE(started) << step.name;
    EXPECT_EQ(started.error().error, Errno(EBADMSG)) << step.name;
  }
}

TEST(Session, AClaimIsGivenBackWhenTheStartFails) {
  const LeakCheck leaks;
  FakeHelper helper({.whose = Whose::kLibfuses, .answers = {{"OPTS", {EINVAL}}}});
  EXPECT_FALSE(start(helper));
}

TEST(Session, AcceptRefusesWhatIsNoSocket) {
  const LeakCheck leaks;
  const auto session = Session::accept(protocol::testing::open_null());
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().error, Errno(ENOTSOCK));
  EXPECT_FALSE(session.error().message.empty());
}

TEST(Session, AcceptRefusesHelpersThatCannotServe) {
  const LeakCheck leaks;
  struct Case {
    FakeHelper::Script script;
    int error;
  };
  const Case cases[] = {
      {{.answers = {{"HELLO", {FakeHelper::kHangUp}}}}, ECONNRESET},
      {{.hello = {.oldest_version = 2, .newest_version = 2, .may_use_fuseblk = true}}, EOPNOTSUPP},
      {{.hello = {.may_allow_other = true, .may_use_fuseblk = false}}, EPERM},
      {{.answers = {{"ARGS", {FakeHelper::kHostile}}}}, EBADMSG},
      {{.answers = {{"FUSE", {FakeHelper::kRealFile}}}}, EBADMSG},
  };
  for (const auto& row : cases) {
    FakeHelper helper(row.script);
    const auto session = Session::accept(helper.take_socket());
    ASSERT_FALSE(session);
    EXPECT_EQ(session.error().error, Errno(row.error)) << session.error().message;
    EXPECT_THAT(helper.finish(), IsEmpty());
  }
}

TEST(Session, BadOptionsEndInAGoodbye) {
  const LeakCheck leaks;
  FakeHelper helper({.arguments = {"ext4", "/dev/fake", "/mnt", "-o", "bogus"}});
  const auto session = Session::accept(helper.take_socket());
  ASSERT_FALSE(session);
  EXPECT_THAT(session.error().message, HasSubstr("\"bogus\""));
  EXPECT_THAT(helper.finish(), ElementsAre("BYEE 1"));
}

}  // namespace
}  // namespace fuse4fs::service::testing
