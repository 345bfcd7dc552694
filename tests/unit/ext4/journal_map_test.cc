// SPDX-License-Identifier: GPL-2.0-or-later
// Journal inodes that say what cannot be: refused in words before anything is read as a log, or found again
// by the superblock's copy.
#include "server/ext4/journal_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>

#include "tests/unit/ext4/open_volume.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

struct Damage {
  std::string commands;  // of debugfs, one a line; BITMAP is a block of the volume's own
  std::string word;      // of the refusal
};

std::string number_in(const std::string& text, const std::string& label) {
  const auto at = text.find(label);
  if (at == std::string::npos) return "?";
  const auto first = text.find_first_of("0123456789", at + label.size());
  return text.substr(first, text.find_first_not_of("0123456789", first) - first);
}

void edit(const TestVolume& volume, std::string commands) {
  const auto bitmap = number_in(volume.debugfs("stats"), "block bitmap at ");
  const auto second = volume.debugfs("bmap <8> 4");
  const std::pair<std::string, std::string> words[] = {{"BITMAP", bitmap},
                                                       {"FIFTH", second.substr(0, second.find('\n'))}};
  for (const auto& [name, value] : words) {
    for (auto at = commands.find(name); at != std::string::npos; at = commands.find(name))
      commands.replace(at, name.size(), value);
  }
  const auto done = run("printf '" + commands + "' | debugfs -w -f - " + volume.image().string());
  ASSERT_EQ(done.status, 0) << done.output;
}

TEST(JournalMap, AnInodeThatCannotBeIsRefused) {
  const Damage damages[] = {
      {"sif <8> block[3] 99999999\\n", "outside of the volume"},
      {"sif <8> block[3] FIFTH\\n", "twice"},
      {"sif <8> block[3] BITMAP\\n", "the volume's own structures"},
      {"sif <8> block[3] 0\\n", "block 3 has no place"},
      {"sif <8> block[IND] BITMAP\\n", ""},
      {"sif <8> block[IND] 99999999\\n", "outside of the volume"},
      {"sif <8> block[DIND] 0\\n", "has no place"},
      {"sif <8> size 0\\n", "0 bytes"},
      {"sif <8> size 0x10000000000\\n", "bytes"},
      {"sif <8> links_count 0\\n", "no regular file"},
      {"sif <8> mode 040755\\n", "no regular file"},
      {"ssv journal_inum 99999999\\n", "inode 99999999"},
  };
  for (const auto& [commands, word] : damages) {
    SCOPED_TRACE(commands);
    TestVolume volume("-t ext3 -b 1024", "16M");
    ASSERT_NO_FATAL_FAILURE(edit(volume, commands + "ssv jnl_backup_type 0\\n"));
    for (const auto access : {cache::Access::kReadOnly, cache::Access::kReadWrite}) {
      const auto refused = volume.try_mount({.access = access});
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().error, kCorrupted);
      EXPECT_THAT(refused.error().message, HasSubstr(word));
      EXPECT_THAT(refused.error().message, HasSubstr("e2fsck"));
    }
  }
}

TEST(JournalMap, TheSuperblocksCopyOfTheInodeCounts) {
  for (const std::string kind : {"-t ext3 -b 1024", "-t ext4 -b 1024 -O ^metadata_csum"}) {
    TestVolume volume(kind, "16M");
    ASSERT_NO_FATAL_FAILURE(edit(volume, "sif <8> links_count 0\\nsif <8> size 77\\n"));
    auto mounted = volume.try_mount({.access = cache::Access::kReadOnly});
    ASSERT_TRUE(mounted) << mounted.error().message;
    EXPECT_THAT(volume.events.notices, Contains(HasSubstr("its copy in the superblock is used")));
  }
}

// An inode that could be, but what it leads to is no log.
TEST(JournalMap, AnInodeThatLeadsElsewhere) {
  TestVolume volume("-t ext3 -b 1024", "16M");
  ASSERT_NO_FATAL_FAILURE(edit(volume, "sif <8> block[0] 15000\\n"));
  {
    auto mounted = volume.try_mount();
    ASSERT_TRUE(mounted) << mounted.error().message;
    EXPECT_THAT(volume.events.notices, Contains(HasSubstr("inode 8 leads to no log")));
    EXPECT_TRUE((*mounted)->unmount());
  }
  // Without another one it is the log that is damaged.
  ASSERT_NO_FATAL_FAILURE(edit(volume, "ssv jnl_backup_type 0\\n"));
  const auto refused = volume.try_mount();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("the journal's superblock is not there"));
}

// The descriptors are damaged, so the copy counts; the log brings them back, and with them an inode that says
// something else. The next mount goes by that: nobody gets its blocks meanwhile.
TEST(JournalMap, WhatTheLogBringsBackIsProtectedToo) {
  TestVolume volume("-t ext3 -b 1024", "16M");
  const std::uint64_t one = std::stoull(volume.debugfs("bmap <8> 5"));
  constexpr std::uint64_t kOther = 15000;
  ASSERT_NO_FATAL_FAILURE(edit(volume, fmt::format("sif <8> block[5] {}\\n", kOther)));
  const std::string image = volume.image().string();
  const auto good = run(fmt::format("dd if={0} of={0}.descriptors bs=1024 skip=2 count=1", image));
  ASSERT_EQ(good.status, 0) << good.output;
  ASSERT_NO_FATAL_FAILURE(edit(volume, fmt::format("jo\\njw -b 2 {}.descriptors\\njc\\n", image)));
  // Where the inodes of group 0 lie.
  std::fstream file(image, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(2 * 1024 + offsetof(ext2_group_desc, bg_inode_table));
  file.write("\xff\xff\xff\xff", 4);
  file.close();
  ASSERT_TRUE(file);
  OpenVolume open(volume);
  EXPECT_THAT(volume.events.notices, Contains(HasSubstr("its copy in the superblock is used")));
  EXPECT_FALSE(open.volume().may_be_owned(one, 1));
  EXPECT_FALSE(open.volume().may_be_owned(kOther, 1));
  EXPECT_TRUE(open.volume().may_be_owned(kOther + 1, 1));
}

// The root of its extents leads to a leaf, and that holds nothing.
TEST(JournalMap, AnEmptyLeafIsRefused) {
  TestVolume volume("-t ext4 -b 1024 -O ^metadata_csum", "16M");
  const auto leaf = std::stoll(volume.debugfs("bmap <8> 4"));
  ASSERT_NO_FATAL_FAILURE(edit(volume,
                               "sif <8> block[0] 0x1F30A\\nsif <8> block[1] 0x10004\\nsif <8> block[3] 0\\n"
                               "sif <8> block[4] FIFTH\\nsif <8> block[5] 0\\nssv jnl_backup_type 0\\n"));
  const std::array<std::uint16_t, 6> header{0xF30A, 0, 84, 0, 0, 0};
  std::fstream file(volume.image(), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(leaf * 1024);
  file.write(reinterpret_cast<const char*>(header.data()), sizeof header);
  file.close();
  ASSERT_TRUE(file);
  const auto refused = volume.try_mount({.access = cache::Access::kReadOnly});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error, kCorrupted);
  EXPECT_THAT(refused.error().message, HasSubstr("the extents in block " + std::to_string(leaf)));
}

// Extents: of all kinds of volumes that have a layout of their own the map is what debugfs says.
TEST(JournalMap, IsWhatDebugfsSays) {
  for (const std::string kind :
       {"-t ext4 -b 1024", "-t ext4 -b 4096 -O ^64bit", "-t ext3 -b 1024", "-t ext3 -b 4096",
        "-t ext4 -b 1024 -O meta_bg,^resize_inode -g 1024", "-t ext4 -b 4096 -O bigalloc -C 16384",
        "-t ext4 -b 1024 -O sparse_super2"}) {
    SCOPED_TRACE(kind);
    TestVolume volume(kind, "32M");
    UniqueFd file(::open(volume.image().c_str(), O_RDONLY | O_CLOEXEC));
    auto device = cache::BlockDevice::adopt(std::move(file), {}, cache::Access::kReadOnly);
    ASSERT_TRUE(device);
    ext2_super_block super;
    ASSERT_TRUE(device->read(1024, std::as_writable_bytes(std::span(&super, 1))));
    const auto map = JournalMap::read(*device, super);
    ASSERT_TRUE(map) << map.error().message;
    for (const std::uint32_t log : {0U, 1U, 11U, 12U, 13U, 300U, map->blocks() - 1}) {
      const auto place = map->find(log);
      EXPECT_EQ(std::to_string(place.block) + "\n", volume.debugfs("bmap <8> " + std::to_string(log)));
      EXPECT_TRUE(map->owns(place.block));
    }
    EXPECT_FALSE(map->owns(1));
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
