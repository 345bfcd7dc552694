// SPDX-License-Identifier: GPL-2.0-or-later
// Logs what the engine reports about the volume, so that a hostile volume cannot flood the log, and counts
// its errors.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/guarded.h"
#include "base/log.h"
#include "server/ext4/file_system.h"
#include "server/service/line_limit.h"
#include "server/service/message_ids.h"

namespace fuse4fs {

class EngineLog final : public ext4::Events {
 public:
  void corruption(std::string_view words, const ext4::EventSubject& about) override {
    ++errors_;
    log_limited(LogLevel::kError, words, details(service::kCorruption, about));
  }
  void device_error(std::string_view words, const ext4::EventSubject& about) override {
    ++errors_;
    log_limited(LogLevel::kError, words, details(service::kDeviceError, about));
  }
  void notice(ext4::Notice kind, std::string_view words) override {
    const auto level = kind == ext4::Notice::kRecovered ? LogLevel::kNotice : LogLevel::kWarning;
    log_limited(level, words, {.message_id = id_of(kind)});
  }

  // Corruption and device errors, those included that the log left out. Any thread.
  [[nodiscard]] std::uint64_t errors() const { return errors_; }

 private:
  static constexpr unsigned kLinesPerInterval = 20;
  static constexpr auto kInterval = std::chrono::seconds(5);

  static LogDetails details(std::string_view id, const ext4::EventSubject& about) {
    return {.message_id = id, .inode = about.inode, .block = about.block, .error = about.error};
  }
  static std::string_view id_of(ext4::Notice kind) {
    switch (kind) {
      case ext4::Notice::kReadOnly:
        return service::kReadOnly;
      case ext4::Notice::kShutDown:
        return service::kShutDown;
      case ext4::Notice::kRecovered:
        return service::kRecovered;
      case ext4::Notice::kOther:
        break;
    }
    return {};
  }

  void log_limited(LogLevel level, std::string_view words, const LogDetails& details) {
    const auto left_out = limit_.lock()->admit(std::chrono::steady_clock::now());
    if (!left_out) return;
    if (*left_out > 0) log_warning("{} lines about this volume were left out", *left_out);
    log_line(level, words, details);
  }

  Guarded<service::LineLimit, LockRank::kLogLimit> limit_{kLinesPerInterval, kInterval};
  std::atomic<std::uint64_t> errors_{0};
};

}  // namespace fuse4fs
