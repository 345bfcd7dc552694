// SPDX-License-Identifier: GPL-2.0-or-later
// What a recovery believes: not a superblock whose checksum is wrong, nor an error that is none.
#include "server/ext4/journal_recovery.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <limits>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

TEST(JournalRecovery, AnErrorIsANegativeErrnoOrEio) {
  struct Row {
    std::int32_t recorded;
    int error;
  };
  for (const auto& [recorded, error] : {Row{0, 0}, Row{-EROFS, EROFS}, Row{-4095, 4095}, Row{-4096, EIO},
                                        Row{EROFS, EIO}, Row{std::numeric_limits<std::int32_t>::min(), EIO},
                                        Row{std::numeric_limits<std::int32_t>::max(), EIO}})
    EXPECT_EQ(JournalRecovery::error_of(recorded), error) << recorded;
}

TEST(JournalRecovery, ASuperblockWithAWrongChecksumReplaysNothing) {
  TestVolume volume("-t ext4 -b 1024 -J size=1", "16M");
  const auto wrote = run("printf 'jo -c\\njw -b 15000-15002 /usr/bin/env\\njc\\n' | debugfs -w -f - " +
                         volume.image().string());
  ASSERT_EQ(wrote.status, 0) << wrote.output;
  ASSERT_THAT(volume.debugfs("stats"), testing::HasSubstr("needs_recovery"));
  // The volume's name.
  std::fstream file(volume.image(), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(1024 + 0x78);
  file.write("other", 5);
  file.close();
  ASSERT_TRUE(file);
  const std::string before = volume.image_bytes();
  for (const auto access : {cache::Access::kReadOnly, cache::Access::kReadWrite}) {
    const auto refused = volume.try_mount({.access = access});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().error, kCorrupted);
    EXPECT_EQ(refused.error().message, "the superblock's checksum is wrong; try: e2fsck DEVICE");
    EXPECT_TRUE(volume.image_bytes() == before);
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
