// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/handle.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace fuse4fs::journal {
namespace {

// What the calling thread has begun. Apart from what is hardly used and wants a destructor, so that it costs
// no more than a pointer.
struct Begun {
  const Journal* handle_of = nullptr;
  const Journal* pause_of = nullptr;
  Credits granted;
  // Blocks that were changed under the handle, each once. Most handles change a few.
  std::array<std::uint64_t, 16> first_blocks{};
  std::size_t blocks = 0;
};
constinit thread_local Begun begun;
constinit thread_local std::vector<std::uint64_t> more_blocks;  // sorted; where there was no room any more

// Whether it is not there yet. Out of the way of those handles that change a few.
[[gnu::noinline]] bool note_one_more(std::uint64_t block) {
  auto& more = more_blocks;
  if (begun.blocks == begun.first_blocks.size()) more.clear();
  const auto place = std::lower_bound(more.begin(), more.end(), block);
  if (place != more.end() && *place == block) return false;
  more.insert(place, block);
  ++begun.blocks;
  return true;
}

#ifdef NDEBUG
void must_have_handle(const Journal&, const char*, std::uint64_t) {}
void must_have_credit(std::uint64_t) {}
#else
void must_have_handle(const Journal& journal, const char* what, std::uint64_t block) {
  if (journal.has_handle()) return;
  std::fprintf(stderr, "journal: block %" PRIu64 " is %s without a handle\n", block, what);
  std::abort();
}

void must_have_credit(std::uint64_t block) {
  if (begun.blocks <= begun.granted.blocks) return;
  std::fprintf(stderr, "journal: a handle for %zu blocks changes one more, block %" PRIu64 "\n",
               begun.granted.blocks, block);
  std::abort();
}
#endif

}  // namespace

bool Journal::has_handle() const { return begun.handle_of == this; }
bool Journal::has_pause() const { return begun.pause_of == this; }
Credits Journal::granted() const { return has_handle() ? begun.granted : Credits{}; }
Credits Journal::used() const { return has_handle() ? Credits{.blocks = begun.blocks} : Credits{}; }

bool Journal::ensure(Credits wanted) {
  if (!has_handle()) return true;
  std::size_t& granted = begun.granted.blocks;
  const std::size_t least = begun.blocks + wanted.blocks;
  if (least <= granted) return true;
  if (!log_->has_room(least - granted)) return false;
  granted = least;
  return true;
}

ChangeLog::Changed Journal::count(std::uint64_t block) {
  must_have_handle(*this, "changed", block);
  Begun& mine = begun;
  if (mine.handle_of != this) return ChangeLog::Changed::kFirst;
  auto& first = mine.first_blocks;
  const std::size_t known = std::min(mine.blocks, first.size());
#pragma GCC unroll 1
  for (std::size_t i = 0; i < known; ++i) {
    if (first[i] == block) return ChangeLog::Changed::kAgain;
  }
  if (known < first.size())
    first[mine.blocks++] = block;
  else if (!note_one_more(block))
    return ChangeLog::Changed::kAgain;
  must_have_credit(block);
  return ChangeLog::Changed::kFirst;
}

void Journal::revoke(std::uint64_t first, std::uint64_t count) {
  must_have_handle(*this, "revoked", first);
  log_->revoke(first, count);
}

void Journal::forget(std::uint64_t first, std::uint64_t count) {
  must_have_handle(*this, "freed", first);
  log_->forget(first, count);
}

Handle Journal::start(Credits credits) {
  begin_handle(credits);
  return Handle(*this);
}

void Journal::begin_handle(Credits credits) {
  fuse4fs::internal::note_lock_taken(LockRank::kHandle);
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return pausing_ == 0; });
    ++open_;
  }
  begun.handle_of = this;
  begun.granted = credits;
  begun.blocks = 0;
}

void internal::end_handle(Journal& journal) {
  begun.handle_of = nullptr;
  {
    const std::lock_guard lock(journal.mutex_);
    --journal.open_;
    if (journal.open_ == 0 && journal.pausing_ != 0) journal.changed_.notify_all();
  }
  fuse4fs::internal::note_lock_released(LockRank::kHandle);
}

Journal::Pause Journal::pause() {
  fuse4fs::internal::note_lock_taken(LockRank::kHandle);
  std::unique_lock lock(mutex_);
  ++pausing_;
  changed_.wait(lock, [&] { return open_ == 0 && !paused_; });
  paused_ = true;
  begun.pause_of = this;
  return Pause(*this);
}

void internal::end_pause(Journal& journal) {
  begun.pause_of = nullptr;
  {
    const std::lock_guard lock(journal.mutex_);
    journal.paused_ = false;
    --journal.pausing_;
    journal.changed_.notify_all();
  }
  fuse4fs::internal::note_lock_released(LockRank::kHandle);
}

}  // namespace fuse4fs::journal
