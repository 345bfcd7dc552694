// SPDX-License-Identifier: GPL-2.0-or-later
// One program after the other's manner of fsx: thousands of operations on a file and one beside it, each read
// compared with what memory holds. The model's ledger has no say in it.
//
// FUSE4FS_SEED, FUSE4FS_SEEDS: where to begin, and how many.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>

#include "tests/iomap/allocating_mount.h"
#include "tests/iomap/engine_mount.h"
#include "tests/iomap/environment.h"
#include "tests/iomap/oracle/generator.h"
#include "tests/iomap/oracle/memory_side.h"
#include "tests/iomap/oracle/model_side.h"

namespace fuse4fs::iomap_model {
namespace {

constexpr std::size_t kFiles = 2;
#ifdef FUSE4FS_SANITIZED
constexpr std::size_t kOperations = 800;
#else
constexpr std::size_t kOperations = 4000;
#endif

// Up to the first thing that is wrong: what, and the operations before it.
std::string exercise(ModelSide& side, std::uint64_t block_size, const GeneratorOptions& options,
                     std::size_t operations) {
  constexpr std::size_t kHistory = 50;
  MemorySide memory(kFiles, block_size);
  Generator generator(options);
  std::deque<std::string> history;
  for (std::size_t at = 0; at < operations; ++at) {
    const Operation operation = generator.next(memory.sizes());
    const Outcome outcome = side.apply(operation);
    history.push_back(fmt::format("{:5} {}: {}", at, describe(operation), describe(outcome)));
    if (history.size() > kHistory) history.pop_front();
    std::string wrong = memory.judge(operation, outcome);
    for (std::size_t file = 0; file < kFiles && wrong.empty(); ++file)
      if (side.size(file) != memory.size(file))
        wrong =
            fmt::format("file{} has a size of {} instead of {}", file, side.size(file), memory.size(file));
    if (wrong.empty()) continue;
    for (const auto& line : history) wrong += "\n" + line;
    return wrong;
  }
  return "";
}

GeneratorOptions generator_options(std::uint64_t seed) {
  return {.seed = seed, .files = kFiles, .offsets = GeneratorOptions::Offsets::kNear};
}

struct Kind {
  std::string_view name;
  const char* mke2fs = "-t ext4 -b 4096";
  std::uint64_t block_size = 4096;
  std::size_t folio_size = 4096;
  std::uint32_t cache_max_bytes = 262144;
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class Exerciser : public ::testing::TestWithParam<Kind> {};

TEST_P(Exerciser, ReadsWhatItWrote) {
  const Kind& kind = GetParam();
  const std::uint64_t first = first_seed();
  for (std::uint64_t seed = first; seed < first + number_of_seeds(); ++seed) {
    SCOPED_TRACE(fmt::format("FUSE4FS_SEED={}", seed));
    EngineMount mount(kind.mke2fs, "64M", EngineMount::Fill::kOldData);
    TestMount::Options options;
    options.kernel.quirks = Quirks::v7();
    options.kernel.folio_size = kind.folio_size;
    options.kernel.cache_max_bytes = kind.cache_max_bytes;
    Kernel& kernel = mount.mount(options);
    {
      ModelSide side(kernel, mount.server(), kFiles);
      ASSERT_EQ(exercise(side, kind.block_size, generator_options(seed), kOperations), "");
    }
    ASSERT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
    mount.unmount_and_check();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Exerciser,
    ::testing::Values(Kind{.name = "Plain"}, Kind{.name = "LargeFolios", .folio_size = 65536},
                      Kind{.name = "SmallCache", .cache_max_bytes = 256},
                      Kind{.name = "SmallBlocks", .mke2fs = "-t ext4 -b 1024", .block_size = 1024},
                      Kind{.name = "Clusters", .mke2fs = "-t ext4 -b 4096 -O bigalloc -C 16384"},
                      Kind{.name = "Indirect", .mke2fs = "-t ext2 -b 1024", .block_size = 1024},
                      Kind{.name = "Inline", .mke2fs = "-t ext4 -b 4096 -O inline_data"}),
    [](const auto& info) { return std::string(info.param.name); });

// That it would notice: a server loses what was written, or keeps what should be gone.
class ExerciserMistake : public ::testing::TestWithParam<Mistake> {};

std::string with_mistake(Mistake mistake) {
  AllocatingMount::Options options;
  options.server.mistake = mistake;
  AllocatingMount mount(options);
  EXPECT_TRUE(mount.kernel().mount());
  ModelSide side(mount.kernel(), mount.server(), kFiles);
  return exercise(side, 4096, generator_options(1), 800);
}

TEST_P(ExerciserMistake, IsNoticed) { EXPECT_NE(with_mistake(GetParam()), ""); }

INSTANTIATE_TEST_SUITE_P(All, ExerciserMistake,
                         ::testing::Values(Mistake::kTruncateFreesTooMuch, Mistake::kForgetsConversion,
                                           Mistake::kZeroRangeKeepsData, Mistake::kPunchKeepsData,
                                           Mistake::kMapsUninitialised, Mistake::kHoleReported,
                                           Mistake::kTruncatesInOpen),
                         [](const auto& info) {
                           for (const MistakeRow& row : mistakes())
                             if (row.mistake == info.param) return std::string(row.name);
                           return std::string("None");
                         });

TEST(ExerciserWithoutMistake, NothingIsNoticed) { EXPECT_EQ(with_mistake(Mistake::kNone), ""); }

}  // namespace
}  // namespace fuse4fs::iomap_model
