// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <string>

#include "base/guarded.h"

namespace fuse4fs {
namespace {

void write_to_stderr(LogLevel, std::string_view line, const LogDetails&) {
  std::string text(line);
  text += '\n';
  // A log that cannot be written has nowhere to say so.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

struct Logger {
  Guarded<LogWriter, LockRank::kLog> writer{write_to_stderr};
  std::atomic<LogLevel> most_verbose{LogLevel::kInfo};
};

Logger& logger() {
  // Never destroyed: threads may log until the process is gone.
  static auto* const instance = new Logger;
  return *instance;
}

}  // namespace

void set_log_writer(LogWriter writer) { *logger().writer.lock() = std::move(writer); }

void set_log_level(LogLevel most_verbose) { logger().most_verbose = most_verbose; }

bool log_enabled(LogLevel level) { return level <= logger().most_verbose; }

void log_line(LogLevel level, std::string_view line, const LogDetails& details) {
  if (log_enabled(level)) (*logger().writer.lock())(level, line, details);
}

}  // namespace fuse4fs
