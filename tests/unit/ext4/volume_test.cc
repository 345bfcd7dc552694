// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <fstream>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using testing::Test;

MountOptions read_only() { return {.access = cache::Access::kReadOnly, .errors = {}}; }

// Changes bytes of the superblock.
template <class Value>
void patch(const TestVolume& volume, std::size_t offset, Value value) {
  std::fstream file(volume.image(), std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(1024 + offset));
  file.write(reinterpret_cast<const char*>(&value), sizeof value);
}
template <class Value>
Value peek(const TestVolume& volume, std::size_t offset) {
  std::ifstream file(volume.image(), std::ios::binary);
  file.seekg(static_cast<std::streamoff>(1024 + offset));
  Value value{};
  file.read(reinterpret_cast<char*>(&value), sizeof value);
  return value;
}

constexpr std::size_t kState = 0x3a;
constexpr std::size_t kMounts = 0x34;
constexpr std::size_t kCompat = 0x5c;
constexpr std::size_t kIncompat = 0x60;
constexpr std::size_t kRoCompat = 0x64;

std::string refusal(TestVolume& volume, MountOptions options = {}) {
  auto mounted = volume.try_mount(options);
  if (!mounted) return mounted.error().message;
  EXPECT_TRUE((*mounted)->unmount());
  return "";
}

void expect_word(const std::string& text, const std::string& word) {
  EXPECT_NE(text.find(word), std::string::npos) << '"' << text << "\" does not say " << word;
}

TEST(Volume, IsMarkedInUseWhileMounted) {
  TestVolume volume;
  const auto mounts = peek<std::uint16_t>(volume, kMounts);
  volume.mount();
  EXPECT_EQ(peek<std::uint16_t>(volume, kState) & 1, 0);
  EXPECT_EQ(peek<std::uint16_t>(volume, kMounts), mounts + 1);
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_EQ(peek<std::uint16_t>(volume, kState) & 1, 1);
}

TEST(Volume, StaysUnclean) {
  TestVolume volume("-t ext4 -b 4096 -O ^metadata_csum");
  patch<std::uint16_t>(volume, kState, 0);
  volume.mount();
  ASSERT_EQ(volume.events.notices.size(), 1U);
  expect_word(volume.events.notices[0], "unchecked");
  volume.unmount();
  EXPECT_EQ(peek<std::uint16_t>(volume, kState) & 1, 0);
}

TEST(Volume, ReadOnlyWritesNothing) {
  TestVolume volume;
  const auto sum = run("sha256sum " + volume.image().string()).output;
  auto& fs = volume.mount(read_only());
  EXPECT_EQ(fs.access(), cache::Access::kReadOnly);
  EXPECT_EQ(fs.make(kRootInode, "x", {.mode = S_IFREG}).error(), Errno(EROFS));
  EXPECT_EQ(fs.set_attributes(kRootInode, {.permissions = 0}).error(), Errno(EROFS));
  EXPECT_EQ(fs.rename(kRootInode, "lost+found", kRootInode, "x", {.mode = RenameMode::kReplace}).error(),
            Errno(EROFS));
  EXPECT_EQ(volume.list(kRootInode).size(), 3U);
  volume.unmount();
  EXPECT_EQ(run("sha256sum " + volume.image().string()).output, sum);
}

TEST(Volume, Statistics) {
  TestVolume volume("-t ext4 -b 4096 -m 5 -L a-label -U 01234567-89ab-cdef-fedc-ba9876543219");
  auto& fs = volume.mount();
  const auto statistics = fs.statistics().value();
  EXPECT_EQ(statistics.block_size, 4096U);
  EXPECT_LE(statistics.blocks, 16384U);
  // The reserve that was asked for, and the fiftieth that the kernel keeps back.
  EXPECT_EQ(statistics.free_blocks - statistics.available_blocks, 819U + 16384U / 50);
  EXPECT_EQ(statistics.inodes, 16384U);
  EXPECT_EQ(statistics.free_inodes, 16384U - 11U);
  EXPECT_NE(statistics.id, 0U);
  EXPECT_EQ(fs.label(), "a-label");
  volume.unmount();
}

TEST(Volume, RefusesWithAReason) {
  {
    TestVolume volume("-t ext4 -b 4096 -O ^metadata_csum");
    patch<std::uint32_t>(volume, kIncompat, peek<std::uint32_t>(volume, kIncompat) | 0x4);
    // A dirty journal without a transaction: needs nothing, but for who asks to leave it alone and to write.
    auto options = read_only();
    options.journal = MountOptions::Journal::kIgnore;
    EXPECT_EQ(refusal(volume, options), "");
    options.access = cache::Access::kReadWrite;
    expect_word(refusal(volume, options), "noload");
    EXPECT_EQ(refusal(volume, read_only()), "");
    EXPECT_NE(peek<std::uint32_t>(volume, kIncompat) & 0x4, 0U);
    EXPECT_EQ(refusal(volume), "");
    EXPECT_EQ(peek<std::uint32_t>(volume, kIncompat) & 0x4, 0U);
  }
  for (const auto& [options, word] :
       {std::pair("-t ext4 -O encrypt", "encrypt (there are no keys here)"),
        std::pair("-t ext4 -O casefold",
                  "the volume uses features that this server does not serve: casefold (names are compared "
                  "without case)")}) {
    TestVolume volume(options);
    expect_word(refusal(volume), word);
    expect_word(refusal(volume, read_only()), word);
  }
  for (const auto& [options, word] : {std::pair("-t ext4 -O verity", "verity (protected files")}) {
    TestVolume volume(options);
    expect_word(refusal(volume), word);
    expect_word(refusal(volume), "-o ro");
    EXPECT_EQ(refusal(volume, read_only()), "") << options;
  }
  {
    TestVolume volume("-O journal_dev");
    expect_word(refusal(volume), "journal");
  }
  {
    TestVolume volume("-t ext4 -b 4096 -O ^metadata_csum");
    patch<std::uint32_t>(volume, kIncompat, peek<std::uint32_t>(volume, kIncompat) | 0x800000);
    expect_word(refusal(volume, read_only()), "0x800000");
  }
  {
    TestVolume volume("-t ext4 -b 4096 -O ^metadata_csum");
    patch<std::uint32_t>(volume, kRoCompat, peek<std::uint32_t>(volume, kRoCompat) | 0x40000000);
    expect_word(refusal(volume), "0x40000000");
    EXPECT_EQ(refusal(volume, read_only()), "");
  }
  {
    TestVolume volume("-t ext4 -b 4096 -O ^metadata_csum");
    patch<std::uint32_t>(volume, kCompat, peek<std::uint32_t>(volume, kCompat) | 0x40000000);
    EXPECT_EQ(refusal(volume), "");
    ASSERT_EQ(volume.events.notices.size(), 1U);
    expect_word(volume.events.notices[0], "0x40000000");
  }
  {
    TestVolume volume;
    std::filesystem::resize_file(volume.image(), 32 << 20);
    expect_word(refusal(volume), "16384 blocks");
    expect_word(refusal(volume), "8192");
  }
  {
    TestVolume volume;
    patch<std::uint32_t>(volume, 0x3fc, 1);
    expect_word(refusal(volume), "checksum");
  }
  {
    TestVolume volume;
    patch<std::uint16_t>(volume, 0x38, 1);
    expect_word(refusal(volume), "no ext2");
  }
}

TEST(Volume, ImpossibleGeometryIsRefused) {
  struct Case {
    std::size_t offset;
    std::uint32_t value;
  };
  for (const Case& wrong :
       {Case{0x18, 7}, Case{0x18, 0xffffffff}, Case{0x1c, 9}, Case{0x20, 0}, Case{0x20, 0xffffffff},
        Case{0x24, 7}, Case{0x28, 0}, Case{0x28, 0xfffffff8}, Case{0x14, 99}, Case{0x04, 0}, Case{0x00, 1},
        Case{0x58, 0x00000003}, Case{0x54, 0xffffffff}, Case{0xfe, 0x00000003}, Case{0x4c, 9},
        Case{0x08, 0xffffffff}, Case{0x0c, 0xffffffff}}) {
    TestVolume volume("-t ext4 -b 4096 -O ^metadata_csum,64bit");
    patch(volume, wrong.offset, wrong.value);
    EXPECT_NE(refusal(volume), "") << fmt::format("{:#x} {:#x}", wrong.offset, wrong.value);
  }
}

TEST(Volume, CorruptionFollowsThePolicy) {
  for (const auto policy : {ErrorPolicy::kContinue, ErrorPolicy::kRemountReadOnly, ErrorPolicy::kShutDown}) {
    TestVolume volume("-t ext4 -b 4096 -O ^metadata_csum");
    volume.events.echo = false;
    volume.mount();
    const auto file = volume.make_file(kRootInode, "damaged");
    volume.make_file(kRootInode, "good");
    volume.unmount();
    ASSERT_EQ(run("debugfs -w -R 'sif /damaged mode 0' " + volume.image().string()).status, 0);
    auto& fs = volume.mount({.errors = policy});
    EXPECT_EQ(fs.lookup(kRootInode, "damaged").error(), kCorrupted);
    ASSERT_EQ(volume.events.corruptions.size(), 1U);
    expect_word(volume.events.corruptions[0], fmt::format("inode {}", file));
    const auto made = fs.make(kRootInode, "new", {.mode = S_IFREG});
    switch (policy) {
      case ErrorPolicy::kContinue:
        EXPECT_TRUE(made);
        break;
      case ErrorPolicy::kRemountReadOnly:
        EXPECT_EQ(made.error(), Errno(EROFS));
        EXPECT_EQ(fs.access(), cache::Access::kReadOnly);
        EXPECT_TRUE(fs.lookup(kRootInode, "good"));
        break;
      case ErrorPolicy::kShutDown:
        EXPECT_EQ(made.error(), Errno(EIO));
        EXPECT_EQ(fs.lookup(kRootInode, "good").error(), Errno(EIO));
        EXPECT_EQ(fs.statistics().error(), Errno(EIO));
        break;
    }
    volume.unmount();
    EXPECT_EQ(peek<std::uint16_t>(volume, kState) & 3, 2);
    EXPECT_EQ(peek<std::uint32_t>(volume, 0x194), 1U);    // errors
    EXPECT_EQ(peek<std::uint32_t>(volume, 0x19c), file);  // first inode
    volume.mount();
    EXPECT_NE(volume.events.notices.back().find("with errors"), std::string::npos);
    volume.unmount();
  }
}

TEST(Volume, IdleMountIsFast) {
  TestVolume volume("-t ext4 -b 4096", "1G");
  const auto begin = std::chrono::steady_clock::now();
  auto& fs = volume.mount();
  EXPECT_TRUE(fs.write_back());
  EXPECT_TRUE(fs.unmount());
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  std::printf("mount and unmount: %.1f ms\n", took.count());
  EXPECT_LT(took.count(), 1000.0);
}

}  // namespace
}  // namespace fuse4fs::ext4
