// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/log_output.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fuse4fs::service {
namespace {

// A log that cannot be written has nowhere to say so.
void write_line(int fd, const std::string& line) {
  [[maybe_unused]] const auto written = ::write(fd, line.data(), line.size());
}

bool is_socket(int descriptor) {
  struct stat status{};
  return ::fstat(descriptor, &status) == 0 && S_ISSOCK(status.st_mode);
}

}  // namespace

LogOutput::Kind LogOutput::kind_of(int descriptor) {
  struct stat status{};
  if (descriptor < 0 || ::fstat(descriptor, &status) != 0) return Kind::kNone;
  if (S_ISSOCK(status.st_mode)) return Kind::kJournal;
  return S_ISCHR(status.st_mode) ? Kind::kKernelLog : Kind::kFile;
}

LogOutput::LogOutput(UniqueFd lasting, JournalOrigin origin)
    : lasting_(std::move(lasting)),
      kind_(kind_of(lasting_.get())),
      origin_(std::move(origin)),
      about_(fmt::format("{} on {}", origin_.device, origin_.mount_point)) {
  // Under systemd standard error is the journal as well: each line would be in it twice.
  if (kind_ == Kind::kJournal && is_socket(STDERR_FILENO)) to_standard_error_ = false;
}

void LogOutput::write_at(LineLimit::TimePoint now, LogLevel level, std::string_view line,
                         const LogDetails& details) {
  if (level != LogLevel::kDebug) {
    const auto left_out = limit_.admit(now);
    if (!left_out) return;
    if (*left_out > 0 && !pass_on(LogLevel::kWarning, fmt::format("{} lines were left out", *left_out), {}))
      limit_.lost(*left_out);
  }
  if (!pass_on(level, line, details)) limit_.lost(1);
}

bool LogOutput::pass_on(LogLevel level, std::string_view line, const LogDetails& details) {
  if (to_standard_error_) write_line(STDERR_FILENO, fmt::format("{}\n", line));
  if (kind_ == Kind::kJournal) {
    const auto record = journal_record(level, fmt::format("{}: {}", about_, line), details, origin_);
    return ::send(lasting_.get(), record.data(), record.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
  }
  if (kind_ != Kind::kNone) {
    // The kernel's log takes the priority from the line's start, as syslog does.
    const auto priority =
        kind_ == Kind::kKernelLog ? fmt::format("<{}>", static_cast<int>(level)) : std::string();
    write_line(lasting_.get(), fmt::format("{}fuse4fs ({}): {}\n", priority, about_, line));
  }
  return true;
}

void LogOutput::forget_standard_error() {
  if (!lasting_) return;
  to_standard_error_ = false;
  ::close(STDERR_FILENO);
}

}  // namespace fuse4fs::service
