// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/watchdog.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <cstdio>
#include <utility>

namespace fuse4fs::oracle {

Watchdog::Watchdog(std::filesystem::path point, std::chrono::seconds patience)
    : point_(std::move(point)), patience_(patience), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::alive(std::string doing) {
  const std::lock_guard lock(mutex_);
  doing_ = std::move(doing);
  since_ = std::chrono::steady_clock::now();
}

bool Watchdog::bit() const {
  const std::lock_guard lock(mutex_);
  return bit_;
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::seconds(1), [this] { return over_; })) {
    if (std::chrono::steady_clock::now() - since_ < patience_) continue;
    fmt::print(stderr, "no answer for {} s; cutting {} off. In progress: {}\n", patience_.count(),
               point_.string(), doing_);
    bit_ = true;
    since_ = std::chrono::steady_clock::now();
    lock.unlock();
    ::umount2(point_.c_str(), MNT_FORCE | MNT_DETACH);
    lock.lock();
  }
}

}  // namespace fuse4fs::oracle
