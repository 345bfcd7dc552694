// SPDX-License-Identifier: GPL-2.0-or-later
// The fixed set of threads that serve. They start before the sandbox closes (its filter knows no clone) and
// then wait for their work.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace fuse4fs::fuse {

class WorkerPool {
 public:
  using Work = std::function<void(std::size_t worker)>;

  explicit WorkerPool(std::size_t workers);
  // Ends the threads that were never given work, joins all.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Every thread runs `work` once. To be called at most once.
  void start(Work work);
  [[nodiscard]] std::size_t size() const { return threads_.size(); }

 private:
  void run(std::size_t worker);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool released_ = false;  // guarded by mutex_
  Work work_;              // set before released_, constant afterwards
  std::vector<std::jthread> threads_;
};

}  // namespace fuse4fs::fuse
