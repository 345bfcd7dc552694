// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/worker_pool.h"

#include <utility>

namespace fuse4fs::fuse {

WorkerPool::WorkerPool(std::size_t workers) {
  threads_.reserve(workers);
  for (std::size_t worker = 0; worker < workers; ++worker)
    threads_.emplace_back([this, worker] { run(worker); });
}

WorkerPool::~WorkerPool() { start({}); }

void WorkerPool::start(Work work) {
  {
    const std::lock_guard lock(mutex_);
    if (released_) return;
    work_ = std::move(work);
    released_ = true;
  }
  changed_.notify_all();
}

void WorkerPool::run(std::size_t worker) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return released_; });
  }
  if (work_) work_(worker);
}

}  // namespace fuse4fs::fuse
