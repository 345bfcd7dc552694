// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "helper/command_line.h"
#include "helper/exit_status.h"
#include "helper/mount_command.h"
#include "helper/privileges.h"
#include "helper/user_mount_client.h"
#include "helper/user_mount_service.h"

namespace fuse4fs::helper {
namespace {

// SD_LISTEN_FDS_START of systemd.
constexpr int kFirstPassedDescriptor = 3;

void write_with_name(LogLevel, std::string_view line, const LogDetails&) {
  const std::string text = fmt::format("mount.fuse4fs: {}\n", line);
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

// A caller that closed 0, 1 or 2 must not find its device there, written to by a message.
void fill_standard_descriptors() {
  int fd = -1;
  do {
    fd = ::open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) ::close(fd);
}

Errand errand_of(const CommandLine& line) {
  if (line.action == Action::kServeUser) return Errand::kForUser;
  if (line.action == Action::kAbort) return Errand::kAbort;
  if (line.action == Action::kStop) return Errand::kStop;
  return line.name_space.empty() ? Errand::kMount : Errand::kMountElsewhere;
}

ExitStatus run_command_line(const std::vector<std::string>& arguments) {
  const auto line = parse_command_line(arguments);
  if (!line) {
    log_error("{}", line.error().message);
    return kUsage;
  }
  set_log_level(line->verbose ? LogLevel::kInfo : LogLevel::kNotice);
  if (line->action == Action::kShowText) return run(*line);
  // Never where the program was made setuid: that is not what it was written for.
  if (line->action != Action::kServeUser && ::getuid() != 0 && ::geteuid() == ::getuid())
    return ask_user_service(*line);
  if (const auto kept = keep_needed_privileges(errand_of(*line)); !kept) {
    log_error("{}", kept.error().message);
    return kUsage;
  }
  return line->action == Action::kServeUser ? serve_user(UniqueFd(kFirstPassedDescriptor)) : run(*line);
}

}  // namespace

int run_program(int argc, char** argv) {
  fill_standard_descriptors();
  // Nobody may read what is said; that is no reason to leave a mount half made. The server starts with the
  // default again (server_child.cc).
  ::signal(SIGPIPE, SIG_IGN);
  set_log_writer(write_with_name);
  try {
    return run_command_line({argv + 1, argv + argc});
  } catch (const std::bad_alloc&) {
    log_error("out of memory");
    return kSystemError;
  } catch (const std::exception& error) {
    log_error("internal error: {}", error.what());
    return kInternalBug;
  }
}

}  // namespace fuse4fs::helper
