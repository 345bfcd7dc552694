// SPDX-License-Identifier: GPL-2.0-or-later
// The logging face. Where lines go is decided once, in main; who may log is in docs/architecture.md.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

namespace fuse4fs {

// syslog(3)'s numbers, so that they can be put before a line for journald and the kernel log.
enum class LogLevel : int { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6, kDebug = 7 };

// What a line is about, for logs that keep such things apart (journald). Empty or 0: nothing to say.
struct LogDetails {
  std::string_view message_id = {};  // 32 hexadecimal digits
  std::uint64_t inode = 0;
  std::uint64_t block = 0;
  int error = 0;  // as errno
};

using LogWriter = std::function<void(LogLevel, std::string_view line, const LogDetails&)>;

// Sets where lines go. Not while another thread logs: main calls it before the workers start, or through a
// writer that does its own switching. Without a writer lines go to standard error.
void set_log_writer(LogWriter writer);
// Lines less urgent than this are dropped before they are formatted. kInfo at the start.
void set_log_level(LogLevel most_verbose);
bool log_enabled(LogLevel level);

// One line, without a newline. Any thread; lines do not mix.
void log_line(LogLevel level, std::string_view line, const LogDetails& details = {});

template <class... Args>
void log_at(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_line(level, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kError, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kWarning, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_notice(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kNotice, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kDebug, format, std::forward<Args>(args)...);
}

}  // namespace fuse4fs
