// SPDX-License-Identifier: GPL-2.0-or-later
// Notices a server that answers nothing any more: says where, and cuts its mount off, so that the step in
// progress fails instead of waiting for ever.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

namespace fuse4fs::oracle {

class Watchdog {
 public:
  // `point`: of the mount to cut off.
  Watchdog(std::filesystem::path point, std::chrono::seconds patience);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Something is about to be done; the patience begins anew.
  void alive(std::string doing);
  [[nodiscard]] bool bit() const;

 private:
  void watch();

  const std::filesystem::path point_;
  const std::chrono::seconds patience_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::string doing_;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  bool over_ = false, bit_ = false;
  std::thread thread_;
};

}  // namespace fuse4fs::oracle
