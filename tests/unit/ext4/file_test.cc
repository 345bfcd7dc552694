// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

constexpr auto kKeep = AttributeChanges::Privileges::kKeep;
constexpr auto kClear = AttributeChanges::Privileges::kClear;

class Full : public testing::TestWithParam<const char*> {};

TEST_P(Full, SaysSoAndStaysWhole) {
  TestVolume volume(GetParam(), "16M");
  auto& fs = volume.mount();
  const auto before = fs.statistics().value();
  const auto file = volume.make_file(kRootInode, "file");
  const std::string piece(300'000, 'x');
  std::uint64_t size = 0;
  Result<SectorCounts> done;
  while ((done = fs.write(file, size, bytes_of(piece), kKeep))) size += piece.size();
  EXPECT_EQ(done.error(), Errno(ENOSPC));
  const std::string crumb(100, 'c');
  while ((done = fs.write(file, size, bytes_of(crumb), kKeep))) size += crumb.size();
  EXPECT_EQ(done.error(), Errno(ENOSPC));
  EXPECT_EQ(fs.attributes(file)->size, size);
  // But for what extent trees may need.
  const bool extents = std::string_view(GetParam()).starts_with("-t ext4");
  EXPECT_LT(fs.statistics()->free_blocks, 40U + (extents ? before.blocks / 45 : 0));
  // No block for a directory; what is there can be overwritten, renamed and removed.
  Result<Attributes> made = fs.make(kRootInode, "d0", {.mode = S_IFDIR | 0755});
  for (int i = 1; made && i < 50; ++i)
    made = fs.make(kRootInode, fmt::format("d{}", i), {.mode = S_IFDIR | 0755});
  EXPECT_EQ(made.error(), Errno(ENOSPC));
  EXPECT_TRUE(fs.write(file, 1000, bytes_of(piece), kKeep));
  EXPECT_TRUE(fs.rename(kRootInode, "file", kRootInode, "file2", {.mode = RenameMode::kReplace}));
  ASSERT_TRUE(fs.sync());
  ASSERT_EQ(run("cp " + volume.image().string() + " " + volume.image().string() + ".copy").status, 0);
  const auto check = run("e2fsck -fn " + volume.image().string() + ".copy");
  EXPECT_EQ(check.status, 0) << check.output;
  EXPECT_TRUE(fs.unlink(kRootInode, "file2"));
  fs.forget(file, 1);
  EXPECT_GT(fs.statistics()->free_blocks + 60, before.free_blocks);
  EXPECT_TRUE(fs.make(kRootInode, "directory", {.mode = S_IFDIR | 0755}));
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());
}

INSTANTIATE_TEST_SUITE_P(Forms, Full,
                         testing::Values("-t ext4 -b 4096", "-t ext2 -b 1024", "-t ext4 -b 1024",
                                         "-t ext4 -b 1024 -O bigalloc,^resize_inode -C 16384"));

TEST(File, FragmentsNeedATreeAndGiveItBack) {
  for (const char* options : {"-t ext4 -b 1024", "-t ext3 -b 1024", "-t ext4 -b 4096 -O ^metadata_csum"}) {
    TestVolume volume(options);
    auto& fs = volume.mount();
    const auto before = fs.statistics()->free_blocks;
    const auto file = volume.make_file(kRootInode, "file");
    std::mt19937 random(7);
    std::vector<std::uint64_t> places(3000);
    for (std::size_t i = 0; i < places.size(); ++i) places[i] = i * 2 * 4096;
    std::shuffle(places.begin(), places.end(), random);
    for (const auto place : places) volume.write(file, place, std::to_string(place));
    for (const auto place : places)
      ASSERT_EQ(volume.read(file, place, std::to_string(place).size()), std::to_string(place));
    ASSERT_TRUE(fs.sync());
    ASSERT_TRUE(fs.set_attributes(file, {.size = 1500 * 8192}));
    EXPECT_EQ(volume.read(file, 1499 * 8192, 8), std::to_string(1499 * 8192));
    volume.unmount();
    ASSERT_EQ(volume.check(), "") << options;
    volume.mount();
    ASSERT_TRUE(volume.fs().unlink(kRootInode, "file"));
    EXPECT_EQ(volume.fs().statistics()->free_blocks, before) << options;
    EXPECT_EQ(volume.unmount_and_check(), "") << options;
    EXPECT_TRUE(volume.events.corruptions.empty());
  }
}

TEST(File, LimitsAreKept) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  const std::string text = "last";
  const std::uint64_t limit = ((std::uint64_t{1} << 32) - 1) * 4096;
  EXPECT_TRUE(fs.write(file, limit - 4, bytes_of(text), kKeep));
  EXPECT_EQ(volume.read(file, limit - 6, 10), std::string("\0\0last", 6));
  EXPECT_EQ(fs.write(file, limit - 3, bytes_of(text), kKeep).error(), Errno(EFBIG));
  EXPECT_EQ(fs.write(file, UINT64_MAX - 1, bytes_of(text), kKeep).error(), Errno(EFBIG));
  EXPECT_EQ(fs.set_attributes(file, {.size = limit + 1}).error(), Errno(EFBIG));
  EXPECT_TRUE(fs.set_attributes(file, {.size = limit}));
  EXPECT_EQ(volume.read(file, limit, 10), "");
  EXPECT_EQ(fs.write(kRootInode, 0, bytes_of(text), kKeep).error(), Errno(EISDIR));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(File, StaleBytesAreNotShown) {
  TestVolume volume;
  auto& fs = volume.mount();
  // Fill blocks with something, free them, and take them again in pieces.
  const auto secret = volume.make_file(kRootInode, "secret");
  volume.write(secret, 0, std::string(20'000'000, 's'));
  ASSERT_TRUE(fs.unlink(kRootInode, "secret"));
  fs.forget(secret, 1);
  const auto file = volume.make_file(kRootInode, "file");
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i)
    volume.write(file, random() % 15'000'000, std::string(1 + random() % 9000, 'o'));
  ASSERT_TRUE(fs.set_attributes(file, {.size = 14'000'001}));
  ASSERT_TRUE(fs.set_attributes(file, {.size = 15'000'000}));
  const auto all = volume.read(file, 0, 15'000'000);
  EXPECT_EQ(all.find('s'), std::string::npos);
  EXPECT_EQ(all.find('o', 14'000'001), std::string::npos);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(File, PrivilegesGo) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file", S_IFREG | 06755);
  volume.write(file, 0, "x");
  EXPECT_EQ(fs.attributes(file)->mode & 07777U, 06755U);
  const std::string text = "y";
  ASSERT_TRUE(fs.write(file, 0, bytes_of(text), kClear));
  EXPECT_EQ(fs.attributes(file)->mode & 07777U, 0755U);
  ASSERT_TRUE(fs.set_attributes(file, {.permissions = 06745}));
  ASSERT_TRUE(fs.set_attributes(file, {.size = 0, .privileges = kClear}));
  // setgid without the group's x was mandatory locking.
  EXPECT_EQ(fs.attributes(file)->mode & 07777U, 02745U);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(File, Times) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  for (const std::int64_t seconds :
       {std::int64_t{-2147483647}, std::int64_t{-1}, std::int64_t{0}, std::int64_t{2147483647},
        std::int64_t{2147483648}, std::int64_t{4294967296}, std::int64_t{15032385534}}) {
    const Timestamp time{seconds, 123'456'789};
    ASSERT_TRUE(fs.set_attributes(file, {.accessed = time, .modified = time, .changed = time}));
    const auto got = fs.attributes(file).value();
    for (const auto& one : {got.accessed, got.modified, got.changed}) {
      EXPECT_EQ(one.seconds, seconds);
      EXPECT_EQ(one.nanoseconds, 123'456'789U);
    }
  }
  ASSERT_TRUE(fs.set_attributes(file, {.modified = Timestamp{1LL << 40, 5}}));
  EXPECT_EQ(fs.attributes(file)->modified.seconds, 15032385535);
  EXPECT_GT(fs.attributes(file)->created->seconds, 1'700'000'000);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// Many threads over few files and directories; what each wrote last must be there, and e2fsck content.
TEST(Concurrency, EverybodyAtOnce) {
  TestVolume volume("-t ext4 -b 4096", "256M");
  auto& fs = volume.mount();
  const auto shared = volume.make_file(kRootInode, "shared");
  const auto directory = volume.make_directory(kRootInode, "directory");
  constexpr int kThreads = 6;
  constexpr std::size_t kSlice = 1 << 20;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      std::vector<std::byte> buffer(200'000);
      std::vector<std::byte> back(200'000);
      for (int i = 0; i < 60; ++i) {
        // Each its own slice of the shared file, which grows and has no gaps of anybody's else.
        const std::size_t length = 1 + random() % buffer.size();
        const std::uint64_t offset = static_cast<std::uint64_t>(t) * kSlice + random() % (kSlice - length);
        std::fill(buffer.begin(), buffer.end(), static_cast<std::byte>(i + 1));
        if (!fs.write(shared, offset, std::span(buffer).first(length), kKeep)) ++wrong;
        const auto got = fs.read(shared, offset, std::span(back).first(length));
        if (!got || *got != length ||
            !std::equal(back.begin(), back.begin() + static_cast<std::ptrdiff_t>(length), buffer.begin()))
          ++wrong;
        const auto name = fmt::format("file {} {}", t, i);
        const auto made = fs.make(directory, name, {.mode = S_IFREG | 0644});
        if (!made || !fs.write(made->inode, 0, std::span(buffer).first(length / 7 + 1), kKeep)) {
          ++wrong;
          continue;
        }
        switch (i % 5) {
          case 0:
            if (!fs.unlink(directory, name)) ++wrong;
            break;
          case 1:
            if (!fs.rename(directory, name, kRootInode, name, {.mode = RenameMode::kReplace})) ++wrong;
            break;
          case 2:
            if (!fs.set_attributes(made->inode, {.size = 5})) ++wrong;
            break;
          case 3:
            if (!fs.sync_inode(made->inode, FileSystem::SyncWhat::kAll)) ++wrong;
            break;
          default:
            (void)fs.lookup(directory, fmt::format("file {} {}", (t + 1) % kThreads, i));
            (void)fs.read_directory(directory, 0, [](const DirectoryEntry&) { return true; });
            (void)fs.write_back();
        }
        fs.forget(made->inode, 1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());
}

// One grows, cuts and reads what the others write: nobody may see foreign bytes.
TEST(Concurrency, CuttingWhileOthersWrite) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto filler = volume.make_file(kRootInode, "filler");
  volume.write(filler, 0, std::string(30'000'000, 'F'));
  ASSERT_TRUE(fs.unlink(kRootInode, "filler"));
  fs.forget(filler, 1);
  const auto file = volume.make_file(kRootInode, "file");
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      const std::string text(150'000, static_cast<char>('a' + t));
      while (!stop) {
        if (!fs.write(file, random() % 2'000'000, bytes_of(text), kKeep)) ++wrong;
      }
    });
  }
  threads.emplace_back([&] {
    std::mt19937 random(99);
    for (int i = 0; i < 150; ++i) {
      if (!fs.set_attributes(file, {.size = random() % 2'000'000})) ++wrong;
    }
    stop = true;
  });
  threads.emplace_back([&] {
    std::string back(300'000, 0);
    std::mt19937 random(98);
    while (!stop) {
      const auto got = fs.read(file, random() % 2'000'000, std::as_writable_bytes(std::span(back)));
      if (!got || back.substr(0, *got).find('F') != std::string::npos) ++wrong;
    }
  });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
