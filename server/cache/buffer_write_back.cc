// SPDX-License-Identifier: GPL-2.0-or-later
// BufferCache: what goes to the device, and what goes out of memory.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <mutex>

#include "server/cache/buffer_shard.h"

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kLargestWrite = std::size_t{1} << 20;  // bytes
constexpr std::size_t kLeastLimit = 16;                      // blocks
constexpr std::size_t kMostPieces = 1024;                    // of one request, as the kernel's IOV_MAX
// So much is kept under any pressure, in bytes: the directories and inode tables of what is just being done.
constexpr std::size_t kLeastUnderPressure = std::size_t{4} << 20;

}  // namespace

WriteOutcome BufferCache::flush() {
  const std::lock_guard turn(writing_);
  early_failed_ = false;
  wants_write_back_ = false;
  return write_back(Which::kAll);
}

void BufferCache::write_early() {
  if (options_.early == Options::Early::kFresh) wants_write_back_ = true;
  if (early_failed_) return;
  const std::unique_lock turn(writing_, std::try_to_lock);
  // Somebody is at it.
  if (!turn.owns_lock()) return;
  if (!write_back(Which::kEarly)) early_failed_ = true;
}

// Neighbouring blocks on their way to the device.
class BufferCache::WriteRun {
 public:
  enum class Taken { kYes, kNoNeed, kBeingChanged };

  // All that are dirty, in their order.
  static std::vector<std::uint64_t> dirty_blocks_of(BufferCache& cache) {
    std::vector<std::uint64_t> blocks;
    for (std::size_t i = 0; i < kShards; ++i) {
      auto state = cache.shards_[i].state.lock();
      blocks.insert(blocks.end(), state->dirty.begin(), state->dirty.end());
    }
    std::sort(blocks.begin(), blocks.end());
    return blocks;
  }
  // Out of the dirty ones. Its place among them is kept: to put it back cannot fail.
  static void take_from_dirty(Frame& frame, ShardState& state) {
    frame.dirty = false;
    frame.place_when_dirty = state.dirty.extract(frame.block);
  }
  // Lets go of one that was on its way.
  static void finish(BufferCache& cache, Frame& frame, const Result<void>& written) {
    Shard& shard = cache.shard_of(frame.block);
    {
      auto state = shard.state.lock();
      frame.in_flight = nullptr;
      frame.queued = false;
      constexpr std::uint32_t kOursAndTheCaches = 2;
      if (frame.references == kOursAndTheCaches) frame.old_memory.clear();
      if (!written && !frame.dirty && frame.here) {
        frame.dirty = true;
        state->dirty.insert(std::move(frame.place_when_dirty));
      }
      if (!frame.dirty) --cache.dirty_;
      shard.notify(state);
    }
    internal::release(frame);
  }

  explicit WriteRun(BufferCache& cache) : cache_(cache) {}
  WriteRun(const WriteRun&) = delete;
  WriteRun& operator=(const WriteRun&) = delete;
  ~WriteRun() { finish_all(fail(EIO)); }

  [[nodiscard]] bool continues_with(std::uint64_t block) const {
    return !frames_.empty() && frames_.back()->block + 1 == block && frames_.size() < most_;
  }

  // `fresh`: unless 0, only if it is.
  Taken add(std::uint64_t block, std::uint64_t fresh) {
    auto state = cache_.shard_of(block).state.lock();
    Frame* const frame = state->find(block);
    if (frame == nullptr || !frame->dirty || frame->pins != 0) return Taken::kNoNeed;
    if (fresh != 0 && frame->fresh_in != fresh) return Taken::kNoNeed;
    if (frame->open_changes != 0) return Taken::kBeingChanged;
    frames_.push_back(frame);
    internal::acquire(*frame);
    frame->in_flight = frame->memory.get();
    take_from_dirty(*frame, *state);
    return Taken::kYes;
  }

  // One of a WriteBack, which has the reference.
  void take(Frame& frame) {
    frames_.push_back(&frame);
    const auto state = cache_.shard_of(frame.block).state.lock();
    frame.queued = false;
  }

  void write() {
    if (frames_.empty()) return;
    std::vector<iovec> pieces;
    for (const Frame* const frame : frames_)
      pieces.push_back(piece_of(std::span(frame->in_flight, cache_.block_size_)));
    const auto written = cache_.store(frames_.front()->block, pieces);
    if (written || frames_.size() == 1) return finish_all(written);
    // Not all of them together: those that can get there do, and it is known which do not.
    for (const iovec& piece : pieces) {
      finish_first(cache_.store(frames_.front()->block, std::span(&piece, 1)));
    }
  }

  // The first failure.
  [[nodiscard]] const WriteOutcome& outcome() const { return outcome_; }

 private:
  void finish_all(const Result<void>& written) {
    while (!frames_.empty()) finish_first(written);
  }
  void finish_first(const Result<void>& written) {
    Frame& frame = *frames_.front();
    frames_.pop_front();
    const std::uint64_t block = frame.block;
    finish(cache_, frame, written);
    if (!written) note_failure(block, written.error());
  }
  void note_failure(std::uint64_t block, Errno error) {
    if (outcome_) {
      outcome_ = std::unexpected(WriteFailure{.first = block, .count = 1, .error = error});
    } else if (auto& failure = outcome_.error(); failure.first + failure.count == block) {
      ++failure.count;
    }
  }

  BufferCache& cache_;
  const std::size_t most_ =
      std::clamp<std::size_t>(kLargestWrite / cache_.block_size_, std::size_t{1}, kMostPieces);
  std::deque<Frame*> frames_;
  WriteOutcome outcome_;
};

WriteBack BufferCache::begin_write_back() {
  WriteBack all(*this, std::unique_lock(writing_));
  early_failed_ = false;
  wants_write_back_ = false;
  const auto numbers = WriteRun::dirty_blocks_of(*this);
  all.blocks_.reserve(numbers.size());
  all.frames_.reserve(numbers.size());
  for (const std::uint64_t number : numbers) {
    Shard& shard = shard_of(number);
    auto state = shard.state.lock();
    Frame* const frame = state->find(number);
    if (frame == nullptr) continue;
    internal::acquire(*frame);
    shard.wait(state, [&] { return frame->open_changes == 0; });
    if (!frame->here || !frame->dirty || frame->pins != 0) {
      internal::release(*frame);
      continue;
    }
    frame->in_flight = frame->memory.get();
    frame->queued = true;
    WriteRun::take_from_dirty(*frame, *state);
    all.blocks_.push_back({number, frame->role, std::span(frame->in_flight, block_size_)});
    all.frames_.push_back(frame);
  }
  ++begun_;
  return all;
}

WriteBack::WriteBack(WriteBack&& other) noexcept
    : cache_(other.cache_),
      turn_(std::move(other.turn_)),
      blocks_(std::move(other.blocks_)),
      frames_(std::exchange(other.frames_, {})) {}

WriteBack::~WriteBack() {
  for (internal::Frame* const frame : frames_) {
    if (frame != nullptr) BufferCache::WriteRun::finish(*cache_, *frame, fail(EIO));
  }
}

WriteOutcome WriteBack::write(std::span<const std::size_t> which) {
  BufferCache::WriteRun run(*cache_);
  for (const std::size_t index : which) {
    internal::Frame* const frame = frames_[index];
    if (!run.continues_with(frame->block)) run.write();
    run.take(*frame);
    frames_[index] = nullptr;
  }
  run.write();
  return run.outcome();
}

WriteOutcome WriteBack::write_instead(std::size_t which, std::span<const std::byte> bytes) const {
  const std::uint64_t block = blocks_[which].block;
  // In memory that the device can read.
  const BlockMemory::Piece copy = cache_->memory_.take();
  std::ranges::copy(bytes, copy.get());
  const iovec piece = piece_of(std::span(copy.get(), bytes.size()));
  const auto written = cache_->store(block, std::span(&piece, 1));
  if (!written) return std::unexpected(WriteFailure{.first = block, .count = 1, .error = written.error()});
  return {};
}

// In block order.
WriteOutcome BufferCache::write_back(Which which) {
  const bool waits = which == Which::kAll;
  const std::uint64_t fresh = !waits && options_.early == Options::Early::kFresh ? begun_.load() : 0;
  const auto blocks = WriteRun::dirty_blocks_of(*this);
  WriteRun run(*this);
  for (const std::uint64_t block : blocks) {
    if (!run.continues_with(block)) run.write();
    while (run.add(block, fresh) == WriteRun::Taken::kBeingChanged && waits) {
      // With nothing under way: whoever has the change open may be waiting for that.
      run.write();
      wait_for_changes(block);
    }
  }
  run.write();
  return run.outcome();
}

void BufferCache::wait_for_changes(std::uint64_t block) {
  Shard& shard = shard_of(block);
  auto state = shard.state.lock();
  Frame* const frame = state->find(block);
  if (frame == nullptr) return;
  internal::acquire(*frame);
  shard.wait(state, [&] { return frame->open_changes == 0; });
  internal::release(*frame);
}

// In blocks, by now.
std::size_t BufferCache::limit() {
  const auto shrunk = shrunk_.load();
  const std::size_t full = std::max(options_.limit / block_size_, kLeastLimit);
  if (shrunk == std::chrono::steady_clock::time_point()) return full;
  if (std::chrono::steady_clock::now() - shrunk < options_.recovery) return limit_;
  shrunk_ = std::chrono::steady_clock::time_point();
  return full;
}

void BufferCache::make_room(std::size_t blocks) {
  const std::size_t most = limit();
  if (dirty_ > std::min(most / 2, options_.dirty_limit / block_size_)) write_early();
  evict(most - std::min(most, blocks));
}

// What was not used for the longest time, from one shard after the other.
void BufferCache::evict(std::size_t most_left) {
  for (std::size_t tried = 0; tried < kShards && cached_ > most_left; ++tried) {
    Shard& shard = shards_[next_victim_++ % kShards];
    auto state = shard.state.lock();
    // One that is in use or dirty goes to the end, so that it is not looked at again and again.
    for (std::size_t left = state->frames.size(); left != 0 && cached_ > most_left; --left) {
      Frame& frame = *state->oldest;
      if (frame.references == 1 && !frame.dirty)
        detach(frame, *state);
      else
        state->touch(frame);
    }
  }
}

std::size_t BufferCache::shrink() {
  const std::size_t before = cached_;
  limit_ = std::max({before / 2, kLeastUnderPressure / block_size_, kLeastLimit});
  shrunk_ = std::chrono::steady_clock::now();
  write_early();
  evict(limit_);
  memory_.trim();
  ::malloc_trim(0);
  const std::size_t after = cached_;
  return before > after ? (before - after) * block_size_ : 0;
}

}  // namespace fuse4fs::cache
