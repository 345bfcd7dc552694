// SPDX-License-Identifier: GPL-2.0-or-later
// Work in which a worker waits for other workers: the kernel is made to write its pages (write_dirty_pages),
// and those WRITEs are served meanwhile. If all workers waited so, nobody would serve them: so one at a time
// does, and works off what others bring; they go on at once.
//
// Any thread. Tasks run in the order of their coming, with no lock held; they must not throw.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <utility>

namespace fuse4fs::fuse {

class SerialQueue {
 public:
  // Before the first request.
  void set_workers(std::size_t workers) { workers_ = workers; }
  // Whether somebody is left to serve the WRITEs; without, no task may wait for them.
  [[nodiscard]] bool others_serve() const { return workers_ > 1; }

  // The task runs now, or on the thread that is at it already.
  void run(std::function<void()> task) {
    std::unique_lock lock(mutex_);
    waiting_.push_back(std::move(task));
    if (busy_) return;
    busy_ = true;
    while (!waiting_.empty()) {
      const auto next = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      next();
      lock.lock();
    }
    busy_ = false;
  }

 private:
  std::size_t workers_ = 1;
  std::mutex mutex_;
  std::deque<std::function<void()>> waiting_;  // guarded by mutex_
  bool busy_ = false;                          // guarded by mutex_: a thread is at it
};

}  // namespace fuse4fs::fuse
