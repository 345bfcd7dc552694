// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/handle.h"

#include <utility>

namespace fuse4fs::journal {

Handle::Handle(Handle&& other) noexcept : journal_(std::exchange(other.journal_, nullptr)) {}

Handle::~Handle() {
  if (journal_ != nullptr) journal_->end_handle();
}

Journal::Pause::Pause(Pause&& other) noexcept : journal_(std::exchange(other.journal_, nullptr)) {}

Journal::Pause::~Pause() {
  if (journal_ != nullptr) journal_->end_pause();
}

Handle Journal::start(Credits) {
  internal::note_lock_taken(LockRank::kHandle);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return pausing_ == 0; });
  ++open_;
  return Handle(*this);
}

void Journal::end_handle() {
  {
    const std::lock_guard lock(mutex_);
    --open_;
    if (open_ == 0 && pausing_ != 0) changed_.notify_all();
  }
  internal::note_lock_released(LockRank::kHandle);
}

Journal::Pause Journal::pause() {
  internal::note_lock_taken(LockRank::kHandle);
  std::unique_lock lock(mutex_);
  ++pausing_;
  changed_.wait(lock, [&] { return open_ == 0 && !paused_; });
  paused_ = true;
  return Pause(*this);
}

void Journal::end_pause() {
  {
    const std::lock_guard lock(mutex_);
    paused_ = false;
    --pausing_;
    changed_.notify_all();
  }
  internal::note_lock_released(LockRank::kHandle);
}

}  // namespace fuse4fs::journal
