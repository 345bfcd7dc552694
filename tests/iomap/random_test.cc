// SPDX-License-Identifier: GPL-2.0-or-later
// Threads that do random things, on a server that makes no mistake: nothing is reported, and no block is
// lost.
#include <gtest/gtest.h>

#include "tests/iomap/allocating_mount.h"
#include "tests/iomap/random_load.h"

namespace fuse4fs::iomap_model {
namespace {

using Remember = AllocatingOptions::Remember;

struct Kind {
  std::string_view name;
  Remember remember = Remember::kNothing;
  Quirks quirks{};
  std::size_t folio_size = 4096;
  std::uint64_t block_size = 4096;
  std::uint64_t inline_bytes = 0;
  std::uint64_t largest_file = 256 << 10;
  std::uint32_t cache_max_bytes = 262144;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class RandomTest : public ::testing::TestWithParam<Kind> {};

TEST_P(RandomTest, NothingIsReported) {
  const Kind& kind = GetParam();
  AllocatingMount::Options options;
  options.server.remember = kind.remember;
  options.server.inline_bytes = kind.inline_bytes;
  options.server.shape.block_size = kind.block_size;
  options.mount.kernel.quirks = kind.quirks;
  options.mount.kernel.folio_size = kind.folio_size;
  options.mount.kernel.cache_max_bytes = kind.cache_max_bytes;
  AllocatingMount mount(options);
  Kernel& kernel = mount.kernel();
  ASSERT_TRUE(kernel.mount());
  const std::uint64_t free_blocks = mount.server().free_blocks();
  const bool by_cache = kind.remember == Remember::kByCache;
  RandomLoad load(kernel, {.largest_file = kind.largest_file,
                           .seed = 7,
                           .memory = by_cache ? LoadOptions::Memory::kShort : LoadOptions::Memory::kPlenty});
  ASSERT_TRUE(load.prepare());
  load.run();
  ASSERT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
  const auto judged = load.judge();
  EXPECT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
  ASSERT_TRUE(judged) << judged.error().message();
  ASSERT_TRUE(load.unlink_all());
  ASSERT_TRUE(kernel.unmount());
  EXPECT_EQ(mount.server().free_blocks(), free_blocks);
  EXPECT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
}

INSTANTIATE_TEST_SUITE_P(
    All, RandomTest,
    ::testing::Values(
        Kind{.name = "Plain"}, Kind{.name = "Cached", .remember = Remember::kAnswers},
        Kind{.name = "V7", .quirks = Quirks::v7()},
        Kind{.name = "V7Cached", .remember = Remember::kAnswers, .quirks = Quirks::v7()},
        Kind{.name = "NoEnd", .quirks = {Quirk::kEndNotSent}},
        Kind{.name = "LargeFolios", .remember = Remember::kAnswers, .folio_size = 65536},
        Kind{.name = "SmallBlocks", .folio_size = 4096, .block_size = 1024},
        Kind{.name = "SmallBlocksInLargeFolios", .folio_size = 16384, .block_size = 1024},
        Kind{.name = "SmallCache", .remember = Remember::kAnswers, .cache_max_bytes = 256},
        Kind{.name = "ByCache", .remember = Remember::kByCache, .quirks = Quirks::v7()},
        Kind{.name = "ByCacheInLargeFolios", .remember = Remember::kByCache, .folio_size = 65536},
        Kind{.name = "Inline", .inline_bytes = 160, .largest_file = 3000}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::iomap_model
