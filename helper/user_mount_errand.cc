// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_errand.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <string_view>

#include "base/log.h"
#include "base/unique_fd.h"
#include "helper/mount_command.h"
#include "helper/user_mount_request.h"

namespace fuse4fs::helper {
namespace {

// A user who does not read is one who has left.
constexpr std::chrono::seconds kSendPatience{10};
// A mount that says more than this has gone wrong, and the journal is not for it.
constexpr std::size_t kMostWords = 64 << 10;

[[noreturn]] void become_helper(const CommandLine& line, int words, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(kInterrupted);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(words, STDOUT_FILENO);
  ::dup2(words, STDERR_FILENO);
  ::clearenv();
  ExitStatus status = kInternalBug;
  try {
    set_log_level(line.verbose ? LogLevel::kInfo : LogLevel::kNotice);
    status = run(line);
  } catch (const std::exception& error) {
    log_error("internal error: {}", error.what());
  }
  ::_exit(status);
}

// Hands on what has come. False at the pipe's end.
bool forward(int words, protocol::Channel& channel, std::size_t& shown) {
  std::array<char, kMostReplyBytes - 1> bytes{};
  const ssize_t length = ::read(words, bytes.data(), bytes.size());
  if (length < 0) return errno == EINTR || errno == EAGAIN;
  if (length == 0) return false;
  shown += static_cast<std::size_t>(length);
  if (shown <= kMostWords)
    (void)channel.send(encode_user_words({bytes.data(), static_cast<std::size_t>(length)}));
  return true;
}

}  // namespace

ExitStatus run_errand(const CommandLine& line, protocol::Channel& channel) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return kSystemError;
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  if (!channel.limit_sending(kSendPatience)) return kSystemError;
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return kSystemError;
  if (child == 0) {
    channel.close();
    become_helper(line, writing.get(), parent);
  }
  writing.reset();
  std::size_t shown = 0;
  bool left = false;
  for (;;) {
    pollfd waits[] = {{.fd = reading.get(), .events = POLLIN, .revents = 0},
                      {.fd = left ? -1 : channel.fd(), .events = POLLRDHUP, .revents = 0}};
    if (::poll(waits, std::size(waits), -1) < 0) continue;
    if (waits[1].revents != 0) {
      left = true;
      ::kill(child, SIGTERM);
    }
    if (waits[0].revents != 0 && !forward(reading.get(), channel, shown)) break;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? static_cast<ExitStatus>(WEXITSTATUS(status)) : kInternalBug;
}

}  // namespace fuse4fs::helper
