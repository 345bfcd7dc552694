// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/fast_commit_judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/quoted.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint64_t kBlockLimit = (std::uint64_t{1} << 32) - 1;  // of a file

bool has_known_type(mode_t mode) {
  return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) ||
         S_ISFIFO(mode) || S_ISSOCK(mode);
}

class Judge {
 public:
  explicit Judge(const Metadata& metadata) : metadata_(metadata), volume_(metadata.volume) {}

  Outcome<void> operator()(const CommitEnd&) const { return {}; }

  Outcome<void> operator()(const AddRange& range) const {
    RETURN_IF_ERROR(number(range.inode));
    if (range.inode == kRootInode) return wrong(range.inode, "gets a range of blocks, but is a directory");
    if (range.count == 0 || range.logical + range.count > kBlockLimit)
      return wrong(range.inode, fmt::format("gets {} blocks at block {} of it", range.count, range.logical));
    if (!volume_.may_be_owned(range.physical, range.count))
      return wrong(range.inode,
                   fmt::format("gets {} blocks at {}, which no file may own", range.count, range.physical));
    const std::uint64_t inside = volume_.cluster_blocks() - 1;
    if ((range.physical & inside) != (range.logical & inside))
      return wrong(range.inode,
                   fmt::format("gets block {}, which lies wrong in its cluster", range.physical));
    if (range.kind == Mapping::Kind::kUnwritten && !volume_.has_extents())
      return wrong(range.inode, "gets unwritten blocks, on a volume without extents");
    return {};
  }

  Outcome<void> operator()(const DeleteRange& range) const {
    RETURN_IF_ERROR(number(range.inode));
    if (range.inode == kRootInode) return wrong(range.inode, "loses a range of blocks, but is a directory");
    return {};
  }

  Outcome<void> operator()(const NameChange& change) const {
    RETURN_IF_ERROR(number(change.inode));
    RETURN_IF_ERROR(number(change.parent));
    if (change.inode == kRootInode || change.inode == change.parent)
      return wrong(change.inode, "changes its name, which cannot be");
    if (change.name == "." || change.name == ".." || change.name.find('/') != std::string::npos ||
        change.name.find('\0') != std::string::npos)
      return wrong(change.inode, fmt::format("has the impossible name {}", quoted(change.name)));
    return {};
  }

  Outcome<void> operator()(const InodeImage& image) const {
    RETURN_IF_ERROR(number(image.inode));
    Inode inode;
    inode.number = image.inode;
    inode.raw = fields_of(image);
    auto* const super = volume_.super_pointer();
    if (!has_known_type(inode.mode()))
      return wrong(image.inode, fmt::format("is of no known type ({:o})", inode.mode()));
    if (image.inode == kRootInode && !inode.is_directory()) return wrong(image.inode, "is no directory");
    const std::size_t size = EXT2_INODE_SIZE(super);
    const std::size_t extra = inode.raw.i_extra_isize;
    const std::size_t known = EXT2_GOOD_OLD_INODE_SIZE + extra;
    if (extra % 4 != 0 || known > size || (image.bytes.size() != known && image.bytes.size() != size))
      return wrong(image.inode, fmt::format("has {} bytes, and says {}", image.bytes.size(), known));
    if (inode.size() >> volume_.block_bits() > metadata_.extents.block_limit(inode))
      return wrong(image.inode, "is impossibly long");
    if (inode.has(EXT4_EXTENTS_FL) && (inode.has(EXT4_INLINE_DATA_FL) || !volume_.has_extents()))
      return wrong(image.inode, "has extents where there are none");
    if (inode.has(EXT4_INLINE_DATA_FL) &&
        (!ext2fs_has_feature_inline_data(super) || image.bytes.size() != size ||
         !(inode.is_regular() || inode.is_directory() || inode.is_symlink())))
      return wrong(image.inode, "holds data in itself where it cannot");
    if (inode.has(EXT4_EA_INODE_FL | EXT4_ENCRYPT_FL))
      return wrong(image.inode, "has flags that it cannot have");
    return {};
  }

 private:
  static std::unexpected<Failure> wrong(InodeNumber inode, std::string_view words) {
    return fail(
        kCorrupted,
        fmt::format("the journal's fast commits are damaged: inode {} {}; try: e2fsck DEVICE", inode, words));
  }

  [[nodiscard]] Outcome<void> number(InodeNumber number) const {
    if (metadata_.inodes.may_be_a_file(number)) return {};
    return wrong(number, "is changed, and no file can have that number");
  }

  const Metadata& metadata_;
  const Volume& volume_;
};

}  // namespace

ext2_inode_large fields_of(const InodeImage& image) {
  ext2_inode_large raw{};
  std::memcpy(&raw, image.bytes.data(), std::min(image.bytes.size(), sizeof raw));
  if (image.bytes.size() <= EXT2_GOOD_OLD_INODE_SIZE) raw.i_extra_isize = 0;
  return raw;
}

Outcome<void> judge_fast_commits(const Metadata& metadata, std::span<const FastCommitRecord> records) {
  const Judge judge(metadata);
  for (const auto& record : records) RETURN_IF_ERROR(std::visit(judge, record));
  return {};
}

}  // namespace fuse4fs::ext4
