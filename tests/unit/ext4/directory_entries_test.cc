// SPDX-License-Identifier: GPL-2.0-or-later
// The entries of a block beside what a plain walk says, in memory that ends where the block does; and the
// hash of names beside libext2fs's.
#include "server/ext4/directory_entries.h"

#include <fmt/format.h>

#include <cstring>
#include <memory>
#include <random>

#include "server/ext4/name_hash.h"
#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kBlock = 1024;

// One after the other, none with room to spare but the last one; of some the inode is 0.
std::vector<std::string> fill(const DirectoryEntries& format, std::span<std::byte> block,
                              std::mt19937& random) {
  std::vector<std::string> names;
  for (std::size_t offset = 0; offset < format.end();) {
    const std::size_t left = format.end() - offset;
    std::string name(1 + random() % (random() % 4 == 0 ? 60 : 12), 'a');
    // Few letters, so that ends and beginnings are often the same.
    for (char& letter : name) letter = static_cast<char>('a' + random() % 2);
    std::size_t length = entry_length(name.size());
    if (length + 12 > left) {
      name.resize(std::min(name.size(), left - 8));
      length = left;
    }
    const bool used = random() % 8 != 0;
    format.put(block, offset, length, used ? 11 : 0, name, S_IFREG);
    names.push_back(used ? name : "");
    offset += length;
  }
  format.put_tail(block);
  return names;
}

TEST(DirectoryEntries, AreFoundAsAPlainWalkFindsThem) {
  for (const char* const checksums : {"", "-O ^metadata_csum"}) {
    TestVolume volume(fmt::format("-t ext4 -b 1024 {}", checksums));
    OpenVolume open(volume);
    const DirectoryEntries entries(open.volume());
    std::mt19937 random(1);
    const std::unique_ptr<std::byte[]> memory(new std::byte[kBlock]);
    const std::span<std::byte> block(memory.get(), kBlock);
    for (int round = 0; round < 200; ++round) {
      const auto names = fill(entries, block, random);
      ASSERT_EQ(entries.judge(block, 0, entries.end()), "");
      const auto expect = [&](std::string_view wanted) {
        std::optional<DirectoryEntries::Entry> before, found;
        entries.each(block, 0, entries.end(), [&](const DirectoryEntries::Entry& entry) {
          if (entry.inode != 0 && entry.name == wanted) found = entry;
          if (!found) before = entry;
          return !found;
        });
        const auto search = entries.search(block, 0, entries.end(), wanted);
        ASSERT_EQ(search.found.has_value(), found.has_value()) << wanted;
        if (!found) {
          // As find_room(), but for short entries that are not in use, behind others.
          const std::size_t needed = entry_length(wanted.size());
          std::optional<std::size_t> roomy;
          entries.each(block, 0, entries.end(), [&](const DirectoryEntries::Entry& entry) {
            const bool overlooked = entry.inode == 0 && entry.offset != 0 && entry.length < needed + 12;
            if (!overlooked && entry.length >= entry.used() + needed) roomy = entry.offset;
            return !roomy;
          });
          EXPECT_EQ(search.roomy, roomy) << wanted;
          return;
        }
        EXPECT_EQ(search.found->entry.offset, found->offset) << wanted;
        ASSERT_EQ(search.found->before.has_value(), before.has_value()) << wanted;
        if (before) {
          EXPECT_EQ(search.found->before->offset, before->offset) << wanted;
        }
      };
      for (const auto& name : names) {
        if (name.empty()) continue;
        expect(name);
        expect(name + "a");
        expect("b" + name);
        expect(std::string_view(name).substr(0, name.size() - 1) == "" ? "b" : name.substr(1) + "c");
      }
      expect(std::string(kMaxNameLength, 'a'));
    }
    open.finish();
  }
}

TEST(NameHasher, IsLibext2fss) {
  for (const int flags : {EXT2_FLAGS_SIGNED_HASH, EXT2_FLAGS_UNSIGNED_HASH}) {
    TestVolume volume("-t ext4 -b 1024");
    ASSERT_EQ(run(fmt::format("debugfs -w -R 'ssv flags {}' {}", flags, volume.image().string())).status, 0);
    OpenVolume open(volume);
    const NameHasher hasher(open.volume());
    const auto& super = open.volume().super();
    std::mt19937 random(2);
    for (int i = 0; i < 4000; ++i) {
      std::string name(1 + static_cast<std::size_t>(i) % kMaxNameLength, 'a');
      for (char& letter : name) letter = static_cast<char>(1 + random() % (i % 2 == 0 ? 127 : 255));
      for (const int version : {EXT2_HASH_HALF_MD4, EXT2_HASH_TEA}) {
        NameHash wanted;
        const int offset = flags == EXT2_FLAGS_UNSIGNED_HASH ? 3 : 0;
        ASSERT_EQ(ext2fs_dirhash(version + offset, name.data(), static_cast<int>(name.size()),
                                 super.s_hash_seed, &wanted.major, &wanted.minor),
                  0);
        ASSERT_EQ(hasher.of(name, static_cast<std::uint8_t>(version)), wanted) << i;
      }
    }
    open.finish();
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
