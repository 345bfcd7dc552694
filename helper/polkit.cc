// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/polkit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace fuse4fs::helper {
namespace {

constexpr char kProgram[] = "/usr/bin/pkcheck";
constexpr char kAction[] = "org.fuse4fs.mount";

std::vector<std::string> command_for(const Peer& peer, const std::string& device,
                                     const std::string& directory) {
  return {kProgram,
          "--action-id",
          kAction,
          "--process",
          fmt::format("{},{},{}", peer.process.pid, peer.process.start, peer.person.user),
          "--allow-user-interaction",
          "--detail",
          "device",
          device,
          "--detail",
          "directory",
          directory};
}

// Only what is safe between fork and exec.
[[noreturn]] void become(char* const* arguments) {
  const int null = ::open("/dev/null", O_RDWR);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, fd);
  ::signal(SIGPIPE, SIG_DFL);
  char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char* const environment[] = {path, nullptr};
  ::execve(arguments[0], arguments, environment);
  ::_exit(127);
}

int wait_for_end(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

std::string words_of(int status) {
  switch (status) {
    case 1:
      return "polkit does not allow it (action org.fuse4fs.mount)";
    case 2:
      return "polkit wants a password, and there is nobody to ask for it: run pkttyagent or use a desktop";
    case 3:
      return "the question for a password was dismissed";
    default:
      return "polkit does not answer, and without it only a line of /etc/fstab with the word user lets you "
             "mount";
  }
}

}  // namespace

Outcome<void> ask_polkit(const Peer& peer, int socket, const std::string& device,
                         const std::string& directory) {
  std::vector<std::string> command = command_for(peer, device, directory);
  std::vector<char*> arguments;
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return fail(Errno::last(), fmt::format("{}: {}", kProgram, Errno::last().message()));
  if (child == 0) become(arguments.data());
  const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  // Then nothing below would ever end.
  if (!handle) ::kill(child, SIGKILL);
  pollfd waits[] = {{.fd = handle.get(), .events = POLLIN, .revents = 0},
                    {.fd = socket, .events = POLLRDHUP, .revents = 0}};
  int ready = 0;
  do {
    ready = handle ? ::poll(waits, std::size(waits), -1) : 0;
  } while (ready < 0 && errno == EINTR);
  const bool left = waits[0].revents == 0 && waits[1].revents != 0;
  if (left) ::kill(child, SIGKILL);
  const int status = wait_for_end(child);
  if (left) return fail(Errno(EINTR), "interrupted");
  if (status != 0) return fail(Errno(EPERM), words_of(status));
  return {};
}

}  // namespace fuse4fs::helper
