// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/images/prepared_images.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <tuple>

#include "server/journal/format.h"
#include "tests/fuzz/memory_volume.h"
#include "tests/fuzz/volume_use.h"
#include "tests/hostile/images/dirty_journal.h"

namespace fuse4fs::hostile {
namespace {

using namespace ext4;
using ext4::fuzz::at;
using ext4::fuzz::Region;
using ext4::fuzz::require;

enum class Journal { kNone, kClean, kDirty, kFastCommits };
struct Form {
  const char* name;
  const char* options;
  const char* size;
  Journal journal;
};
// In pairs with and without checksums: without them all of the damage is reached.
constexpr std::array kForms = {
    Form{"default", "-t ext4 -b 4096 -J size=4 -N 128", "16M", Journal::kDirty},
    Form{"default-no-csum", "-t ext4 -b 4096 -O ^metadata_csum -J size=4 -N 128", "16M", Journal::kDirty},
    Form{"1k", "-t ext4 -J size=1 -g 1024 -N 128", "5M", Journal::kDirty},
    Form{"1k-no-csum", "-t ext4 -O ^metadata_csum,^64bit -J size=1 -g 1024 -N 128", "5M", Journal::kDirty},
    Form{"short-sums", "-t ext4 -O ^metadata_csum,uninit_bg -J size=1 -N 128", "5M", Journal::kClean},
    Form{"ext2", "-t ext2 -N 128", "3M", Journal::kNone},
    Form{"ext2-128", "-t ext2 -I 128 -N 128 -g 1024", "3M", Journal::kNone},
    Form{"ext3", "-t ext3 -J size=1 -N 128", "5M", Journal::kDirty},
    Form{"inline_data", "-t ext4 -O ^has_journal,inline_data,metadata_csum_seed -N 128", "3M",
         Journal::kNone},
    Form{"inline_data-no-csum", "-t ext4 -O inline_data,^metadata_csum -J size=1 -N 128", "5M",
         Journal::kDirty},
    Form{"bigalloc", "-t ext4 -O bigalloc -C 4096 -J size=1 -N 128", "6M", Journal::kDirty},
    Form{"bigalloc-no-csum", "-t ext4 -O ^has_journal,bigalloc,^metadata_csum -C 4096 -N 128", "4M",
         Journal::kNone},
    Form{"ea_inode", "-t ext4 -O ^has_journal,ea_inode -g 1024 -N 128", "4M", Journal::kNone},
    Form{"ea_inode-no-csum", "-t ext4 -O ea_inode,^metadata_csum -J size=1 -N 128", "5M", Journal::kDirty},
    Form{"orphan_file", "-t ext4 -O orphan_file -J size=1 -N 128", "5M", Journal::kDirty},
    Form{"orphan_file-no-csum", "-t ext4 -O orphan_file,^metadata_csum -J size=1 -N 128", "5M",
         Journal::kDirty},
    Form{"fast_commit", "-t ext4 -O fast_commit -J size=1 -N 128", "5M", Journal::kFastCommits},
    Form{"fast_commit-no-csum", "-t ext4 -O fast_commit,^metadata_csum -J size=1 -N 128", "5M",
         Journal::kFastCommits},
    Form{"meta_bg", "-t ext4 -O ^has_journal,meta_bg,^resize_inode,^metadata_csum -g 512 -N 128", "3M",
         Journal::kNone},
};

void add_files(FileSystem& fs) {
  for (int i = 0; i < 12; ++i)
    fuzz::make_inode(fs, kRootInode, fmt::format("later {}", i), S_IFREG | 0644,
                     static_cast<std::size_t>(i % 3));
  const auto directory = fuzz::make_inode(fs, kRootInode, "later", S_IFDIR | 0755);
  require(fs.rename(kRootInode, "short", directory, "moved", {}).has_value(), "a rename");
  require(fs.unlink(kRootInode, "scattered").has_value(), "an unlink");
}

// Finds what lies where on a volume that nobody has damaged.
class Survey {
 public:
  explicit Survey(PreparedImage& image, const std::string& without_log)
      : image_(image), block_(image.block_size), seen_(image.bytes.size() / block_) {
    const auto super = at<ext2_super_block>(image_.bytes, kSuperblock);
    add({kSuperblock, sizeof super});
    const std::size_t groups =
        (super.s_blocks_count - super.s_first_data_block + super.s_blocks_per_group - 1) /
        super.s_blocks_per_group;
    const bool wide = (super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0;
    const std::size_t size = wide ? super.s_desc_size : sizeof(ext2_group_desc);
    const std::size_t table = (kSuperblock / block_ + 1) * block_;
    const bool in_meta_groups = (super.s_feature_incompat & EXT2_FEATURE_INCOMPAT_META_BG) != 0;
    // Of meta_bg, which has them in several places, the first block.
    const std::size_t known = in_meta_groups ? std::min(groups, block_ / size) : groups;
    begin();
    add({table, known * size});
    std::vector<Region> blocks;
    std::vector<Region> inodes;
    std::vector<Region> tables;
    for (std::size_t group = 0; group < known; ++group) {
      const auto descriptor = at<ext2_group_desc>(image_.bytes, table + group * size);
      blocks.push_back({descriptor.bg_block_bitmap * block_, super.s_clusters_per_group / 8});
      inodes.push_back({descriptor.bg_inode_bitmap * block_, super.s_inodes_per_group / 8});
      const std::size_t length = std::size_t{super.s_inodes_per_group} * super.s_inode_size;
      for (std::size_t inside = 0; inside < length; inside += super.s_inode_size)
        tables.push_back({descriptor.bg_inode_table * block_ + inside, super.s_inode_size});
    }
    for (const auto& list : {blocks, inodes, tables}) {
      begin();
      for (const Region region : list) {
        if (!is_zero(region)) add(region);
      }
    }
    begin();
    for (std::size_t block = 0; block < seen_.size(); ++block) {
      if (image_.bytes.compare(block * block_, block_, without_log, block * block_, block_) != 0)
        add_block(block * block_);
    }
    begin();
    for (std::size_t block = 0; block < seen_.size(); ++block) add_block(block * block_);
    std::erase_if(image_.kinds, [](const auto& kind) { return kind.empty(); });
  }

 private:
  static constexpr std::size_t kSuperblock = 1024;

  void begin() { image_.kinds.emplace_back(); }
  void add(Region region) {
    if (image_.kinds.empty()) begin();
    image_.kinds.back().push_back(region);
    seen_[region.offset / block_] = true;
  }
  // If it is neither known, nor empty, nor a file's.
  void add_block(std::size_t offset) {
    const Region region{offset, block_};
    const auto bytes = std::string_view(image_.bytes).substr(offset, 512);
    if (!seen_[offset / block_] && !is_zero(region) && bytes.find_first_not_of('x') != bytes.npos)
      add(region);
  }
  [[nodiscard]] bool is_zero(Region region) const {
    const auto bytes = std::string_view(image_.bytes).substr(region.offset, region.length);
    return bytes.find_first_not_of('\0') == bytes.npos;
  }

  PreparedImage& image_;
  const std::size_t block_;
  std::vector<bool> seen_;
};

PreparedImage prepare(const Form& form) {
  PreparedImage image;
  image.name = form.name;
  const std::string options = std::string(form.options) +
                              " -U f0f4f500-0000-4000-8000-000000000003 -E "
                              "hash_seed=f0f4f500-0000-4000-8000-000000000004";
  image.bytes = fuzz::make_volume(options, form.size, fuzz::fill_volume);
  image.block_size = std::size_t{1024} << at<ext2_super_block>(image.bytes, 1024).s_log_block_size;
  const std::string without_log = image.bytes;
  if (form.journal == Journal::kDirty || form.journal == Journal::kFastCommits) {
    const std::string later = dirty::after(image.bytes, add_files);
    image.bytes = dirty::with_log(image.bytes, later);
    if (form.journal == Journal::kFastCommits) dirty::add_fast_commits(image.bytes);
    std::ignore = dirty::after(image.bytes, [&](FileSystem& fs) {
      require(fs.lookup(kRootInode, "later 5").has_value(), "the log is replayed");
      require(form.journal == Journal::kDirty || fs.lookup(kRootInode, dirty::kFastName).has_value(),
              "the fast commits are replayed");
    });
  }
  constexpr std::uint32_t kSums = EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_GDT_CSUM;
  const bool has_sums = (at<ext2_super_block>(image.bytes, 1024).s_feature_ro_compat & kSums) != 0;
  if (has_sums && image.block_size == fuzz::kBlockSize) image.areas.emplace(image.bytes);
  const Survey survey(image, without_log);
  return image;
}

}  // namespace

std::size_t prepared_images() { return kForms.size(); }

const PreparedImage& prepared_image(std::size_t index) {
  static std::array<std::optional<PreparedImage>, kForms.size()> made;
  auto& image = made.at(index);
  if (!image) image = prepare(kForms.at(index));
  return *image;
}

}  // namespace fuse4fs::hostile
