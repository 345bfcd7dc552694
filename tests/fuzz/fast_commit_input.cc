// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/fuzz/fast_commit_input.h"

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "server/ext4/fast_commit_replay.h"
#include "server/ext4/orphans.h"
#include "tests/fuzz/memory_volume.h"
#include "tests/unit/ext4/fast_commit_area.h"

namespace fuse4fs::ext4::fuzz {
namespace {

constexpr std::uint32_t kTid = 7;
constexpr std::array kForms = {"-t ext4 -O ^has_journal", "-t ext4 -O ^has_journal,bigalloc -C 4096",
                               "-t ext4 -O ^has_journal,inline_data,^metadata_csum", "-t ext2 -O ^dir_index"};

// A few files and directories: inodes 12 to 16, one of them with many extents.
void fill(FileSystem& fs) {
  make_inode(fs, kRootInode, "a", S_IFREG | 0644, 3);
  make_inode(fs, kRootInode, "b", S_IFREG | 0644, 40);
  const auto directory = make_inode(fs, kRootInode, "d", S_IFDIR | 0755);
  make_inode(fs, directory, "c", S_IFREG | 0600, 1);
  make_inode(fs, directory, "e", S_IFDIR | 0700);
}

// The head's and the tails' transaction, and the checksums, as far as the tags go.
void put_right(std::span<std::byte> area) {
  std::uint32_t crc = 0;
  const auto add = [&](std::span<const std::byte> bytes) {
    crc = ext2fs_crc32c_le(crc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  };
  for (; area.size() >= kBlockSize; area = area.subspan(kBlockSize)) {
    const auto block = area.first(kBlockSize);
    for (std::size_t at = 0; at + 4 <= kBlockSize;) {
      std::array<std::uint16_t, 2> tag;
      std::memcpy(tag.data(), block.data() + at, sizeof tag);
      if (tag[1] > kBlockSize - at - 4) break;
      const auto whole = block.subspan(at, std::size_t{4} + tag[1]);
      if (tag[0] == 9 && tag[1] == 8) {
        std::memset(whole.data() + 4, 0, 4);
        std::memcpy(whole.data() + 8, &kTid, sizeof kTid);
      }
      if (tag[0] == 8 && tag[1] >= 8) {
        std::memcpy(whole.data() + 4, &kTid, sizeof kTid);
        add(whole.first(8));
        std::memcpy(whole.data() + 8, &crc, sizeof crc);
        crc = 0;
      } else {
        add(whole);
      }
      at += whole.size();
    }
  }
}

}  // namespace

bool try_fast_commits(std::span<const std::byte> input) {
  static const auto images = [] {
    std::vector<std::string> made;
    for (const char* const form : kForms)
      made.push_back(make_volume(std::string("-N 64 ") + form, "2M", fill));
    return made;
  }();
  if (input.empty()) return false;
  const std::string& image = images[std::to_integer<std::size_t>(input[0]) % images.size()];
  std::vector<std::byte> area(input.begin() + 1, input.end());
  area.resize((area.size() + kBlockSize - 1) / kBlockSize * kBlockSize);
  const FastCommitForm form{.block_size = kBlockSize, .inode_size = 256, .tid = kTid};
  (void)read_fast_commits(area, form);
  put_right(area);
  const auto log = read_fast_commits(area, form);
  if (!log || log->records.empty()) return false;

  const MemoryVolume memory(image);
  QuietEvents quiet;
  const MountOptions options{.errors = ErrorPolicy::kContinue};
  auto opened = Volume::open(memory.device(), options, quiet);
  require(opened.has_value(), "opening");
  auto volume = std::move(*opened);
  const std::string before = memory.bytes();
  {
    Metadata metadata(*volume);
    if (!replay_fast_commits(metadata, log->records)) {
      require(memory.bytes() == before, "something was written by a replay that failed");
      return false;
    }
    const auto cleaned = process_orphans(metadata);
    if (!cleaned) std::fprintf(stderr, "%s\n", cleaned.error().message.c_str());
    require(cleaned.has_value(), "orphans after a replay");
    require(cleaned->damaged == 0 || cleaned->left_alone != 0, "a replay left orphans that are none");
  }
  require(volume->mark_clean().has_value(), "writing");
  volume->close();
  volume.reset();
  auto fs = FileSystem::mount(memory.device(), options, quiet);
  require(fs.has_value(), "mounting what a replay left behind");
  (void)(*fs)->read_directory(kRootInode, 0, [](const DirectoryEntry&) { return true; });
  (void)(*fs)->unmount();
  return true;
}

std::vector<Seed> fast_commit_seeds() {
  std::vector<Seed> seeds;
  const auto image = [](mode_t mode, std::uint32_t size, std::uint16_t links, std::uint32_t flags) {
    ext2_inode_large raw{};
    raw.i_mode = static_cast<std::uint16_t>(mode);
    raw.i_size = size;
    raw.i_links_count = links;
    raw.i_flags = flags;
    raw.i_extra_isize = 32;
    return std::string(reinterpret_cast<const char*>(&raw), sizeof raw);
  };
  const auto extents = [](std::size_t form) {
    return form == 3 ? 0U : static_cast<unsigned>(EXT4_EXTENTS_FL);
  };
  for (std::size_t i = 0; i < kForms.size(); ++i) {
    const auto add = [&](const char* name, const auto& fill) {
      FastCommitArea area(kBlockSize);
      area.head(kTid);
      fill(area);
      area.tail(kTid);
      std::vector<std::byte> input{static_cast<std::byte>(i)};
      input.insert(input.end(), area.bytes().begin(), area.bytes().end());
      seeds.emplace_back(std::string(name) + "-" + std::to_string(i), input);
    };
    add("create", [&](auto& area) {
      area.inode(30, image(S_IFREG | 0644, 4096, 1, extents(i)));
      area.add_range(30, 0, 1600, 4);
      area.name(FastCommitArea::kCreate, 2, 30, "new");
      area.add_range(12, 16, 1604, 4);
      area.inode(12, image(S_IFREG | 0644, 20480, 1, extents(i)));
      area.inode(2, image(S_IFDIR | 0755, 1024, 5, extents(i)));
    });
    add("directories", [&](auto& area) {
      area.inode(30, image(S_IFDIR | 0755, 1024, 2, extents(i)));
      area.name(FastCommitArea::kCreate, 2, 30, "x");
      area.inode(31, image(S_IFLNK | 0777, 7, 1, 0));
      area.name(FastCommitArea::kCreate, 30, 31, "link");
      area.name(FastCommitArea::kUnlink, 14, 16, "e");
    });
    add("names", [&](auto& area) {
      area.name(FastCommitArea::kUnlink, 2, 12, "a");
      area.name(FastCommitArea::kLink, 2, 13, "a");
      area.tail(kTid);
      area.name(FastCommitArea::kUnlink, 2, 13, "b");
      area.inode(13, image(S_IFREG | 0644, 100, 1, extents(i)));
      area.delete_range(13, 1, 200);
      area.add_range(15, 4, 1500, i == 3 ? 8 : 0x8000 + 8);
    });
    add("nameless", [&](auto& area) {
      area.add_range(32, 0, 1200, 4);
      area.inode(32, image(S_IFREG | 0644, 4096, 0, extents(i)));
      area.inode(33, image(S_IFREG | 0644, 4096, 1, extents(i)));
    });
  }
  return seeds;
}

}  // namespace fuse4fs::ext4::fuzz
