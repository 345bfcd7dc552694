// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/live_inodes.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>

namespace fuse4fs::ext4 {

bool LiveInodes::Held::is_unlinked() const { return (live_->state & kUnlinked) != 0; }

bool LiveInodes::Held::has_lookups() const { return (live_->state & kLookUps) != 0; }

LiveInodes::Shared::~Shared() {
  if (live_ == nullptr) return;
  live_->mutex.unlock_shared();
  table_->let_go(*live_);
}

LiveInodes::Exclusive::~Exclusive() {
  if (live_ == nullptr) return;
  live_->mutex.unlock();
  table_->let_go(*live_);
}

void LiveInodes::Exclusive::count() const { ++live_->state; }

void LiveInodes::Exclusive::unlink() const { live_->state |= kUnlinked; }

void LiveInodes::Exclusive::clear_unlinked() const { live_->state &= ~kUnlinked; }

bool LiveInodes::Exclusive::claim_deletion() const {
  std::uint64_t state = live_->state;
  do {
    if ((state & kUnlinked) == 0 || (state & kLookUps) != 0) return false;
  } while (!live_->state.compare_exchange_weak(state, state & ~kUnlinked));
  return true;
}

LiveInodes::Live& LiveInodes::find(InodeNumber number, std::uint64_t reason) {
  auto shard = shard_of(number).lock();
  Live& live = shard->try_emplace(number, number).first->second;
  live.state += reason;
  return live;
}

void LiveInodes::let_go(Live& live) {
  const InodeNumber number = live.mutex.key();
  // From here on it may be gone: somebody else may have found it, let it go as well, and erased it.
  if (live.state.fetch_sub(kHolder) != kHolder) return;
  auto shard = shard_of(number).lock();
  if (const auto found = shard->find(number); found != shard->end() && found->second.state == 0)
    shard->erase(found);
}

LiveInodes::Shared LiveInodes::lock_shared(InodeNumber number) {
  Live& live = find(number, kHolder);
  live.mutex.lock_shared();
  return {*this, live};
}

LiveInodes::Exclusive LiveInodes::lock(InodeNumber number) {
  Live& live = find(number, kHolder);
  live.mutex.lock();
  return {*this, live};
}

std::optional<LiveInodes::Exclusive> LiveInodes::try_lock(InodeNumber number) {
  Live& live = find(number, kHolder);
  if (live.mutex.try_lock()) return Exclusive(*this, live);
  let_go(live);
  return std::nullopt;
}

LiveInodes::Counted LiveInodes::count(InodeNumber number) { return {*this, find(number, 1)}; }

LiveInodes::Shared LiveInodes::Counted::lock_shared() const {
  live_->state += kHolder;
  live_->mutex.lock_shared();
  return {*table_, *live_};
}

bool LiveInodes::forget(InodeNumber number, std::uint64_t count) {
  auto shard = shard_of(number).lock();
  const auto found = shard->find(number);
  if (found == shard->end()) return false;
  auto& state = found->second.state;
  std::uint64_t before = state;
  std::uint64_t after = 0;
  do {
    after = before - std::min(before & kLookUps, count);
  } while (!state.compare_exchange_weak(before, after));
  if (after == 0) shard->erase(found);
  return (after & kUnlinked) != 0 && (after & kLookUps) == 0;
}

std::vector<InodeNumber> LiveInodes::unlinked() {
  std::vector<InodeNumber> numbers;
  for (Shard& shard : shards_) {
    auto locked = shard.lock();
    for (const auto& [number, live] : *locked) {
      if ((live.state & kUnlinked) != 0) numbers.push_back(number);
    }
  }
  return numbers;
}

std::size_t LiveInodes::size() {
  std::size_t size = 0;
  for (Shard& shard : shards_) size += shard.lock()->size();
  return size;
}

void LiveInodes::ExclusiveSet::add(Exclusive lock) {
  if (count_ == kMost) std::abort();
  locks_[count_++].emplace(std::move(lock));
}

void LiveInodes::ExclusiveSet::lock(InodeNumber number) { add(table_.lock(number)); }

void LiveInodes::ExclusiveSet::lock_all(std::initializer_list<InodeNumber> numbers) {
  std::array<InodeNumber, kMost> sorted{};
  if (count_ != 0 || numbers.size() > kMost) std::abort();
  const auto end = std::copy(numbers.begin(), numbers.end(), sorted.begin());
  std::sort(sorted.begin(), end);
  InodeNumber last = 0;
  for (auto number = sorted.begin(); number != end; ++number) {
    if (*number != last) lock(*number);
    last = *number;
  }
}

bool LiveInodes::ExclusiveSet::try_lock(InodeNumber number) {
  auto got = table_.try_lock(number);
  if (!got) return false;
  add(*std::move(got));
  return true;
}

bool LiveInodes::ExclusiveSet::has(InodeNumber number) const {
  return std::any_of(locks_.begin(), locks_.begin() + static_cast<std::ptrdiff_t>(count_),
                     [&](const auto& lock) { return lock->number() == number; });
}

const LiveInodes::Exclusive& LiveInodes::ExclusiveSet::operator[](InodeNumber number) const {
  for (std::size_t i = 0; i < count_; ++i) {
    if (locks_[i]->number() == number) return *locks_[i];
  }
  std::abort();
}

void LiveInodes::ExclusiveSet::clear() {
  while (count_ != 0) locks_[--count_].reset();
}

}  // namespace fuse4fs::ext4
