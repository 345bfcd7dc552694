// SPDX-License-Identifier: GPL-2.0-or-later
// Which blocks are free: finds runs, takes them, gives them back.
//
// A group whose bitmap is damaged or cannot be read is passed over.
//
// Locking: any thread (block_bitmaps.h). A keeper is set while one thread has the volume. Errors:
// ENOSPC; where no group has room, and one was passed over, what was wrong with it, told already.
//
// The reserve (mke2fs -m) is for root and whom the superblock names. Written-back data carries no
// credentials, so it goes by who owns the file, but where a request says who asks (Inode::caller).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

class BlockAllocator {
 public:
  explicit BlockAllocator(Volume& volume) : volume_(volume) {}

  // Blocks that were freed lately are free, but not to be had yet (unreleased.h): where nothing else is left,
  // ENOSPC is answered, and Volume::has_unreleased() says that a write-back may help.

  struct Request {
    std::uint64_t goal = 0;
    std::uint64_t most = 1;  // blocks
    // Of a file that grows: so many more will be wanted behind these. They become its window, which others
    // pass over while they find anything else (reservation_windows.h).
    InodeNumber owner = 0;
    std::uint64_t ahead = 0;
    enum class Reserve { kOpen, kKept };
    Reserve reserve = Reserve::kOpen;
  };
  // A free run of at most so many blocks (whole clusters), at or behind the goal where there is one. Taken
  // already.
  Result<BlockRun> take(const Request& request);
  Result<BlockRun> take(std::uint64_t goal, std::uint64_t most) { return take({.goal = goal, .most = most}); }
  // For an inode: what it holds besides a file's data.
  Result<BlockRun> take(const Inode& inode, std::uint64_t goal, std::uint64_t most = 1) {
    return take({.goal = goal, .most = most, .reserve = reserve_for(inode)});
  }
  [[nodiscard]] Request::Reserve reserve_for(const Inode& inode) const;
  // One cluster for a node of a map, which may come from those that are kept.
  Result<BlockRun> take_for_map(std::uint64_t goal);
  // Gives whole clusters back and drops what the cache holds of them. A run that is not in use, or that a
  // file cannot own, is corruption of `owner` and is left alone.
  Result<void> give_back(BlockRun run, InodeNumber owner);

  // For replays, whose files may exchange blocks: while `keeper` is set, what is given back stays in use and
  // is handed to it instead.
  using Keeper = std::function<void(BlockRun)>;
  void keep_back(Keeper keeper) { keeper_ = std::move(keeper); }
  // Takes what is free of the run, in whole clusters, and answers it.
  Result<std::vector<BlockRun>> take_free(BlockRun run);

  [[nodiscard]] std::uint64_t free_blocks();
  // Without those that wait for their release.
  [[nodiscard]] std::uint64_t usable_blocks();
  // Of these: what take() gives an inode.
  [[nodiscard]] std::uint64_t usable_blocks(const Inode& inode);
  // Of those take() gives none: an extent tree can still split when the volume is full. As the kernel: a
  // fiftieth of the clusters, 4096 at most (Documentation/ABI/testing/ sysfs-fs-ext4, reserved_clusters).
  [[nodiscard]] std::uint64_t kept_blocks() const;
  // How often there were none to take, so far: an ENOSPC may have other causes.
  [[nodiscard]] std::uint64_t refusals() const { return refusals_.load(std::memory_order_relaxed); }
  // The root's, in whole clusters.
  [[nodiscard]] std::uint64_t reserved_blocks() const;

 private:
  Result<BlockRun> take(const Request& request, std::uint64_t kept);
  Result<BlockRun> find_and_take(const Request& request, std::uint64_t kept);
  [[nodiscard]] std::uint64_t kept_for(Request::Reserve reserve) const;
  Result<BlockRun> search(const BlockBitmaps::Search& wish);
  Result<BlockRun> search_from(std::uint64_t goal, BlockBitmaps::Search& search);
  [[nodiscard]] BlockRun whole(BlockRun run) const;

  Volume& volume_;
  Keeper keeper_;
  std::atomic<std::uint64_t> refusals_ = 0;
};

}  // namespace fuse4fs::ext4
