// SPDX-License-Identifier: GPL-2.0-or-later
// Indirect maps to their third level: written, read by others, punched, cut.
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint64_t kBlock = 1024, kPointers = kBlock / 4;
constexpr std::uint64_t kSecondLevel = 12 + kPointers, kThirdLevel = kSecondLevel + kPointers * kPointers;
constexpr auto kKeep = AttributeChanges::Privileges::kKeep;

struct Written {
  std::uint64_t block;
  char letter;
};
// From the last block of the second level on; under one more block of the lowest level, and of the middle
// one.
constexpr std::array kWritten = {Written{kThirdLevel - 1, 'a'}, Written{kThirdLevel + 300, 'b'},
                                 Written{kThirdLevel + 2 * kPointers * kPointers + 5, 'c'}};
constexpr std::size_t kLength = 2 * kBlock;

TEST(IndirectLevels, TheThirdIsWrittenPunchedAndCut) {
  TestVolume volume("-t ext2 -b 1024", "16M");
  auto* fs = &volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  const std::uint64_t free = fs->statistics()->free_blocks;
  const auto is_there = [&](const Written& written) {
    return volume.read(file, written.block * kBlock, kLength) == std::string(kLength, written.letter);
  };
  for (const auto& written : kWritten)
    volume.write(file, written.block * kBlock, std::string(kLength, written.letter));
  for (const auto& written : kWritten) EXPECT_TRUE(is_there(written)) << written.letter;
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_NE(volume.debugfs("stat /file").find("(TIND)"), std::string::npos);

  fs = &volume.mount();
  for (const auto& written : kWritten) EXPECT_TRUE(is_there(written)) << written.letter;
  // Of two blocks of the first one is left; the second goes with its indirect block.
  ASSERT_TRUE(fs->change_range(file, RangeChange::kPunchHole, {kThirdLevel * kBlock, 301 * kBlock},
                               EndOfFile::kKeep, kKeep));
  EXPECT_EQ(volume.read(file, kWritten[0].block * kBlock, kLength),
            std::string(kBlock, 'a') + std::string(kBlock, '\0'));
  EXPECT_EQ(volume.read(file, kWritten[1].block * kBlock, kLength),
            std::string(kBlock, '\0') + std::string(kBlock, 'b'));
  EXPECT_TRUE(is_there(kWritten[2]));
  EXPECT_EQ(volume.unmount_and_check(), "");

  fs = &volume.mount();
  ASSERT_TRUE(fs->set_attributes(file, {.size = kThirdLevel * kBlock}));
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_EQ(volume.debugfs("stat /file").find("(TIND)"), std::string::npos);
  fs = &volume.mount();
  ASSERT_TRUE(fs->unlink(kRootInode, "file"));
  EXPECT_EQ(fs->statistics()->free_blocks, free);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
