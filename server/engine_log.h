// SPDX-License-Identifier: GPL-2.0-or-later
// Logs what the engine reports about the volume, so that a hostile volume cannot flood the log.
#pragma once

#include <chrono>
#include <string_view>

#include "base/guarded.h"
#include "base/log.h"
#include "server/ext4/file_system.h"

namespace fuse4fs {

class EngineLog final : public ext4::Events {
 public:
  void corruption(std::string_view words) override { log_limited(LogLevel::kError, words); }
  void device_error(std::string_view words) override { log_limited(LogLevel::kError, words); }
  void notice(std::string_view words) override { log_limited(LogLevel::kWarning, words); }

 private:
  static constexpr unsigned kLinesPerInterval = 20;
  static constexpr auto kInterval = std::chrono::seconds(5);

  struct Window {
    std::chrono::steady_clock::time_point start;
    unsigned lines = 0;
    unsigned dropped = 0;
  };

  void log_limited(LogLevel level, std::string_view words) {
    unsigned dropped_before = 0;
    {
      auto window = window_.lock();
      const auto now = std::chrono::steady_clock::now();
      if (now - window->start >= kInterval) {
        dropped_before = window->dropped;
        *window = Window{now, 0, 0};
      }
      if (++window->lines > kLinesPerInterval) {
        ++window->dropped;
        return;
      }
    }
    if (dropped_before > 0) log_warning("{} lines about this volume were left out", dropped_before);
    log_line(level, words);
  }

  Guarded<Window, LockRank::kLogLimit> window_;
};

}  // namespace fuse4fs
