// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/fast_commit_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/quoted.h"
#include "server/ext4/credits.h"
#include "server/ext4/fast_commit_judge.h"
#include "server/ext4/inode_image.h"
#include "server/ext4/orphan_list.h"
#include "server/ext4/replayed_blocks.h"

namespace fuse4fs::ext4 {
namespace {

class Replay {
 public:
  Replay(Metadata& metadata, std::span<const FastCommitRecord> records, const FastCommitProgress& progress)
      : metadata_(metadata),
        volume_(metadata.volume),
        records_(records),
        progress_(progress),
        blocks_(metadata) {}

  Result<void> run();
  [[nodiscard]] const FastCommitSummary& summary() const { return summary_; }
  // What is wrong with the records; empty if something else is.
  [[nodiscard]] const std::string& words() const { return words_.empty() ? blocks_.words() : words_; }

 private:
  // What is known of an inode that a record named. Names are counted by what really changed.
  struct Touched {
    bool fresh = false;      // not there before
    bool checked = false;    // its map was
    bool uncertain = false;  // a change of its names had been made already
    std::int64_t links = 0;  // before
    std::int64_t names = 0;  // more, or fewer
    std::int64_t names_since_image = 0;
    std::int64_t subdirectories = 0;
    const InodeImage* image = nullptr;  // the last one
  };

  std::unexpected<Errno> wrong(InodeNumber inode, std::string_view words);
  void tell(std::string_view doing, std::uint64_t done, std::uint64_t all) const {
    if (progress_) progress_(doing, done, all);
  }
  void note_images();
  Result<void> note_orphans();
  Result<void> note_unborn();
  Result<void> mark_owned();

  [[nodiscard]] bool in_use(InodeNumber number) const {
    return metadata_.inode_allocator.in_use(number) && !unborn_.contains(number);
  }
  [[nodiscard]] const InodeImage* image_behind(InodeNumber number);
  Result<Touched*> touch(InodeNumber number);
  [[nodiscard]] static bool is_alive(const Touched& touched, const Inode& inode);
  Result<bool> bring(InodeNumber number);
  Result<void> check_map(Touched& touched, const Inode& inode);
  Result<void> release(Inode& inode);

  Result<bool> keep_for(const InodeImage& image);
  Result<void> apply(const CommitEnd&) { return {}; }
  Result<void> apply(const InodeImage& image);
  Result<void> apply(const NameChange& change);
  template <class Range>
    requires requires(const Range& range) { range.logical; }
  Result<void> apply(const Range& range);
  Result<void> change(Inode& inode, const AddRange& range);
  Result<void> change(Inode& inode, const DeleteRange& range);
  Result<void> map_here(Inode& inode, const Mapping& part);

  Result<void> link(const NameChange& change, Inode& parent);
  Result<void> unlink(const NameChange& change, Inode& parent);
  static void count_name(Touched& touched, std::int64_t more) {
    touched.names += more;
    touched.names_since_image += more;
  }
  Result<void> drop_name(InodeNumber number);

  Result<void> settle(InodeNumber number, Touched& touched);
  Result<std::uint16_t> links_of(const Touched& touched, const Inode& inode);
  Result<void> cut_behind_end(Inode& inode);
  Result<void> restore_orphans();

  Metadata& metadata_;
  Volume& volume_;
  std::span<const FastCommitRecord> records_;
  const FastCommitProgress& progress_;
  std::size_t at_ = 0;  // the record that is being applied
  std::map<InodeNumber, std::vector<std::size_t>> images_;
  std::vector<std::size_t> ends_;  // of commits
  std::map<InodeNumber, Touched> touched_;
  OrphanChain chain_;
  std::unordered_set<InodeNumber> in_orphan_file_;
  std::unordered_set<InodeNumber> unborn_;  // in use by the bitmap alone; until their images come
  std::vector<InodeNumber> nameless_;
  ReplayedBlocks blocks_;
  FastCommitSummary summary_;
  std::string words_;
};

std::unexpected<Errno> Replay::wrong(InodeNumber inode, std::string_view words) {
  words_ =
      fmt::format("the journal's fast commits are damaged: inode {} {}; try: e2fsck DEVICE", inode, words);
  return fail(kCorrupted);
}

Result<void> Replay::run() {
  note_images();
  RETURN_IF_ERROR(note_orphans());
  RETURN_IF_ERROR(note_unborn());
  RETURN_IF_ERROR(mark_owned());
  for (const auto& record : records_) {
    if (const auto* const range = std::get_if<AddRange>(&record))
      RETURN_IF_ERROR(blocks_.reserve({range->physical, range->count}));
  }
  for (at_ = 0; at_ < records_.size(); ++at_) {
    RETURN_IF_ERROR(std::visit([this](const auto& record) { return apply(record); }, records_[at_]));
    ++summary_.records;
    tell("replaying the fast commits", summary_.records, records_.size());
  }
  std::uint64_t settled = 0;
  for (auto& [number, touched] : touched_) {
    RETURN_IF_ERROR(settle(number, touched));
    tell("settling the files of the fast commits", ++settled, touched_.size());
  }
  summary_.inodes = touched_.size();
  summary_.orphans = nameless_.size();
  RETURN_IF_ERROR(restore_orphans());
  std::vector<InodeNumber> orphans = nameless_;
  orphans.insert(orphans.end(), chain_.members.begin(), chain_.members.end());
  orphans.insert(orphans.end(), in_orphan_file_.begin(), in_orphan_file_.end());
  return blocks_.settle(orphans, progress_);
}

void Replay::note_images() {
  for (std::size_t i = 0; i < records_.size(); ++i) {
    if (const auto* const image = std::get_if<InodeImage>(&records_[i])) images_[image->inode].push_back(i);
    if (std::holds_alternative<CommitEnd>(records_[i])) ends_.push_back(i);
  }
}

// Before an image can change what the chain goes through.
Result<void> Replay::note_orphans() {
  ASSIGN_OR_RETURN(chain_, read_orphan_chain(metadata_));
  auto file = OrphanFile::open(metadata_);
  for (std::size_t i = 0; file && *file && i < (*file)->blocks(); ++i) {
    // What is wrong with the file is told when its entries are processed.
    const auto numbers = (*file)->read(i);
    if (!numbers) break;
    in_orphan_file_.insert(numbers->begin(), numbers->end());
  }
  return {};
}

// A replay before this one may have been cut short with the bitmaps written and the inodes not: then a number
// is in use, and in its place is what a former owner left behind, or nothing.
Result<void> Replay::note_unborn() {
  const std::unordered_set<InodeNumber> chain(chain_.members.begin(), chain_.members.end());
  for (const auto& [number, images] : images_) {
    if (!metadata_.inode_allocator.in_use(number)) continue;
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read_raw(number));
    // An orphan still has its blocks. The lists may have been written as well, but never named one without a
    // type.
    const bool listed = chain.contains(number) || in_orphan_file_.contains(number);
    if (listed && (inode.mode() & S_IFMT) != 0) continue;
    const auto first = fields_of(std::get<InodeImage>(records_[images.front()]));
    const bool same =
        (inode.mode() & S_IFMT) == (first.i_mode & S_IFMT) && inode.raw.i_generation == first.i_generation;
    if (inode.raw.i_links_count == 0 && !same) unborn_.insert(number);
  }
  return {};
}

// A replay before this one may have been cut short with the inodes written and the bitmaps not: what their
// maps hold, trees included, is theirs before anything is given to anybody.
Result<void> Replay::mark_owned() {
  std::set<InodeNumber> numbers;
  for (const auto& record : records_) {
    if (const auto* const change = std::get_if<NameChange>(&record)) {
      numbers.insert({change->parent, change->inode});
    } else if (const auto* const image = std::get_if<InodeImage>(&record)) {
      numbers.insert(image->inode);
    } else if (const auto* const added = std::get_if<AddRange>(&record)) {
      numbers.insert(added->inode);
    } else if (const auto* const deleted = std::get_if<DeleteRange>(&record)) {
      numbers.insert(deleted->inode);
    }
  }
  std::uint64_t marked = 0;
  for (const InodeNumber number : numbers) {
    if (in_use(number)) RETURN_IF_ERROR(blocks_.mark_owned(number));
    tell("looking at the files of the fast commits", ++marked, numbers.size());
  }
  return {};
}

// The next image of the inode in the commit of the current record.
const InodeImage* Replay::image_behind(InodeNumber number) {
  const auto of_inode = images_.find(number);
  if (of_inode == images_.end()) return nullptr;
  const auto next = std::upper_bound(of_inode->second.begin(), of_inode->second.end(), at_);
  const auto end = std::lower_bound(ends_.begin(), ends_.end(), at_);
  if (next == of_inode->second.end() || (end != ends_.end() && *next > *end)) return nullptr;
  return &std::get<InodeImage>(records_[*next]);
}

// It is in use.
Result<Replay::Touched*> Replay::touch(InodeNumber number) {
  const auto known = touched_.find(number);
  if (known != touched_.end()) return &known->second;
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read_raw(number));
  Touched touched;
  touched.links = inode.raw.i_links_count;
  return &touched_.emplace(number, touched).first->second;
}

bool Replay::is_alive(const Touched& touched, const Inode& inode) {
  if (inode.is_directory() && !touched.fresh) return touched.links != 0 && touched.names >= 0;
  return touched.links + touched.names > 0;
}

// Whether the inode is there, after its image was applied if that is what it takes.
Result<bool> Replay::bring(InodeNumber number) {
  const InodeImage* const image = image_behind(number);
  if (!in_use(number)) {
    if (image == nullptr) return false;
    RETURN_IF_ERROR(apply(*image));
    return true;
  }
  if (image == nullptr) return true;
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read_raw(number));
  ASSIGN_OR_RETURN(const Touched* touched, touch(number));
  if (!is_alive(*touched, inode) && fields_of(*image).i_generation != inode.raw.i_generation)
    RETURN_IF_ERROR(apply(*image));
  return true;
}

Result<void> Replay::check_map(Touched& touched, const Inode& inode) {
  if (touched.checked) return {};
  RETURN_IF_ERROR(metadata_.extents.check(inode));
  touched.checked = true;
  return {};
}

Result<void> Replay::release(Inode& inode) {
  const InodeNumber number = inode.number;
  ASSIGN_OR_RETURN(Touched * touched, touch(number));
  RETURN_IF_ERROR(check_map(*touched, inode));
  RETURN_IF_ERROR(metadata_.inodes.release(inode, ExtentMap::Handles::kOne));
  metadata_.directories.forget(number);
  touched_.erase(number);
  return {};
}

// Whether the image is a later state of what is there. A former owner of its number is released.
Result<bool> Replay::keep_for(const InodeImage& image) {
  const InodeNumber number = image.inode;
  if (!in_use(number)) return false;
  const ext2_inode_large raw = fields_of(image);
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_raw(number));
  ASSIGN_OR_RETURN(Touched * touched, touch(number));
  const bool same_type = (inode.mode() & S_IFMT) == (raw.i_mode & S_IFMT);
  const bool same_file = same_type && inode.raw.i_generation == raw.i_generation;
  if (!same_file && !is_alive(*touched, inode)) {
    RETURN_IF_ERROR(release(inode));
    return false;
  }
  if (!same_type) return wrong(number, "becomes another kind of file");
  // Its target would become a map, or the other way round.
  if (inode.is_symlink() && inode.raw.i_size != raw.i_size)
    return wrong(number, "is a symbolic link that changes its length");
  RETURN_IF_ERROR(check_map(*touched, inode));
  return true;
}

Result<void> Replay::apply(const InodeImage& image) {
  const InodeNumber number = image.inode;
  const ext2_inode_large raw = fields_of(image);
  // It is counted already.
  if (unborn_.erase(number) != 0) RETURN_IF_ERROR(metadata_.inode_allocator.give_back(number, raw.i_mode));
  ASSIGN_OR_RETURN(const bool there, keep_for(image));
  if (there) {
    RETURN_IF_ERROR(update_from_image(metadata_, image));
  } else {
    touched_.erase(number);
    RETURN_IF_ERROR(create_from_image(metadata_, image));
    touched_[number] = Touched{.fresh = true, .checked = true};
  }
  touched_[number].image = &image;
  touched_[number].names_since_image = 0;
  return {};
}

template <class Range>
  requires requires(const Range& range) { range.logical; }
Result<void> Replay::apply(const Range& range) {
  const InodeNumber number = inode_of(range);
  ASSIGN_OR_RETURN(const bool there, bring(number));
  if (!there) {
    ++summary_.dropped;
    return {};
  }
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_raw(number));
  ASSIGN_OR_RETURN(Touched * touched, touch(number));
  if (inode.is_directory()) return wrong(number, "changes its blocks, but is a directory");
  if (!inode.has_blocks_map()) {
    ++summary_.dropped;
    return {};
  }
  RETURN_IF_ERROR(check_map(*touched, inode));
  RETURN_IF_ERROR(change(inode, range));
  return metadata_.inodes.write(inode);
}

Result<void> Replay::change(Inode& inode, const AddRange& range) {
  if (range.logical + range.count > metadata_.extents.block_limit(inode))
    return wrong(inode.number, fmt::format("has no block {}", range.logical + range.count - 1));
  if (range.kind == Mapping::Kind::kUnwritten && !inode.has(EXT4_EXTENTS_FL))
    return wrong(inode.number, "gets unwritten blocks, and has no extents");
  if (volume_.cluster_blocks() > 1 && !inode.has(EXT4_EXTENTS_FL))
    return wrong(inode.number, "gets blocks of clusters, and has no extents");
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, range.logical, range.count));
  for (const Mapping& part : parts) {
    const Mapping wanted{part.logical, range.physical + (part.logical - range.logical), part.count,
                         range.kind};
    if (part.kind == Mapping::Kind::kHole) {
      RETURN_IF_ERROR(map_here(inode, wanted));
    } else if (part.physical != wanted.physical) {
      RETURN_IF_ERROR(metadata_.extents.remove(inode, part.logical, part.count));
      RETURN_IF_ERROR(map_here(inode, wanted));
    } else if (part.kind != wanted.kind) {
      RETURN_IF_ERROR(metadata_.extents.convert(inode, part.logical, part.count, wanted.kind));
    }
  }
  return {};
}

Result<void> Replay::change(Inode& inode, const DeleteRange& range) {
  const std::uint64_t limit = metadata_.extents.block_limit(inode);
  if (range.logical >= limit) return {};
  return metadata_.extents.remove(inode, range.logical, std::min(range.count, limit - range.logical));
}

// It is a hole. With clusters the first or last one may be the file's already.
Result<void> Replay::map_here(Inode& inode, const Mapping& part) {
  const std::uint64_t cluster = volume_.cluster_blocks();
  const std::uint64_t last = part.count - 1;
  std::uint64_t begin = part.physical & ~(cluster - 1);
  std::uint64_t end = (part.physical + part.count + cluster - 1) & ~(cluster - 1);
  if (cluster > 1) {
    ASSIGN_OR_RETURN(const std::uint64_t first_there, metadata_.extents.implied_block(inode, part.logical));
    ASSIGN_OR_RETURN(const std::uint64_t last_there,
                     metadata_.extents.implied_block(inode, part.logical + last));
    if ((first_there != 0 && first_there != part.physical) ||
        (last_there != 0 && last_there != part.physical + last))
      return wrong(inode.number, fmt::format("gets block {}, and has another cluster there", part.physical));
    if (first_there != 0) begin += cluster;
    if (last_there != 0 && begin < end) end -= cluster;
  }
  RETURN_IF_ERROR(metadata_.extents.insert(inode, part.logical, part.physical, part.count, part.kind));
  if (begin >= end) return {};
  blocks_.add_taken({begin, end - begin});
  return metadata_.extents.add_blocks(inode, (end - begin) / cluster);
}

Result<void> Replay::apply(const NameChange& change) {
  ASSIGN_OR_RETURN(const bool there, bring(change.parent));
  if (!there) {
    ++summary_.dropped;
    return {};
  }
  ASSIGN_OR_RETURN(Inode parent, metadata_.inodes.read_raw(change.parent));
  if (!parent.is_directory()) return wrong(change.parent, "gets names, but is no directory");
  ASSIGN_OR_RETURN(Touched * touched, touch(change.parent));
  if (!is_alive(*touched, parent)) {
    ++summary_.dropped;
    return {};
  }
  RETURN_IF_ERROR(check_map(*touched, parent));
  return change.what == NameChange::What::kUnlink ? unlink(change, parent) : link(change, parent);
}

Result<void> Replay::link(const NameChange& change, Inode& parent) {
  ASSIGN_OR_RETURN(const bool there, bring(change.inode));
  if (!there) {
    ++summary_.dropped;
    return {};
  }
  ASSIGN_OR_RETURN(Inode child, metadata_.inodes.read_raw(change.inode));
  ASSIGN_OR_RETURN(Touched * touched, touch(change.inode));
  ASSIGN_OR_RETURN(Touched * above, touch(change.parent));
  ASSIGN_OR_RETURN(const auto found, metadata_.directories.find(parent, change.name));
  const bool same = found == change.inode;
  if (same) touched->uncertain = true;
  if (same && child.is_directory()) above->uncertain = true;
  if (same && !touched->fresh) return {};
  if (child.is_directory()) {
    if (!touched->fresh || touched->names != 0) return wrong(change.inode, "is a directory with two names");
    RETURN_IF_ERROR(metadata_.directories.make_first_block(child, change.parent));
    RETURN_IF_ERROR(metadata_.inodes.write(child));
    ++above->subdirectories;
  }
  count_name(*touched, 1);
  if (same) return {};
  if (!found) return metadata_.directories.insert(parent, change.name, child.number, child.mode());
  // It was another file's; the record that takes it away from that was lost.
  RETURN_IF_ERROR(drop_name(*found));
  return metadata_.directories.replace(parent, change.name, child.number, child.mode());
}

Result<void> Replay::drop_name(InodeNumber number) {
  if (!metadata_.inodes.may_be_a_file(number) || !in_use(number)) return {};
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read_raw(number));
  if (inode.is_directory()) return wrong(number, "is a directory, whose name another file gets");
  ASSIGN_OR_RETURN(Touched * touched, touch(number));
  count_name(*touched, -1);
  return {};
}

Result<void> Replay::unlink(const NameChange& change, Inode& parent) {
  ASSIGN_OR_RETURN(const auto found, metadata_.directories.find(parent, change.name));
  const bool there = in_use(change.inode);
  if (found != change.inode) {
    if (there) {
      ASSIGN_OR_RETURN(Touched * touched, touch(change.inode));
      touched->uncertain = true;
    }
    ++summary_.dropped;
    return {};
  }
  if (there) {
    ASSIGN_OR_RETURN(Inode child, metadata_.inodes.read_raw(change.inode));
    ASSIGN_OR_RETURN(Touched * touched, touch(change.inode));
    if (child.is_directory()) {
      RETURN_IF_ERROR(check_map(*touched, child));
      ASSIGN_OR_RETURN(const bool empty, metadata_.directories.is_empty(child));
      if (!empty) return wrong(change.inode, "is a directory that goes with its files");
      ASSIGN_OR_RETURN(Touched * above, touch(change.parent));
      --above->subdirectories;
      metadata_.directories.forget(change.inode);
    }
    count_name(*touched, -1);
  }
  return metadata_.directories.remove(parent, change.name);
}

// The image once more, for changes of its names and blocks had an effect on its times; and what no record
// says.
Result<void> Replay::settle(InodeNumber number, Touched& touched) {
  if (touched.image != nullptr) RETURN_IF_ERROR(update_from_image(metadata_, *touched.image));
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_raw(number));
  RETURN_IF_ERROR(check_map(touched, inode));
  ASSIGN_OR_RETURN(inode.raw.i_links_count, links_of(touched, inode));
  if (inode.raw.i_links_count == 0) nameless_.push_back(number);
  RETURN_IF_ERROR(cut_behind_end(inode));
  return metadata_.inodes.write(inode);
}

Result<std::uint16_t> Replay::links_of(const Touched& touched, const Inode& inode) {
  // A replay that was cut short before this one had written the inode already, and not yet its names. An
  // image knows nothing of names that went after it: the last name of a file goes without an image.
  const bool settled = !touched.fresh && touched.image != nullptr && touched.links != 0 &&
                       touched.names_since_image == 0 &&
                       fields_of(*touched.image).i_links_count == touched.links;
  if (settled && (!inode.is_directory() || is_alive(touched, inode)))
    return static_cast<std::uint16_t>(touched.links);
  if (!is_alive(touched, inode)) return 0;
  const auto* const image = touched.uncertain && !touched.fresh ? touched.image : nullptr;
  std::int64_t links = touched.links + touched.names;
  if (inode.is_directory()) {
    links = (touched.fresh ? 2 : touched.links) + touched.subdirectories;
    // 1 stands for "more than can be counted", and stays.
    if (!touched.fresh && touched.links == 1) return 1;
    if (links > kMostLinks && ext2fs_has_feature_dir_nlink(volume_.super_pointer())) return 1;
  }
  // A replay was cut short before this one: what it had done to the number of links cannot be told.
  if (image != nullptr) links = fields_of(*image).i_links_count + touched.names_since_image;
  if (links < 1 || links > kMostLinks) return wrong(inode.number, fmt::format("has {} links", links));
  return static_cast<std::uint16_t>(links);
}

// What a truncate, or an append, had not finished. Unwritten blocks may be there (fallocate).
Result<void> Replay::cut_behind_end(Inode& inode) {
  if (!inode.is_regular() || !inode.has_blocks_map()) return {};
  const std::uint64_t size = inode.size();
  const std::uint64_t first = (size >> volume_.block_bits()) + (size % volume_.block_size() != 0 ? 1 : 0);
  const std::uint64_t limit = metadata_.extents.block_limit(inode);
  if (first >= limit) return {};
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, first, limit - first));
  for (const Mapping& part : parts) {
    if (part.kind == Mapping::Kind::kWritten)
      RETURN_IF_ERROR(metadata_.extents.remove(inode, part.logical, part.count));
  }
  return {};
}

// The chain lies in fields of the inodes, which images overwrote, and knows nothing of those without a name.
Result<void> Replay::restore_orphans() {
  OrphanChain chain;
  chain.bad = chain_.bad;
  std::unordered_set<InodeNumber> members;
  const auto add = [&](InodeNumber number) {
    if (!in_orphan_file_.contains(number) && members.insert(number).second) chain.members.push_back(number);
  };
  for (const InodeNumber number : nameless_) add(number);
  for (const InodeNumber number : chain_.members) {
    const auto touched = touched_.find(number);
    const bool another = touched != touched_.end() && touched->second.fresh;
    if (!another && in_use(number)) add(number);
  }
  if (chain.members.empty() && chain_.members.empty()) return {};
  return write_orphan_chain(metadata_, chain);
}

}  // namespace

Outcome<FastCommitSummary> replay_fast_commits(Metadata& metadata, std::span<const FastCommitRecord> records,
                                               const FastCommitProgress& progress) {
  RETURN_IF_ERROR(judge_fast_commits(metadata, records));
  // It is not logged itself: what it did is written whole, in an order of its own (Volume::write_replay()).
  const auto handle = metadata.volume.journal().start(credits::of_replay);
  Replay replay(metadata, records, progress);
  if (const auto done = replay.run(); !done)
    return fail(done.error(),
                replay.words().empty()
                    ? fmt::format("the journal's fast commits cannot be replayed: {}", done.error().message())
                    : replay.words());
  return replay.summary();
}

}  // namespace fuse4fs::ext4
