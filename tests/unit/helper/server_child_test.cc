// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/server_child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace fuse4fs::helper {
namespace {

TEST(ServerChild, TheEndOfTheHelperBeforeItsWordIsTheEndOfTheChild) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd go(ends[0]);
  UniqueFd go_write_end(ends[1]);
  const pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) become_server({.go = go.get(), .go_write_end = go_write_end.get()});
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  ASSERT_TRUE(process);
  pollfd wait{.fd = process.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&wait, 1, 200), 0) << "it waits for the word";
  go_write_end.reset();  // as the kernel does when the helper is killed
  EXPECT_EQ(::poll(&wait, 1, 5000), 1) << "it waits for ever";
  ::kill(pid, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 127);
}

}  // namespace
}  // namespace fuse4fs::helper
