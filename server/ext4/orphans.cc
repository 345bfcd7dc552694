// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/orphans.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "server/ext4/credits.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint16_t kOrphansBeingDeleted = 0x0004;  // in s_state

class Cleaner {
 public:
  Cleaner(Metadata& metadata, const OrphanProgress& progress)
      : metadata_(metadata),
        volume_(metadata.volume),
        super_(*volume_.super_pointer()),
        progress_(progress) {}

  Outcome<OrphanSummary> run() {
    if ((super_.s_state & EXT2_ERROR_FS) != 0) {
      const auto handle = volume_.journal().start(credits::of_superblock);
      if (has_orphans(super_)) summary_.left_alone = 1;
      super_.s_last_orphan = 0;
      ext2fs_mark_super_dirty(volume_.fs());
      return summary_;
    }
    ASSIGN_OR_RETURN(auto file, OrphanFile::open(metadata_));
    if (const auto done = clean_chain(); !done) return in_words(done.error());
    if (file) RETURN_IF_ERROR(clean_file(*file));
    const auto handle = volume_.journal().start(credits::of_superblock);
    super_.s_feature_ro_compat &= ~EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT;
    super_.s_state &= static_cast<std::uint16_t>(~kOrphansBeingDeleted);
    ext2fs_mark_super_dirty(volume_.fs());
    return summary_;
  }

 private:
  static std::unexpected<Failure> in_words(Errno error) {
    return fail(error,
                fmt::format("files whose deletion was cut short cannot be deleted: {}", error.message()));
  }

  // Each leaves the chain before the next is looked at, so a circle comes to an end by itself: what was
  // deleted is not in use, and what was truncated has nothing behind it.
  Result<void> clean_chain() {
    while (const InodeNumber number = super_.s_last_orphan) {
      InodeNumber next = 0;
      const auto handle = volume_.journal().start(credits::of_map);
      ASSIGN_OR_RETURN(const bool good, clean(number, next));
      super_.s_last_orphan = good ? next : 0;
      ext2fs_mark_super_dirty(volume_.fs());
    }
    return {};
  }

  Outcome<void> clean_file(OrphanFile& file) {
    for (std::size_t i = 0; i < file.blocks(); ++i) {
      ASSIGN_OR_RETURN(const auto numbers, file.read(i));
      bool any = false;
      for (const InodeNumber number : numbers) {
        if (number == 0) continue;
        any = true;
        InodeNumber unused = 0;
        const auto handle = volume_.journal().start(credits::of_map);
        if (const auto done = clean(number, unused); !done) return in_words(done.error());
      }
      if (!any) continue;
      const auto handle = volume_.journal().start(credits::of_orphan_block);
      if (const auto done = file.clear(i); !done) return in_words(done.error());
    }
    return {};
  }

  // False where it cannot be an orphan.
  Result<bool> clean(InodeNumber number, InodeNumber& next) {
    auto verdict = judge_orphan(metadata_, number);
    // What is damaged is told by now; only a device that does not answer ends it all.
    if (!verdict) {
      if (verdict.error() != kCorrupted) return std::unexpected(verdict.error());
      ++summary_.damaged;
      return false;
    }
    if (!verdict->inode) {
      ++summary_.damaged;
      std::ignore = volume_.corrupted(
          number, 0, fmt::format("the list of orphans names an inode that {}", verdict->why));
      return false;
    }
    next = verdict->next;
    Inode& inode = *verdict->inode;
    const auto done = inode.raw.i_links_count == 0 ? remove(inode) : truncate(inode);
    if (!done && done.error() != kCorrupted) return std::unexpected(done.error());
    if (!done) ++summary_.damaged;
    if (progress_) progress_(summary_);
    return done.has_value();
  }

  Result<void> remove(Inode& inode) {
    RETURN_IF_ERROR(metadata_.extents.check(inode));
    RETURN_IF_ERROR(metadata_.inodes.release(inode, ExtentMap::Handles::kSeveral));
    ++summary_.deleted;
    return {};
  }

  Result<void> truncate(Inode& inode) {
    const std::uint64_t size = inode.size();
    const std::uint32_t block_size = volume_.block_size();
    if (size / block_size > metadata_.extents.block_limit(inode))
      return fail(volume_.corrupted(inode.number, 0, "an orphan is longer than its blocks could be mapped"));
    RETURN_IF_ERROR(metadata_.extents.check(inode));
    if (inode.has_blocks_map()) {
      RETURN_IF_ERROR(clear_tail(inode, size));
      const std::uint64_t end = size / block_size + (size % block_size != 0 ? 1 : 0);
      RETURN_IF_ERROR(metadata_.extents.truncate(inode, end, ExtentMap::Handles::kSeveral));
      // As ext4: of the end of the truncate, not of its beginning.
      inode.touch();
    }
    inode.raw.i_dtime = 0;
    RETURN_IF_ERROR(metadata_.inodes.write(inode));
    ++summary_.truncated;
    return {};
  }

  // What lies behind the end in its block must not come back when the file grows.
  Result<void> clear_tail(const Inode& inode, std::uint64_t size) {
    const std::uint32_t inside = size % volume_.block_size();
    if (inside == 0 || !inode.is_regular()) return {};
    ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, size >> volume_.block_bits(), 1));
    if (parts.empty() || parts[0].kind != Mapping::Kind::kWritten) return {};
    return volume_.device().write_zeros(cache::IoPath::kPageCache,
                                        (parts[0].physical << volume_.block_bits()) + inside,
                                        volume_.block_size() - inside);
  }

  Metadata& metadata_;
  Volume& volume_;
  ext2_super_block& super_;
  const OrphanProgress& progress_;
  OrphanSummary summary_;
};

}  // namespace

Outcome<OrphanSummary> process_orphans(Metadata& metadata, const OrphanProgress& progress) {
  return Cleaner(metadata, progress).run();
}

}  // namespace fuse4fs::ext4
