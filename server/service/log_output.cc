// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/log_output.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fuse4fs::service {
namespace {

// A log that cannot be written has nowhere to say so.
void write_line(int fd, const std::string& line) {
  [[maybe_unused]] const auto written = ::write(fd, line.data(), line.size());
}

}  // namespace

LogOutput::LogOutput(UniqueFd lasting, std::string about)
    : lasting_(std::move(lasting)), about_(std::move(about)) {
  struct stat status{};
  kernel_log_ = lasting_ && ::fstat(lasting_.get(), &status) == 0 && S_ISCHR(status.st_mode);
}

void LogOutput::write(LogLevel level, std::string_view line) {
  if (to_standard_error_) write_line(STDERR_FILENO, fmt::format("{}\n", line));
  if (!lasting_) return;
  // The kernel log takes the priority from the line's start, as syslog does.
  const auto priority = kernel_log_ ? fmt::format("<{}>", static_cast<int>(level)) : std::string();
  write_line(lasting_.get(), fmt::format("{}fuse4fs ({}): {}\n", priority, about_, line));
}

void LogOutput::forget_standard_error() {
  if (!lasting_) return;
  to_standard_error_ = false;
  ::close(STDERR_FILENO);
}

}  // namespace fuse4fs::service
