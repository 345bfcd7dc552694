// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_claim.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

using testing::TemporaryDirectory;

constexpr uid_t kUser = 4294967293;  // the highest offset
constexpr int kMost = 5;

class UserMountClaimTest : public ::testing::Test {
 protected:
  [[nodiscard]] Result<MountClaim> take(uid_t user = kUser, int mounted = 0) const {
    UniqueFd file(::open(directory_.path("claims").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    return MountClaim::take(std::move(file), user, [&] { return mounted; }, kMost);
  }
  TemporaryDirectory directory_;
};

Errno error_of(const Result<MountClaim>& claim) { return claim ? Errno(0) : claim.error(); }

TEST_F(UserMountClaimTest, PlacesAndMountsCountTogether) {
  EXPECT_EQ(error_of(take(kUser, kMost)), Errno(EUSERS));
  EXPECT_TRUE(take(kUser, kMost - 1)) << "the refused one has left nothing";
  std::vector<MountClaim> taken;
  for (int i = 0; i < kMost - 1; ++i) taken.push_back(take().value());
  EXPECT_EQ(error_of(take(kUser, 1)), Errno(EUSERS));
  taken.push_back(take().value());
  EXPECT_EQ(error_of(take()), Errno(EUSERS));
  EXPECT_TRUE(take(kUser - 1)) << "of others nothing is taken";
  EXPECT_TRUE(take(0));
  taken.pop_back();
  EXPECT_TRUE(take());
}

// What a mount does: takes a place, mounts, gives the place back. However many there are at once, and whoever
// of them ends when, there are never more than the limit.
TEST_F(UserMountClaimTest, ManyAtOnceDoNotPassTheLimit) {
  constexpr int kProcesses = 40;
  auto* const mounted = static_cast<std::atomic<int>*>(
      ::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(mounted, MAP_FAILED);
  std::vector<pid_t> processes;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t process = ::fork();
    if (process == 0) {
      UniqueFd file(::open(directory_.path("claims").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      const auto claim = MountClaim::take(std::move(file), kUser, [&] { return mounted->load(); }, kMost);
      if (claim) {
        ::poll(nullptr, 0, 5);  // the others come in between
        ++*mounted;
      }
      ::_exit(claim ? 0 : 1);
    }
    processes.push_back(process);
  }
  int through = 0;
  for (const pid_t process : processes) {
    int status = 0;
    ::waitpid(process, &status, 0);
    through += WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 1 : 0;
  }
  EXPECT_EQ(through, mounted->load());
  EXPECT_GE(through, 1);
  EXPECT_LE(through, kMost);
  ::munmap(mounted, sizeof *mounted);
}

TEST_F(UserMountClaimTest, APlaceEndsWithItsProcess) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t process = ::fork();
  if (process == 0) {
    std::vector<MountClaim> taken;
    for (int i = 0; i < kMost; ++i) taken.push_back(take().value());
    (void)!::write(ends[1], "x", 1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ends[0], &byte, 1), 1);
  EXPECT_EQ(error_of(take()), Errno(EUSERS));
  ::kill(process, SIGKILL);
  ::waitpid(process, nullptr, 0);
  EXPECT_TRUE(take());
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace fuse4fs::helper
