// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/block_owners.h"

#include <exception>
#include <iterator>
#include <map>

namespace fuse4fs::ext4 {
namespace {

// What libext2fs calls for each block.
class Walk {
 public:
  Walk(std::uint64_t cluster, std::uint64_t& budget, const std::function<void(BlockRun)>& found)
      : cluster_(cluster), budget_(budget), found_(found) {}

  static int visit(ext2_filsys, blk64_t* block, e2_blkcnt_t, blk64_t, int, void* data) {
    auto& walk = *static_cast<Walk*>(data);
    // Nothing may be thrown through it.
    try {
      return walk.add(*block) ? 0 : BLOCK_ABORT;
    } catch (...) {
      walk.thrown_ = std::current_exception();
      return BLOCK_ABORT;
    }
  }
  void finish() {
    if (thrown_) std::rethrow_exception(thrown_);
    if (run_.count != 0) found_(run_);
  }
  [[nodiscard]] bool exhausted() const { return exhausted_; }

 private:
  bool add(std::uint64_t block) {
    if (budget_ == 0) exhausted_ = true;
    if (exhausted_) return false;
    --budget_;
    const std::uint64_t first = block & ~(cluster_ - 1);
    const std::uint64_t end = run_.first + run_.count;
    if (run_.count != 0 && first + cluster_ == end) return true;
    if (run_.count != 0 && first == end) {
      run_.count += cluster_;
      return true;
    }
    if (run_.count != 0) found_(run_);
    run_ = {first, cluster_};
    return true;
  }

  const std::uint64_t cluster_;
  std::uint64_t& budget_;
  const std::function<void(BlockRun)>& found_;
  BlockRun run_;
  bool exhausted_ = false;
  std::exception_ptr thrown_;
};

class Owners {
 public:
  Owners(Metadata& metadata, const SharedBlocks& suspects)
      : metadata_(metadata), volume_(metadata.volume), suspects_(suspects), budget_(volume_.blocks()) {}

  Result<std::optional<std::uint64_t>> first_shared(const OwnerProgress& progress) {
    auto* const fs = volume_.fs();
    const std::uint32_t last = fs->super->s_inodes_count;
    const bool journal_is_own = fs->super->s_journal_inum < EXT2_FIRST_INODE(fs->super);
    for (InodeNumber next = 1; !shared_;) {
      ASSIGN_OR_RETURN(const InodeNumber number, volume_.inode_bitmaps().next_in_use(next));
      if (number == 0) break;
      next = number + 1;
      // Its blocks are the volume's own structures, which no suspect is among.
      const bool is_journal = journal_is_own && number == fs->super->s_journal_inum;
      if (!is_journal) RETURN_IF_ERROR(look_at(number));
      if (progress) progress(number, last);
    }
    return shared_;
  }

 private:
  Result<void> look_at(InodeNumber number) {
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read_raw(number));
    if (const auto block = inode.xattr_block(); block != 0) add({block, 1});
    if (!inode.has_blocks_map()) return {};
    // That one has the volume's own blocks, in an indirect map, which ends by itself.
    if (number != EXT2_RESIZE_INO) RETURN_IF_ERROR(metadata_.extents.check(inode));
    return visit_blocks(volume_, inode, budget_, [this](BlockRun run) { add(run); });
  }

  void add(BlockRun run) {
    for (const auto& [first, count] : suspects_.inside(run)) {
      const std::uint64_t end = first + count;
      auto next = owned_.lower_bound(first);
      if (next != owned_.end() && next->first < end) shared_ = next->first;
      const bool has_before = next != owned_.begin();
      if (has_before && std::prev(next)->second > first) shared_ = first;
      if (shared_) return;
      if (has_before && std::prev(next)->second == first)
        std::prev(next)->second = end;
      else
        owned_.emplace_hint(next, first, end);
    }
  }

  Metadata& metadata_;
  Volume& volume_;
  const SharedBlocks& suspects_;
  std::uint64_t budget_;
  std::map<std::uint64_t, std::uint64_t> owned_;  // first block, and the one behind the last; apart
  std::optional<std::uint64_t> shared_;
};

}  // namespace

Result<void> visit_blocks(Volume& volume, const Inode& inode, std::uint64_t& budget,
                          const std::function<void(BlockRun)>& found) {
  Walk walk(volume.cluster_blocks(), budget, found);
  const errcode_t code =
      ext2fs_block_iterate3(volume.fs(), inode.number, BLOCK_FLAG_READ_ONLY, nullptr, Walk::visit, &walk);
  walk.finish();
  RETURN_IF_ERROR(volume.check(code, inode.number, "looking for blocks"));
  if (walk.exhausted())
    return fail(volume.corrupted(inode.number, 0, "files have more blocks than there are"));
  return {};
}

Result<std::optional<std::uint64_t>> first_shared_block(Metadata& metadata, const SharedBlocks& suspects,
                                                        const OwnerProgress& progress) {
  return Owners(metadata, suspects).first_shared(progress);
}

}  // namespace fuse4fs::ext4
