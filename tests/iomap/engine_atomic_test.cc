// SPDX-License-Identifier: GPL-2.0-or-later
// Writes in one piece (RWF_ATOMIC) on the ext4 engine under the model of the kernel.
//
// FUSE4FS_SEED, FUSE4FS_SEEDS as in engine_test.cc.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/iomap/engine_mount.h"
#include "tests/iomap/environment.h"

namespace fuse4fs::iomap_model {
namespace {

using AtomicWrites = TestMount::Options::AtomicWrites;
using Bytes = std::vector<std::byte>;

constexpr const char* kPlain = "-t ext4 -b 4096";
constexpr std::uint64_t kBlock = 4096;

Errno error_of(const auto& outcome) { return outcome ? Errno(0) : outcome.error(); }

class AtomicWrite : public ::testing::Test {
 protected:
  void mount(const std::string& mke2fs = kPlain, AtomicWrites atomic_writes = AtomicWrites::kBlocks) {
    mount_ = std::make_unique<EngineMount>(mke2fs, "64M", EngineMount::Fill::kOldData);
    TestMount::Options options;
    options.kernel.quirks = Quirks::v7();
    options.atomic_writes = atomic_writes;
    mount_->mount(options);
    auto made = mount_->kernel().create("file");
    ASSERT_TRUE(made);
    file_ = *made;
  }
  Result<std::size_t> write(std::uint64_t position, std::size_t length) {
    return file_->direct_write(position, pattern(++writes_, position, length),
                               {.operation = iomap_abi::kOpAtomic});
  }
  std::uint64_t begins() { return mount_->kernel().counts()[iomap_abi::kBegin]; }
  Bytes content() {
    file_->drop_caches();
    Bytes bytes(file_->size());
    EXPECT_EQ(file_->read(0, bytes), bytes.size());
    return bytes;
  }

  std::unique_ptr<EngineMount> mount_;
  std::shared_ptr<File> file_;
  std::uint32_t writes_ = 0;
};

TEST_F(AtomicWrite, IntoAHoleAndOverItself) {
  mount();
  ASSERT_EQ(write(2 * kBlock, kBlock), kBlock);
  ASSERT_EQ(write(2 * kBlock, kBlock), kBlock);
  Bytes wanted(2 * kBlock);
  const auto last = pattern(2, 2 * kBlock, kBlock);
  wanted.insert(wanted.end(), last.begin(), last.end());
  EXPECT_TRUE(content() == wanted);
  EXPECT_TRUE(file_->judge_cache());
  mount_->unmount_and_check();
}

// What the kernel knows of the file says nothing of it, and the answer says nothing of the file.
TEST_F(AtomicWrite, IsAskedForEachTimeAndNeverRemembered) {
  mount();
  ASSERT_TRUE(file_->write(0, pattern(9, 0, 4 * kBlock)));
  ASSERT_TRUE(file_->sync());
  Bytes into(4 * kBlock);
  file_->drop_caches();
  ASSERT_TRUE(file_->read(0, into));
  const auto before = begins();
  ASSERT_EQ(write(0, kBlock), kBlock);
  EXPECT_EQ(begins(), before + 1);
  ASSERT_EQ(write(0, kBlock), kBlock);
  EXPECT_EQ(begins(), before + 2);
  // By what it was answered others would fail.
  ASSERT_EQ(file_->direct_write(0, pattern(10, 0, 4 * kBlock)), 4 * kBlock);
  EXPECT_TRUE(content() == pattern(10, 0, 4 * kBlock));
  mount_->unmount_and_check();
}

TEST_F(AtomicWrite, IsOneAlignedBlock) {
  mount("-t ext4 -b 1024");
  EXPECT_EQ(error_of(write(0, 2048)), Errno(EINVAL));
  EXPECT_EQ(error_of(write(0, 512)), Errno(EINVAL));
  EXPECT_EQ(error_of(write(512, 1024)), Errno(EINVAL));
  EXPECT_EQ(write(3072, 1024), 1024U);
  mount_->unmount_and_check();
}

TEST_F(AtomicWrite, IsNotOfADeviceThatCannot) {
  mount(kPlain, AtomicWrites::kNone);
  EXPECT_EQ(error_of(write(0, kBlock)), Errno(EOPNOTSUPP));
  EXPECT_EQ(begins(), 0U) << "the kernel knows";
  mount_->unmount_and_check();
}

TEST_F(AtomicWrite, IsNotOfFilesWithoutExtents) {
  mount("-t ext2 -b 4096");
  EXPECT_EQ(error_of(write(0, kBlock)), Errno(EOPNOTSUPP));
  EXPECT_EQ(begins(), 0U);
  mount_->unmount_and_check();
}

// The block stays unwritten, and nobody sees what it held before.
TEST_F(AtomicWrite, ThatFailsLeavesWhatWasThere) {
  mount();
  ASSERT_TRUE(file_->truncate(4 * kBlock));
  Bytes into(4 * kBlock);
  ASSERT_TRUE(file_->read(0, into));
  mount_->kernel().device()->fail_writes(1);
  EXPECT_EQ(error_of(write(kBlock, kBlock)), Errno(EIO));
  EXPECT_TRUE(content() == Bytes(4 * kBlock));
  ASSERT_EQ(write(kBlock, kBlock), kBlock);
  Bytes wanted(4 * kBlock);
  std::ranges::copy(pattern(2, kBlock, kBlock), wanted.begin() + kBlock);
  EXPECT_TRUE(content() == wanted);
  mount_->unmount_and_check();
}

struct Kind {
  std::string_view name;
  const char* mke2fs;
  std::uint64_t block = kBlock;
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class AtomicLoad : public ::testing::TestWithParam<Kind> {
 protected:
  // One random operation on `file`, noted in `wanted`.
  void step(File& file, Bytes& wanted);

  std::mt19937_64 random_;
  std::uint32_t operations_ = 0;
};

void AtomicLoad::step(File& file, Bytes& wanted) {
  const std::uint64_t block = GetParam().block;
  constexpr std::uint64_t kBlocks = 24;
  const std::uint64_t first = random_() % kBlocks;
  const std::uint64_t count = 1 + random_() % 6;
  const ByteRange range{.offset = first * block, .length = count * block};
  const auto noted = [&](const Bytes& bytes) {
    wanted.resize(std::max<std::size_t>(wanted.size(), range.offset + bytes.size()));
    std::ranges::copy(bytes, wanted.begin() + static_cast<std::ptrdiff_t>(range.offset));
  };
  ++operations_;
  switch (random_() % 8) {
    case 0: {
      const Bytes bytes = pattern(operations_, range.offset, range.length);
      const auto done = file.direct_write(range.offset, bytes);
      ASSERT_TRUE(done);
      return noted({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(*done)});
    }
    case 1: {
      const Bytes bytes = pattern(operations_, range.offset, range.length);
      ASSERT_EQ(file.write(range.offset, bytes), bytes.size());
      return noted(bytes);
    }
    case 2: {
      ASSERT_TRUE(file.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range));
      const std::uint64_t end = std::min<std::uint64_t>(range.offset + range.length, wanted.size());
      for (std::uint64_t at = range.offset; at < end; ++at) wanted[at] = std::byte{0};
      return;
    }
    case 3:
      ASSERT_TRUE(file.truncate(range.offset));
      return wanted.resize(range.offset);
    default: {
      const Bytes bytes = pattern(operations_, range.offset, block);
      ASSERT_EQ(file.direct_write(range.offset, bytes, {.operation = iomap_abi::kOpAtomic}), block);
      return noted(bytes);
    }
  }
}

TEST_P(AtomicLoad, BesideOtherWrites) {
  const std::uint64_t seed_begin = first_seed();
  for (std::uint64_t seed = seed_begin; seed < seed_begin + number_of_seeds() && !HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("FUSE4FS_SEED={}", seed));
    random_.seed(seed);
    EngineMount mount(GetParam().mke2fs, "64M", EngineMount::Fill::kOldData);
    TestMount::Options options;
    options.kernel.quirks = Quirks::v7();
    Kernel& kernel = mount.mount(options);
    const auto file = kernel.create("file");
    ASSERT_TRUE(file);
    Bytes wanted;
    for (int at = 0; at < 400; ++at) {
      ASSERT_NO_FATAL_FAILURE(step(**file, wanted)) << "operation " << at;
      if (at % 100 == 99) mount.tick();
      if (at % 20 != 19) continue;
      if (at % 40 == 39) (*file)->drop_caches();
      Bytes bytes((*file)->size());
      ASSERT_EQ((*file)->read(0, bytes), bytes.size());
      ASSERT_TRUE(bytes == wanted) << "after operation " << at;
      ASSERT_TRUE((*file)->judge_cache());
      ASSERT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
    }
    ASSERT_TRUE((*file)->sync());
    mount.unmount_and_check();
    const auto again = mount.mount(options).open("file");
    ASSERT_TRUE(again && (*again)->adopt());
    Bytes bytes((*again)->size());
    EXPECT_EQ((*again)->read(0, bytes), bytes.size());
    EXPECT_TRUE(bytes == wanted) << "after another mount";
    mount.unmount_and_check();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, AtomicLoad,
    ::testing::Values(Kind{.name = "Plain", .mke2fs = kPlain},
                      Kind{.name = "SmallBlocks", .mke2fs = "-t ext4 -b 1024", .block = 1024},
                      Kind{.name = "Clusters", .mke2fs = "-t ext4 -b 4096 -O bigalloc -C 16384"},
                      Kind{.name = "NoJournal", .mke2fs = "-t ext4 -b 4096 -O ^has_journal"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::iomap_model
