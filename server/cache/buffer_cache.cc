// SPDX-License-Identifier: GPL-2.0-or-later
// BufferCache: handles, reading, verifying, changing, forgetting. Write-back and memory:
// buffer_write_back.cc.
#include "server/cache/buffer_cache.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "server/cache/buffer_shard.h"

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kLargestRead = std::size_t{1} << 20;  // bytes
constexpr std::size_t kMostPieces = 1024;                   // of one request, as the kernel's IOV_MAX

thread_local std::uint64_t unreadable = 0;

template <class Action>
class Finally {
 public:
  explicit Finally(Action action) : action_(std::move(action)) {}
  Finally(const Finally&) = delete;
  Finally& operator=(const Finally&) = delete;
  ~Finally() { action_(); }

 private:
  Action action_;
};

}  // namespace

Change::Change(Change&& other) noexcept
    : cache_(other.cache_), frame_(std::exchange(other.frame_, nullptr)), bytes_(other.bytes_) {}

Change::~Change() {
  if (frame_ != nullptr) cache_->end_change(*frame_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : cache_(other.cache_), frame_(std::exchange(other.frame_, nullptr)), role_(other.role_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    release();
    cache_ = other.cache_;
    frame_ = std::exchange(other.frame_, nullptr);
    role_ = other.role_;
  }
  return *this;
}

void Buffer::release() {
  if (frame_ != nullptr) internal::release(*std::exchange(frame_, nullptr));
}

std::uint64_t Buffer::block() const { return frame_->block; }

std::span<const std::byte> Buffer::bytes() const {
  return {frame_->bytes.load(std::memory_order_acquire), cache_->block_size_};
}

Result<Change> Buffer::change() { return cache_->begin_change(*frame_, role_); }

bool Buffer::keeps_role() const { return frame_->role.load() == role_; }

bool Buffer::is_verified(unsigned part) const {
  return (frame_->verified_parts.load(std::memory_order_acquire) >> part & 1) != 0;
}
void Buffer::set_verified(unsigned part) {
  frame_->verified_parts.fetch_or(std::uint64_t{1} << part, std::memory_order_release);
}

void Buffer::become(BlockRole role) {
  role_ = role;
  frame_->set_role(role);
}

void Buffer::pin() {
  const auto state = cache_->shard_of(frame_->block).state.lock();
  if (++frame_->pins == 1) internal::acquire(*frame_);
}

void Buffer::unpin() {
  const auto state = cache_->shard_of(frame_->block).state.lock();
  if (--frame_->pins == 0) internal::release(*frame_);
}

BufferCache::BufferCache(const BlockDevice& device, std::size_t block_size, const Options& options)
    : device_(device),
      past_page_cache_(block_size % device.direct_alignment() == 0),
      block_size_(block_size),
      options_(options),
      memory_(block_size),
      shards_(std::make_unique<Shard[]>(kShards)) {}

BufferCache::~BufferCache() {
  for (std::size_t i = 0; i < kShards; ++i) {
    auto state = shards_[i].state.lock();
    for (const auto& [block, frame] : state->frames) internal::release(*frame);
  }
}

// Neighbours lie in one shard, so that a run of them takes few locks.
BufferCache::Shard& BufferCache::shard_of(std::uint64_t block) const {
  const std::uint64_t mixed = (block >> BlockRegions::kRunBits) * 0x9E37'79B9'7F4A'7C15U;
  return shards_[(mixed >> 32) % kShards];
}

std::unique_ptr<internal::Frame> BufferCache::new_frame(std::uint64_t block) {
  return std::make_unique<Frame>(block, memory_.take());
}

Result<Buffer> BufferCache::get(std::uint64_t block) {
  ASSIGN_OR_RETURN(Frame * frame, obtain(block));
  return Buffer(*this, *frame, {});
}

Result<Buffer> BufferCache::get(std::uint64_t block, BlockRole role, BlockVerifier verifier) {
  ASSIGN_OR_RETURN(Frame * frame, obtain(block));
  Buffer buffer(*this, *frame, role);
  RETURN_IF_ERROR(verify(*frame, role, verifier));
  return buffer;
}

Result<Buffer> BufferCache::get_new(std::uint64_t block, BlockRole role) {
  if (device_.access() != Access::kReadWrite) return fail(EROFS);
  static constexpr std::array<std::byte, 65536> kZeros{};
  ASSIGN_OR_RETURN(Frame * frame, put(block, std::span(kZeros).first(block_size_)));
  Buffer buffer(*this, *frame, {});
  buffer.become(role);
  {
    const auto state = shard_of(block).state.lock();
    frame->fresh_in = begun_;
  }
  return buffer;
}

Result<void> BufferCache::fetch(std::uint64_t first, std::span<const iovec> blocks) const {
  const std::uint64_t offset = first * block_size_;
  return past_page_cache_ ? device_.read_direct(offset, blocks) : device_.read(offset, blocks);
}

Result<void> BufferCache::store(std::uint64_t first, std::span<const iovec> blocks) const {
  const std::uint64_t offset = first * block_size_;
  return past_page_cache_ ? device_.write_direct(offset, blocks) : device_.write(offset, blocks);
}

// With a reference for the caller.
Result<internal::Frame*> BufferCache::obtain(std::uint64_t block) {
  Shard& shard = shard_of(block);
  std::unique_ptr<Frame> fresh;
  auto state = shard.state.lock();
  while (true) {
    if (Frame* const frame = state->find(block); frame != nullptr) {
      // Nobody has spans of it.
      if (frame->references == 1) frame->old_memory.clear();
      internal::acquire(*frame);
      state->touch(*frame);
      if (!frame->filling) return frame;
      shard.wait(state, [&] { return !frame->filling; });
      // A read that failed is tried anew: its error was its reader's.
      if (frame->here) return frame;
      internal::release(*frame);
      continue;
    }
    if (fresh != nullptr) break;
    state.lock().unlock();
    if (block >= device_.size() / block_size_) {
      unreadable = block;
      return fail(EIO);
    }
    make_room(1);
    fresh = new_frame(block);
    state.lock().lock();
  }
  fresh->filling = true;
  Frame* const frame = insert(*state, std::move(fresh));
  state.lock().unlock();

  Result<void> read = fail(EIO);
  {
    const Finally filled([&] {
      state.lock().lock();
      frame->filling = false;
      if (!read) detach(*frame, *state);
      shard.notify(state);
    });
    const iovec piece = piece_of(std::span(frame->memory.get(), block_size_));
    read = fetch(block, std::span(&piece, 1));
  }
  if (read) return frame;
  unreadable = block;
  internal::release(*frame);
  return fail(read.error());
}

std::uint64_t BufferCache::take_unreadable() { return std::exchange(unreadable, 0); }

Result<void> BufferCache::verify(Frame& frame, BlockRole role, const BlockVerifier& verifier) {
  if (frame.role.load() == role) return {};
  Shard& shard = shard_of(frame.block);
  auto state = shard.state.lock();
  if (frame.verifying) shard.wait(state, [&] { return !frame.verifying; });
  // Another thread has done it, perhaps while this one came for the lock.
  if (frame.role.load() == role) return {};
  if (is_anothers(frame, role)) return fail(EUCLEAN);
  frame.verifying = true;
  state.lock().unlock();
  Result<void> fine = fail(EIO);
  {
    const Finally verified([&] {
      state.lock().lock();
      frame.verifying = false;
      if (fine) frame.set_role(role);
      shard.notify(state);
    });
    fine = verifier(std::span(frame.bytes.load(std::memory_order_acquire), block_size_));
  }
  return fine;
}

// Under its shard's lock. Whether somebody else has the block in hands as another inode's: it would change
// under one of them, for each holds the lock of its own inode alone.
bool BufferCache::is_anothers(Frame& frame, BlockRole role) {
  constexpr std::uint32_t kTheCachesAndOurs = 2;
  const bool held = frame.references > kTheCachesAndOurs;
  if (!held) frame.contested = false;
  const std::uint32_t owner = frame.role.load().owner;
  return held && role.owner != 0 && (frame.contested || (owner != 0 && owner != role.owner));
}

// Out of the cache, under its shard's lock. What was to be written is not written any more.
void BufferCache::detach(Frame& frame, ShardState& state) {
  if (!frame.here) return;
  frame.here = false;
  state.frames.erase(frame.block);
  state.unlink(frame);
  regions_.remove(frame.block);
  --cached_;
  if (frame.dirty) {
    state.dirty.erase(frame.block);
    frame.dirty = false;
    // What is on its way is counted until it is there.
    if (frame.in_flight == nullptr) --dirty_;
  }
  internal::release(frame);
}

// The block with these bytes, which need no read; a reference for the caller. Dirty, unless it had them.
Result<internal::Frame*> BufferCache::put(std::uint64_t block, std::span<const std::byte> bytes) {
  if (block >= device_.size() / block_size_) return fail(EIO);
  Shard& shard = shard_of(block);
  std::unique_ptr<Frame> fresh;
  Frame* frame = nullptr;
  auto state = shard.state.lock();
  while (true) {
    frame = state->find(block);
    if (frame != nullptr) {
      internal::acquire(*frame);
      state->touch(*frame);
      shard.wait(state, [&] { return !frame->filling; });
      if (frame->here) break;
      internal::release(*frame);
    } else if (fresh != nullptr) {
      auto place = place_of(block);
      frame = insert(*state, std::move(fresh));
      frame->dirty = true;
      state->dirty.insert(std::move(place));
      ++dirty_;
      return frame;
    } else {
      state.lock().unlock();
      make_room(1);
      fresh = new_frame(block);
      std::memcpy(fresh->memory.get(), bytes.data(), block_size_);
      state.lock().lock();
    }
  }
  state.lock().unlock();
  Buffer buffer(*this, *frame, {});
  if (std::memcmp(buffer.bytes().data(), bytes.data(), block_size_) != 0) {
    ASSIGN_OR_RETURN(const Change change, buffer.change());
    std::memcpy(change.bytes().data(), bytes.data(), block_size_);
  }
  return std::exchange(buffer.frame_, nullptr);
}

// With a reference for the caller.
internal::Frame* BufferCache::insert(ShardState& state, std::unique_ptr<Frame> fresh) {
  state.frames.emplace(fresh->block, fresh.get());
  Frame* const frame = fresh.release();
  state.append(*frame);
  regions_.add(frame->block);
  ++cached_;
  internal::acquire(*frame);
  return frame;
}

internal::DirtyPlace BufferCache::place_of(std::uint64_t block) {
  std::set<std::uint64_t> one{block};
  return one.extract(one.begin());
}

Result<Change> BufferCache::begin_change(Frame& frame, BlockRole role) {
  if (device_.access() != Access::kReadWrite) return fail(EROFS);
  const auto state = shard_of(frame.block).state.lock();
  // Written as nothing in particular while an inode's user has it in hands: he keeps what he has seen.
  constexpr std::uint32_t kTheCachesAndOurs = 2;
  const bool contested =
      role.kind == BlockKind::kPlain && frame.role.load().owner != 0 && frame.references > kTheCachesAndOurs;
  if (contested) frame.contested = true;
  // Only the first can meet a write: none begins while there is another.
  if (contested || frame.in_flight == frame.memory.get()) part_from_write(frame);
  // Its place among the dirty ones is made now: the end of a change cannot fail.
  if (frame.place_when_dirty.empty()) frame.place_when_dirty = place_of(frame.block);
  ++frame.open_changes;
  if (frame.role.load() != role) frame.set_role(role);
  internal::acquire(frame);
  return Change(*this, frame, std::span(frame.memory.get(), block_size_));
}

void BufferCache::part_from_write(Frame& frame) {
  auto copy = memory_.take();
  std::memcpy(copy.get(), frame.memory.get(), block_size_);
  frame.old_memory.push_back(std::move(frame.memory));
  frame.memory = std::move(copy);
  frame.bytes.store(frame.memory.get(), std::memory_order_release);
}

void BufferCache::end_change(Frame& frame) {
  Shard& shard = shard_of(frame.block);
  {
    auto state = shard.state.lock();
    --frame.open_changes;
    if (frame.here && !frame.dirty) {
      frame.dirty = true;
      state->dirty.insert(std::move(frame.place_when_dirty));
      if (frame.in_flight == nullptr) ++dirty_;
    }
    shard.notify(state);
  }
  internal::release(frame);
}

void BufferCache::forget(std::uint64_t first, std::uint64_t count) {
  std::vector<Frame*> found;
  const auto drop = [&](Shard& shard, Shard::Locked& state) {
    for (Frame* const frame : found) {
      shard.wait(state, [&] { return frame->in_flight == nullptr || frame->queued; });
      detach(*frame, *state);
      internal::release(*frame);
    }
    found.clear();
  };
  // A long range is usually file data, of which nothing is here: do not look for each block of it.
  const std::uint64_t end = first + count;
  for (std::uint64_t block = regions_.next(first, end); block < end; block = regions_.next(block, end)) {
    Shard& shard = shard_of(block);
    auto state = shard.state.lock();
    for (const std::uint64_t behind = std::min(end, BlockRegions::end_of_run(block)); block < behind;
         ++block) {
      Frame* const frame = state->find(block);
      if (frame == nullptr) continue;
      internal::acquire(*frame);
      found.push_back(frame);
    }
    drop(shard, state);
  }
}

Result<void> BufferCache::read(std::uint64_t offset, std::span<std::byte> into) {
  if (into.size() > block_size_)
    read_ahead(offset / block_size_, (offset % block_size_ + into.size() - 1) / block_size_ + 1);
  while (!into.empty()) {
    const std::size_t inside = offset % block_size_;
    const std::size_t length = std::min(into.size(), block_size_ - inside);
    ASSIGN_OR_RETURN(const Buffer buffer, get(offset / block_size_));
    std::memcpy(into.data(), buffer.bytes().data() + inside, length);
    into = into.subspan(length);
    offset += length;
  }
  return {};
}

Result<void> BufferCache::write(std::uint64_t offset, std::span<const std::byte> from) {
  if (device_.access() != Access::kReadWrite) return fail(EROFS);
  if (offset > device_.size() || from.size() > device_.size() - offset) return fail(EIO);
  while (!from.empty()) {
    const std::uint64_t block = offset / block_size_;
    const std::size_t inside = offset % block_size_;
    const std::size_t length = std::min(from.size(), block_size_ - inside);
    if (length == block_size_) {
      ASSIGN_OR_RETURN(Frame * frame, put(block, from.first(length)));
      internal::release(*frame);
    } else {
      ASSIGN_OR_RETURN(Buffer buffer, get(block));
      if (std::memcmp(buffer.bytes().data() + inside, from.data(), length) != 0) {
        ASSIGN_OR_RETURN(const Change change, buffer.change());
        std::memcpy(change.bytes().data() + inside, from.data(), length);
      }
    }
    from = from.subspan(length);
    offset += length;
  }
  return {};
}

// Blocks on their way from the device: as long as they are here, others wait for them.
class BufferCache::ReadRun {
 public:
  explicit ReadRun(BufferCache& cache) : cache_(cache) {}
  ReadRun(const ReadRun&) = delete;
  ReadRun& operator=(const ReadRun&) = delete;
  ~ReadRun() { finish(fail(EIO)); }

  // Takes the next block if it is not here yet.
  bool add(std::uint64_t block) {
    Shard& shard = cache_.shard_of(block);
    {
      auto state = shard.state.lock();
      if (state->find(block) != nullptr) return false;
    }
    auto fresh = cache_.new_frame(block);
    frames_.reserve(frames_.size() + 1);
    auto state = shard.state.lock();
    if (state->find(block) != nullptr) return false;
    fresh->filling = true;
    frames_.push_back(cache_.insert(*state, std::move(fresh)));
    return true;
  }
  void read() {
    if (frames_.empty()) return;
    std::vector<iovec> pieces;
    for (Frame* const frame : frames_)
      pieces.push_back(piece_of(std::span(frame->memory.get(), cache_.block_size_)));
    finish(cache_.fetch(frames_.front()->block, pieces));
  }
  [[nodiscard]] std::size_t size() const { return frames_.size(); }

 private:
  void finish(const Result<void>& outcome) {
    for (Frame* const frame : frames_) {
      Shard& shard = cache_.shard_of(frame->block);
      {
        auto state = shard.state.lock();
        frame->filling = false;
        if (!outcome) cache_.detach(*frame, *state);
        shard.notify(state);
      }
      internal::release(*frame);
    }
    frames_.clear();
  }

  BufferCache& cache_;
  std::vector<Frame*> frames_;
};

bool BufferCache::has(std::uint64_t block) const {
  auto state = shard_of(block).state.lock();
  return state->find(block) != nullptr;
}

std::optional<BufferCache::Cached> BufferCache::first_cached(std::uint64_t first, std::uint64_t count) const {
  const std::uint64_t end = first + count;
  for (std::uint64_t block = regions_.next(first, end); block < end; block = regions_.next(block, end)) {
    auto state = shard_of(block).state.lock();
    for (const std::uint64_t behind = std::min(end, BlockRegions::end_of_run(block)); block < behind;
         ++block) {
      if (const Frame* const frame = state->find(block); frame != nullptr)
        return Cached{block, frame->role.load()};
    }
  }
  return std::nullopt;
}

// What is missing of these, a run of neighbours in one request.
void BufferCache::read_ahead(std::uint64_t first, std::uint64_t count) {
  const std::uint64_t blocks = device_.size() / block_size_;
  if (first >= blocks) return;
  // More would push each other out.
  count = std::min({count, blocks - first, static_cast<std::uint64_t>(limit() / 4)});
  make_room(count);
  const std::size_t most = std::min(std::max<std::size_t>(kLargestRead / block_size_, 1), kMostPieces);
  ReadRun run(*this);
  for (std::uint64_t block = first; block - first < count; ++block) {
    if (!run.add(block) || run.size() == most) run.read();
  }
  run.read();
}

}  // namespace fuse4fs::cache
