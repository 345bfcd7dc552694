// SPDX-License-Identifier: GPL-2.0-or-later
// Applications at work while memory is short everywhere: the kernel drops pages and keeps next to no
// mappings, the server gives up its blocks of metadata at any time and has one thread, or several.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/iomap/engine_mount.h"
#include "tests/iomap/environment.h"
#include "tests/iomap/random_load.h"

namespace fuse4fs::iomap_model {
namespace {

struct Shortage {
  std::string_view name;
  const char* mke2fs = "-t ext4 -b 4096";
  std::size_t workers = 4;
  std::uint32_t cache_max_bytes = 256;
};
void PrintTo(const Shortage& shortage, std::ostream* out) { *out << shortage.name; }

class EnginePressure : public ::testing::TestWithParam<Shortage> {};

TEST_P(EnginePressure, NothingIsReported) {
  const Shortage& shortage = GetParam();
  for (std::uint64_t seed = first_seed(); seed < first_seed() + number_of_seeds() && !HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("FUSE4FS_SEED={}", seed));
    EngineMount mount(shortage.mke2fs, "64M", EngineMount::Fill::kOldData);
    TestMount::Options options;
    options.kernel.quirks = Quirks::v7();
    options.kernel.cache_max_bytes = shortage.cache_max_bytes;
    options.workers = shortage.workers;
    Kernel& kernel = mount.mount(options);
    RandomLoad load(
        kernel,
        {.files = 6, .threads = 6, .operations = 150, .seed = seed, .memory = LoadOptions::Memory::kShort});
    ASSERT_TRUE(load.prepare());
    std::atomic<bool> ends = false;
    std::size_t times = 0;
    std::jthread pressing([&] {
      for (; !ends; ++times) mount.server().shrink();
    });
    for (int round = 0; round < 3 && kernel.breaches().empty(); ++round) {
      load.run();
      mount.tick();
    }
    ends = true;
    pressing.join();
    EXPECT_GT(times, 1U);
    ASSERT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
    const auto judged = load.judge();
    EXPECT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
    ASSERT_TRUE(judged) << judged.error().message();
    mount.unmount_and_check();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, EnginePressure,
    ::testing::Values(Shortage{.name = "ManyThreads"}, Shortage{.name = "OneThread", .workers = 1},
                      Shortage{.name = "OneThreadThatIsRemembered", .workers = 1, .cache_max_bytes = 262144},
                      Shortage{.name = "SmallBlocks", .mke2fs = "-t ext4 -b 1024"},
                      Shortage{.name = "Indirect", .mke2fs = "-t ext2 -b 1024"},
                      Shortage{.name = "Clusters", .mke2fs = "-t ext4 -b 4096 -O bigalloc -C 16384"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::iomap_model
