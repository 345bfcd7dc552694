// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel holds back while it freezes a file system: system calls that change something.
//
// Any thread. A thread that is inside does not enter again.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace fuse4fs::iomap_model {

class FreezeGate {
 public:
  // Waits while it is closed.
  class [[nodiscard]] Writer {
   public:
    explicit Writer(FreezeGate& gate) : gate_(gate) {
      std::unique_lock lock(gate_.mutex_);
      gate_.changed_.wait(lock, [&] { return !gate_.closed_; });
      ++gate_.inside_;
    }
    ~Writer() {
      const std::lock_guard lock(gate_.mutex_);
      --gate_.inside_;
      gate_.changed_.notify_all();
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

   private:
    FreezeGate& gate_;
  };

  // Nobody is inside when it returns, until open().
  void close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    changed_.wait(lock, [&] { return inside_ == 0; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    closed_ = false;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool closed_ = false;
  std::size_t inside_ = 0;
};

}  // namespace fuse4fs::iomap_model
