// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/images/dirty_journal.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "server/journal/checksum.h"
#include "server/journal/format.h"
#include "tests/fuzz/memory_volume.h"
#include "tests/unit/ext4/fast_commit_area.h"

namespace fuse4fs::hostile::dirty {
namespace {

using namespace ext4;
using ext4::fuzz::require;
namespace at = journal::superblock_at;

constexpr std::size_t kSuperblock = 1024;

ext2_super_block superblock_of(const std::string& volume) {
  ext2_super_block super;
  std::memcpy(&super, volume.data() + kSuperblock, sizeof super);
  return super;
}

std::size_t block_size_of(const std::string& volume) {
  return std::size_t{1024} << superblock_of(volume).s_log_block_size;
}

// Block by block; of a journal whose inode holds all of its extents.
std::vector<std::size_t> places_of_log(const std::string& volume) {
  const auto super = superblock_of(volume);
  const std::size_t block = block_size_of(volume);
  ext2_group_desc group;
  std::memcpy(&group, volume.data() + (super.s_first_data_block + 1) * block, sizeof group);
  ext2_inode inode;
  std::memcpy(&inode,
              volume.data() + group.bg_inode_table * block +
                  std::size_t{super.s_journal_inum - 1} * super.s_inode_size,
              sizeof inode);
  std::array<ext3_extent, 5> map;  // the first one is the header
  static_assert(sizeof map == sizeof inode.i_block);
  std::memcpy(map.data(), inode.i_block, sizeof map);
  ext3_extent_header header;
  std::memcpy(&header, inode.i_block, sizeof header);
  require(header.eh_magic == EXT3_EXT_MAGIC && header.eh_depth == 0, "a journal of a few extents");
  std::vector<std::size_t> places;
  for (std::size_t i = 1; i <= header.eh_entries; ++i) {
    for (std::size_t j = 0; j < map.at(i).ee_len; ++j) places.push_back(map.at(i).ee_start + j);
  }
  return places;
}

class Scratch {
 public:
  Scratch() {
    char name[] = "/tmp/dirty-journal-XXXXXX";
    require(::mkdtemp(name) != nullptr, "a temporary directory");
    path_ = name;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::filesystem::remove_all(path_); }

  void write(const char* name, const std::string& bytes) const {
    std::ofstream(path_ / name, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  [[nodiscard]] std::string read(const char* name) const {
    std::ifstream in(path_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void run(const std::string& command) const {
    require(std::system(("cd " + path_.string() + " && " + command).c_str()) == 0, command.c_str());
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

std::string after(const std::string& volume, const std::function<void(FileSystem&)>& change) {
  const fuzz::MemoryVolume memory(volume);
  fuzz::QuietEvents events;
  auto fs = FileSystem::mount(memory.device(), {}, events);
  if (!fs) std::fprintf(stderr, "%s\n", fs.error().message.c_str());
  require(fs.has_value(), "mounting a volume that is not damaged");
  change(**fs);
  require((*fs)->unmount().has_value(), "unmounting it");
  return memory.bytes();
}

std::string with_log(const std::string& volume, const std::string& later) {
  constexpr std::size_t kOfTransaction = 10;
  const std::size_t block = block_size_of(volume);
  const bool has_sums =
      (superblock_of(volume).s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) != 0;
  const Scratch scratch;
  scratch.write("image", volume);
  std::string script = has_sums ? "jo -c\n" : "jo\n";
  std::string numbers;
  std::string copies;
  std::size_t transactions = 0;
  const auto write = [&] {
    if (copies.empty()) return;
    const auto name = fmt::format("copies{}", transactions++);
    scratch.write(name.c_str(), copies);
    script += fmt::format("jw -b {} {}\n", numbers, name);
    numbers.clear();
    copies.clear();
  };
  for (std::size_t offset = 0; offset < volume.size(); offset += block) {
    if (offset == kSuperblock / block * block || volume.compare(offset, block, later, offset, block) == 0)
      continue;
    numbers += fmt::format("{}{}", numbers.empty() ? "" : ",", offset / block);
    copies += later.substr(offset, block);
    if (copies.size() == kOfTransaction * block) write();
  }
  write();
  require(transactions > 1, "a log of some transactions");
  scratch.write("script", script + "jc\nquit\n");
  scratch.run("debugfs -w -f script image >log 2>&1");
  return scratch.read("image");
}

void add_fast_commits(std::string& volume) {
  constexpr std::uint32_t kBlocks = 8;  // of the area
  const std::size_t block = block_size_of(volume);
  const auto places = places_of_log(volume);
  const auto log_block = [&](std::size_t number) {
    return std::as_writable_bytes(std::span(volume)).subspan(places.at(number) * block, block);
  };
  const auto head = log_block(0).first(1024);
  const bool has_sums = (journal::load32(head, at::kIncompatible) & journal::kFeatureChecksumV3) != 0;
  journal::store_big_endian(head, at::kIncompatible,
                            journal::load32(head, at::kIncompatible) | journal::kFeatureFastCommit);
  journal::store_big_endian(head, at::kFastCommitBlocks, kBlocks);
  if (has_sums) {
    journal::store_big_endian<std::uint32_t>(head, at::kChecksum, 0);
    journal::store_big_endian(head, at::kChecksum, journal::crc32c(~0U, head));
  }
  // That of the last transaction of the log.
  std::uint32_t last = 0;
  for (std::size_t i = 1; i < places.size(); ++i) {
    if (journal::load32(log_block(i), 0) == journal::kMagic)
      last = std::max(last, journal::load32(log_block(i), 8));
  }
  require(last != 0, "a log with transactions");
  constexpr InodeNumber kInode = 60;
  ext2_inode_large inode{};
  inode.i_mode = S_IFREG | 0644;
  inode.i_size = 2000;
  inode.i_links_count = 1;
  inode.i_flags = EXT4_EXTENTS_FL;
  inode.i_extra_isize = 32;
  FastCommitArea area(block);
  area.head(last + 1);
  area.inode(kInode, {reinterpret_cast<const char*>(&inode), sizeof inode});
  area.add_range(kInode, 0, volume.size() / block - 100, 2);
  area.name(FastCommitArea::kCreate, kRootInode, kInode, kFastName);
  area.tail(last + 1);
  require(area.bytes().size() < kBlocks * block, "a short area");
  // The first block of the area is the one behind its begin, as the kernel counts.
  for (std::size_t i = 0; i < area.bytes().size() / block; ++i)
    std::ranges::copy(area.bytes().subspan(i * block, block),
                      log_block(places.size() - kBlocks + 1 + i).begin());
}

}  // namespace fuse4fs::hostile::dirty
