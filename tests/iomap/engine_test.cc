// SPDX-License-Identifier: GPL-2.0-or-later
// The ext4 engine answers the model of the kernel: nothing is reported, e2fsck finds nothing, and what was
// synced is there after another mount.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/iomap/engine_mount.h"
#include "tests/iomap/environment.h"
#include "tests/iomap/random_load.h"

namespace fuse4fs::iomap_model {
namespace {

struct Kind {
  std::string_view name;
  const char* mke2fs = "-t ext4 -b 4096";
  Quirks quirks = Quirks::v7();
  std::size_t folio_size = 4096;
  std::size_t completions_at_once = 1;
  std::uint32_t cache_max_bytes = 262144;
  // Several mounts of several files each.
  std::uint64_t largest_file = 256 << 10;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class EngineLoad : public ::testing::TestWithParam<Kind> {};

using Contents = std::vector<std::vector<std::byte>>;
constexpr std::size_t kFiles = 4;

// As a kernel reads it. Not as the ledgers have it, which do not know who won where two wrote at once.
Contents contents(Kernel& kernel) {
  Contents all;
  for (std::size_t at = 0; at < kFiles; ++at) {
    const auto file = kernel.open("file" + std::to_string(at));
    EXPECT_TRUE(file);
    if (!file) continue;
    all.emplace_back((*file)->size());
    EXPECT_EQ((*file)->read(0, all.back()), all.back().size());
  }
  return all;
}

// To a kernel that knows nothing of them the files are what they are.
void adopt(Kernel& kernel) {
  for (std::size_t at = 0; at < kFiles; ++at) {
    const auto file = kernel.open("file" + std::to_string(at));
    EXPECT_TRUE(file && (*file)->adopt());
  }
}

TEST_P(EngineLoad, NothingIsReported) {
  const Kind& kind = GetParam();
  for (std::uint64_t seed = first_seed(); seed < first_seed() + number_of_seeds() && !HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("FUSE4FS_SEED={}", seed));
    EngineMount mount(kind.mke2fs, "64M", EngineMount::Fill::kOldData);
    TestMount::Options options;
    options.kernel.quirks = kind.quirks;
    options.kernel.folio_size = kind.folio_size;
    options.kernel.completions_at_once = kind.completions_at_once;
    options.kernel.cache_max_bytes = kind.cache_max_bytes;
    Kernel& kernel = mount.mount(options);
    RandomLoad load(kernel, {.files = kFiles,
                             .largest_file = kind.largest_file,
                             .seed = seed,
                             .memory = LoadOptions::Memory::kShort});
    ASSERT_TRUE(load.prepare());
    for (int round = 0; round < 4 && kernel.breaches().empty() && !HasFailure(); ++round) {
      load.run();
      mount.tick(std::chrono::seconds(25));
    }
    ASSERT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
    const auto judged = load.judge();
    EXPECT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
    ASSERT_TRUE(judged) << judged.error().message();
    if (seed % 4 == 0) {
      ASSERT_TRUE(load.unlink_all());
      mount.unmount_and_check();
      continue;
    }
    const auto before = contents(kernel);
    mount.unmount_and_check();
    Kernel& another = mount.mount(options);
    adopt(another);
    EXPECT_TRUE(contents(another) == before) << "another mount reads something else";
    mount.unmount_and_check();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, EngineLoad,
    ::testing::Values(
        Kind{.name = "Plain", .quirks = {}}, Kind{.name = "V7"},
        Kind{.name = "NoEnd", .quirks = {Quirk::kEndNotSent}},
        Kind{.name = "NoAppend", .quirks = Quirks::v7().with(Quirk::kDirectAppendsUnsaid)},
        Kind{.name = "LargeFolios", .folio_size = 65536},
        Kind{.name = "MergedCompletions", .completions_at_once = 8},
        Kind{.name = "SmallCache", .cache_max_bytes = 256},
        Kind{.name = "SmallBlocks", .mke2fs = "-t ext4 -b 1024"},
        Kind{.name = "SmallBlocksInLargeFolios", .mke2fs = "-t ext4 -b 1024", .folio_size = 16384},
        Kind{.name = "Clusters", .mke2fs = "-t ext4 -b 4096 -O bigalloc -C 16384"},
        Kind{.name = "Indirect", .mke2fs = "-t ext4 -b 4096 -O ^extents,^64bit"},
        Kind{.name = "IndirectSmallBlocks", .mke2fs = "-t ext2 -b 1024"},
        Kind{.name = "IndirectNoAppend",
             .mke2fs = "-t ext4 -b 4096 -O ^extents,^64bit",
             .quirks = Quirks::v7().with(Quirk::kDirectAppendsUnsaid)},
        Kind{.name = "Inline", .mke2fs = "-t ext4 -b 4096 -O inline_data", .largest_file = 3000},
        Kind{.name = "NoJournal", .mke2fs = "-t ext4 -b 4096 -O ^has_journal"},
        Kind{.name = "LargeFiles", .largest_file = 8 << 20}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(EngineWords, StandBesideABreach) {
  EngineMount mount("-t ext4 -b 4096", "16M", EngineMount::Fill::kNothing);
  Kernel& kernel = mount.mount();
  const auto file = kernel.create("file");
  ASSERT_TRUE(file);
  EXPECT_EQ(kernel.breaches().words(), "");
  // Of a write that nobody asked a mapping for.
  EXPECT_FALSE((*file)->mapper().ioend({.flags = iomap_abi::kIoendWriteback | iomap_abi::kIoendUnwritten,
                                        .range = {.offset = 0, .length = 4096}}));
  EXPECT_EQ(kernel.breaches().rules(), std::set<Rule>{Rule::kIoendRefused});
  EXPECT_NE(kernel.breaches().words().find("blocks 0 to 0, which it does not have"), std::string::npos)
      << kernel.breaches().words();
}

}  // namespace
}  // namespace fuse4fs::iomap_model
