// SPDX-License-Identifier: GPL-2.0-or-later
// The metadata blocks of one volume in memory: read and verified once, changed in place, written back late
// and in large pieces.
//
// A Buffer is a counted handle of one cached block; while one is held the block stays. Its bytes are read
// through bytes() and changed through change(), whose Change holds the write-back of that block off until it
// is let go, so that no half of a change is ever written. A reader never waits for a write-back, and neither
// does a change: a block that is just being written goes on in a copy, and its next write is due.
//
// Who may touch bytes: the cache orders its own reads and writes of the device, not its users. Two users of
// the same bytes, one of whom changes them, need a lock of their own (the inode's, or that of whatever is
// shared by inodes). Users of different bytes of one block need none.
//
// Verified: get() takes the block's role, and a verifier that is called once for as long as the block stays
// in that role: on a miss, or when it was here in another one. What the verifier refuses is refused each
// time. What is changed here is trusted: its writer leaves it as its role wants it. No lock is held while a
// verifier runs, but another get() of the same block may wait for it: it must not call get() for that block.
//
// A block has one owner at a time: while somebody has it in hands as one inode's, whoever wants it as
// another's gets EUCLEAN (a freed block is forgotten first, so two inodes claim it), and who writes it as
// nothing in particular does so in a copy. So bytes that were verified hold still under their inode's lock,
// whatever the volume says.
//
// Only metadata passes here. File data goes to the device directly, so a block that changes its use must be
// forgotten when it is freed: a stale dirty copy would be written over its new owner's data.
//
// Locking: any thread. Ranks kWriteBack (one write-back at a time, held across the device's writes), above it
// kBlockCache (a shard; for moments, never across I/O or a verifier, never two). Waits: a get() for another
// thread's read of the block, forget() and get_new() for a write of it that is under way, flush() for open
// Changes. So a thread that holds a Change must not call flush(), nor forget() or get_new() of that block.
//
// Memory: Options::limit, clean and dirty together. Beyond Options::dirty_limit dirty blocks are written
// early; where that fails they stay (nothing that was promised is dropped), and the cache outgrows its limit.
// Blocks with handles are not dropped either.
//
// Errors: a read's EIO, a verifier's. A block that cannot be written stays dirty; each flush() tries again
// and says which. Offsets are in bytes, blocks are those of the volume.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "server/cache/block_device.h"
#include "server/cache/block_memory.h"
#include "server/cache/block_regions.h"

namespace fuse4fs::cache {

class BufferCache;

// What a block is to whoever asks for it. kPlain: nothing is known, nothing is verified.
enum class BlockKind : std::uint32_t {
  kPlain,
  kDirectoryLeaf,
  kDirectoryIndex,
  kInodeTable,
  kBitmap,
  kExtents,
  kXattrs,
};

// The owner is what the check depends on beside the bytes: an inode's number, or 0.
struct BlockRole {
  BlockKind kind = BlockKind::kPlain;
  std::uint32_t owner = 0;
  friend bool operator==(const BlockRole&, const BlockRole&) = default;
};

// Whether these bytes are what the role wants. Anything that can be called so; not kept behind the call.
class BlockVerifier {
 public:
  template <class Verify>
    requires(!std::is_same_v<std::remove_cvref_t<Verify>, BlockVerifier>)
  BlockVerifier(const Verify& verify)  // NOLINT(google-explicit-constructor): a lambda is one
      : context_(&verify), call_([](const void* context, std::span<const std::byte> bytes) -> Result<void> {
          return (*static_cast<const Verify*>(context))(bytes);
        }) {}
  Result<void> operator()(std::span<const std::byte> bytes) const { return call_(context_, bytes); }

 private:
  const void* context_;
  Result<void> (*call_)(const void*, std::span<const std::byte>);
};

namespace internal {
struct Frame;
using DirtyPlace = std::set<std::uint64_t>::node_type;
}  // namespace internal

// The right to change a block's bytes. The block is dirty from its end on, whatever was changed.
class Change {
 public:
  Change(Change&& other) noexcept;
  Change& operator=(Change&&) = delete;
  ~Change();
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  friend class BufferCache;
  friend class Buffer;
  Change(BufferCache& cache, internal::Frame& frame, std::span<std::byte> bytes)
      : cache_(&cache), frame_(&frame), bytes_(bytes) {}
  BufferCache* cache_;
  internal::Frame* frame_;
  std::span<std::byte> bytes_;
};

// A counted handle. Empty after a move; only what get() and get_new() gave may be asked.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { release(); }

  [[nodiscard]] std::uint64_t block() const;
  // What whoever got it said.
  [[nodiscard]] BlockRole role() const { return role_; }
  // Spans stay valid memory as long as the handle, but a change() may leave them with the old bytes: take
  // them anew after it.
  [[nodiscard]] std::span<const std::byte> bytes() const;
  // EROFS where the device takes no writes.
  Result<Change> change();
  // Whether the block is still to everybody what it was to whoever got this: then what was verified holds. A
  // damaged volume may have it in use as two things.
  [[nodiscard]] bool keeps_role() const;
  // The caller made it so, by what it changed: from now on verified as that.
  void become(BlockRole role);
  // Where a block is verified in parts: a bit for each that was found good, since it is in this role. Set by
  // who has found it so, with what keeps that part from being changed.
  [[nodiscard]] bool is_verified(unsigned part) const;
  void set_verified(unsigned part);
  static constexpr unsigned kMostParts = 64;
  // The block is kept from its home until as many unpin()s: it waits for the journal. Stays in memory.
  void pin();
  void unpin();
  void release();

 private:
  friend class BufferCache;
  Buffer(BufferCache& cache, internal::Frame& frame, BlockRole role)
      : cache_(&cache), frame_(&frame), role_(role) {}
  BufferCache* cache_ = nullptr;
  internal::Frame* frame_ = nullptr;
  BlockRole role_;
};

// Blocks that the device did not take.
struct WriteFailure {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  Errno error;
};
using WriteOutcome = std::expected<void, WriteFailure>;

// The dirty blocks as they were at one moment, to be handed to the device in an order that its owner chooses.
// They may go on changing: that is for the next one. What was not written when this goes is dirty again.
//
// One at a time, of flush() too: begin_write_back() waits. Its owner may not call flush(). Not thread-safe.
class WriteBack {
 public:
  struct Block {
    std::uint64_t block = 0;
    BlockRole role;
    std::span<const std::byte> bytes;
  };
  WriteBack(WriteBack&& other) noexcept;
  WriteBack& operator=(WriteBack&&) = delete;
  ~WriteBack();

  // In their order. What is forgotten meanwhile stays in it: see BufferCache::forget().
  [[nodiscard]] const std::vector<Block>& blocks() const { return blocks_; }
  // Indices of blocks(), ascending; each block once. Neighbours in one request. Others are tried after a
  // failure, the first one is told, and what failed is dirty again.
  WriteOutcome write(std::span<const std::size_t> which);
  // These bytes in place of the block's own, whose write is still due.
  WriteOutcome write_instead(std::size_t which, std::span<const std::byte> bytes) const;

 private:
  friend class BufferCache;
  WriteBack(BufferCache& cache, std::unique_lock<RankedMutex<std::mutex, LockRank::kWriteBack>> turn)
      : cache_(&cache), turn_(std::move(turn)) {}
  BufferCache* cache_;
  std::unique_lock<RankedMutex<std::mutex, LockRank::kWriteBack>> turn_;
  std::vector<Block> blocks_;
  std::vector<internal::Frame*> frames_;  // of each block; null once it is written
};

class BufferCache {
 public:
  struct Options {
    std::size_t limit = std::size_t{64} << 20;        // bytes, clean and dirty together
    std::size_t dirty_limit = std::size_t{32} << 20;  // bytes; half of `limit` where that is less
    std::chrono::steady_clock::duration recovery = std::chrono::minutes(1);  // after shrink()
    // What is written early, when much is dirty. kFresh: blocks of get_new() alone, to which nothing on the
    // device leads yet; the rest waits for a write-back in order, and wants_write_back() says so.
    enum class Early { kAll, kFresh };
    Early early = Early::kAll;
  };

  // `device` must outlive the cache, and the cache its handles.
  BufferCache(const BlockDevice& device, std::size_t block_size)
      : BufferCache(device, block_size, Options()) {}
  BufferCache(const BlockDevice& device, std::size_t block_size, const Options& options);
  ~BufferCache();
  BufferCache(const BufferCache&) = delete;
  BufferCache& operator=(const BufferCache&) = delete;

  // In bytes.
  [[nodiscard]] std::size_t block_size() const { return block_size_; }

  Result<Buffer> get(std::uint64_t block, BlockRole role, BlockVerifier verify);
  // Without a check, whatever it was: kPlain.
  Result<Buffer> get(std::uint64_t block);
  // A block that is to be written whole, and is not read for it: zeros, dirty, and verified as `role`.
  Result<Buffer> get_new(std::uint64_t block, BlockRole role);

  // Any byte range of the device, as kPlain: a write leaves no other role. One that changes nothing
  // is none: its blocks are no more dirty than before.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into);
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from);

  // Whether it is here, or just being read, at this moment.
  [[nodiscard]] bool has(std::uint64_t block) const;
  // The first of these blocks that is here, and as what. What was freed is forgotten, so a block that is here
  // is in use, whatever a bitmap says. Costs next to nothing where nothing near is here.
  struct Cached {
    std::uint64_t block = 0;
    BlockRole role;
  };
  [[nodiscard]] std::optional<Cached> first_cached(std::uint64_t first, std::uint64_t count) const;
  // These blocks, all metadata, will be wanted: those that are not here are read now, in as few requests as
  // can be. Errors are the later get()'s.
  void read_ahead(std::uint64_t first, std::uint64_t count);

  // The blocks were freed: their copies, dirty or not, are dropped, and no flush() is writing them when this
  // returns. Those of a WriteBack are written all the same, now or later: where there are any, nobody may get
  // the blocks before it is done. Handles of them still work, for nobody.
  void forget(std::uint64_t first, std::uint64_t count);

  // Hands all dirty blocks to the device, in block order. Not to its medium: that is BlockDevice::flush().
  // Others are tried after a failure; the first one is told.
  WriteOutcome flush();

  // All dirty blocks, as they are now. Waits for open Changes, and for another write-back.
  WriteBack begin_write_back();
  // Much is dirty that could not be written early.
  [[nodiscard]] bool wants_write_back() const { return wants_write_back_; }

  // The machine is short of memory: what is clean goes, down to half of what is here, and so much is the
  // limit until Options::recovery has passed without another call. Answers the bytes that went.
  std::size_t shrink();

  // The block that the calling thread last failed to read, once; 0 if there was none since. For the words of
  // whoever learns from libext2fs only that something could not be read.
  static std::uint64_t take_unreadable();

  // Blocks that flush() would have to do with, those that are just being written among them.
  [[nodiscard]] std::size_t dirty_blocks() const { return dirty_; }
  [[nodiscard]] std::size_t cached_blocks() const { return cached_; }

 private:
  friend class Buffer;
  friend class Change;
  friend class WriteBack;
  using Frame = internal::Frame;
  struct Shard;
  struct ShardState;
  class ReadRun;
  class WriteRun;
  static constexpr std::size_t kShards = 16;

  // What a write-back does about blocks that somebody is changing, or to which something may lead.
  enum class Which { kAll, kEarly };

  // Neighbouring blocks from and to the device.
  Result<void> fetch(std::uint64_t first, std::span<const iovec> blocks) const;
  Result<void> store(std::uint64_t first, std::span<const iovec> blocks) const;

  [[nodiscard]] Shard& shard_of(std::uint64_t block) const;
  std::unique_ptr<Frame> new_frame(std::uint64_t block);
  Result<Frame*> obtain(std::uint64_t block);
  Result<Frame*> put(std::uint64_t block, std::span<const std::byte> bytes);
  Frame* insert(ShardState& state, std::unique_ptr<Frame> fresh);
  void detach(Frame& frame, ShardState& state);
  static bool is_anothers(Frame& frame, BlockRole role);
  Result<void> verify(Frame& frame, BlockRole role, const BlockVerifier& verifier);

  static internal::DirtyPlace place_of(std::uint64_t block);
  Result<Change> begin_change(Frame& frame, BlockRole role);
  void end_change(Frame& frame);
  // The change goes into a copy: the device still reads the block's memory.
  void part_from_write(Frame& frame);

  [[nodiscard]] std::size_t limit();
  void make_room(std::size_t blocks);
  void evict(std::size_t most_left);
  void write_early();
  // Under writing_.
  WriteOutcome write_back(Which which);
  void wait_for_changes(std::uint64_t block);

  const BlockDevice& device_;
  // Blocks of whole pages. A smaller one may share its page with file data, which goes through the page cache
  // in small pieces: so does it.
  const bool past_page_cache_;
  const std::size_t block_size_;
  const Options options_;
  BlockMemory memory_;
  const std::unique_ptr<Shard[]> shards_;
  BlockRegions regions_;               // of all frames
  std::atomic<std::size_t> dirty_{0};  // also those on their way to the device; each once
  std::atomic<std::size_t> cached_{0};
  // What shrink() lowered it to, in blocks, and when.
  std::atomic<std::size_t> limit_{0};
  std::atomic<std::chrono::steady_clock::time_point> shrunk_{};
  std::atomic<std::size_t> next_victim_{0};  // a shard
  RankedMutex<std::mutex, LockRank::kWriteBack> writing_;
  // An early write-back failed: the next flush() is to say so, and is not anticipated.
  std::atomic<bool> early_failed_{false};
  std::atomic<bool> wants_write_back_{false};
  // How many write-backs have begun: a block that came since the last is fresh.
  std::atomic<std::uint64_t> begun_{1};
};

}  // namespace fuse4fs::cache
