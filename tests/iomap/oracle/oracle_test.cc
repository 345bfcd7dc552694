// SPDX-License-Identifier: GPL-2.0-or-later
// The same random operations on our engine, under the model of the kernel, and on the kernel's own ext4 on a
// loop device: what they come to and what is there afterwards is the same, and each reads the other's volume.
//
// FUSE4FS_SEED, FUSE4FS_SEEDS: where to begin, and how many.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/iomap/engine_mount.h"
#include "tests/iomap/environment.h"
#include "tests/iomap/oracle/generator.h"
#include "tests/iomap/oracle/kernel_side.h"
#include "tests/iomap/oracle/model_side.h"
#include "tests/iomap/oracle/pair.h"
#include "tests/oracle/process.h"

namespace fuse4fs::iomap_model {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFiles = 2;
#ifdef FUSE4FS_SANITIZED
constexpr std::size_t kOperations = 200;
constexpr std::uint64_t kUsualSeeds = 1;
#else
constexpr std::size_t kOperations = 500;
constexpr std::uint64_t kUsualSeeds = 2;
#endif
constexpr std::size_t kBetweenLooks = 40;

struct Kind {
  std::string_view name;
  const char* mke2fs = "-t ext4 -b 4096";
  Quirks quirks = Quirks::v7();
  std::size_t folio_size = 4096;
  std::uint32_t cache_max_bytes = 262144;
  GeneratorOptions generator{};
  enum class Maps { kExtents, kIndirect };
  Maps maps = Maps::kExtents;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

TestMount::Options mount_options(const Kind& kind) {
  TestMount::Options options;
  options.kernel.quirks = kind.quirks;
  options.kernel.folio_size = kind.folio_size;
  options.kernel.cache_max_bytes = kind.cache_max_bytes;
  return options;
}

// One volume twice: ours, and the kernel's mount of a copy.
class TwoVolumes {
 public:
  TwoVolumes(const Kind& kind, const std::string& size)
      : options_(mount_options(kind)), ours_(kind.mke2fs, size, EngineMount::Fill::kNothing) {
    kernels_image_ = ours_.image().string() + ".kernels";
    point_ = ours_.image().string() + ".point";
    fs::create_directory(point_);
    oracle::copy_image(ours_.image(), kernels_image_);
    ours_.mount(options_);
    ours_side_.emplace(kernel(), ours_.server(), kFiles);
    kernels_side_.emplace(kernels_image_, point_, KernelSide::Writing::kAllowed, kFiles);
    pair_.emplace(*ours_side_, *kernels_side_, kFiles);
  }

  Kernel& kernel() { return ours_.kernel(); }
  std::uint64_t largest_file() { return ours_.server().mappings()->mapping_limits().largest_file; }
  Pair& pair() { return *pair_; }

  // Both are unmounted, checked, and read by the other.
  [[nodiscard]] std::string change_places() {
    pair_.reset();
    ours_side_.reset();
    kernels_side_.reset();
    ours_.unmount_and_check();
    // Kernels up to 6.18 at least lose count of i_blocks with clusters: that is mended, and nothing else.
    const auto judged = oracle::run({"e2fsck", "-fn", kernels_image_});
    if (judged.status != 0 && judged.output.find("i_blocks is") == std::string::npos)
      return "the kernel's: " + judged.output;
    if (judged.status != 0) (void)oracle::run({"e2fsck", "-fp", kernels_image_});
    EngineMount other(kernels_image_);
    Kernel& reader = other.mount(options_);
    ModelSide theirs_read_by_us(reader, other.server(), kFiles);
    for (std::size_t file = 0; file < kFiles; ++file)
      if (const auto adopted = theirs_read_by_us.adopt(file); !adopted)
        return "not read: " + adopted.error().message();
    std::string wrong;
    {
      KernelSide ours_read_by_them(ours_.image(), point_, KernelSide::Writing::kForbidden, kFiles);
      Pair swapped(theirs_read_by_us, ours_read_by_them, kFiles);
      wrong = swapped.compare_contents();
      for (std::size_t file = 0; file < kFiles && wrong.empty(); ++file)
        wrong = compare_sectors(file, ours_read_by_them.layout(file).sectors,
                                theirs_read_by_us.layout(file).sectors);
    }
    other.unmount_and_check();
    return wrong.empty() ? "" : "the other's volume: " + wrong;
  }

 private:
  // What was mapped ahead and jumped over lies within the file and stays, as unwritten blocks; behind its end
  // there is nothing of it any more.
  static std::string compare_sectors(std::size_t file, std::uint64_t ours, std::uint64_t kernels) {
    constexpr std::uint64_t kJumpedOver = (1 << 20) / 512;
    if (ours <= kernels + kJumpedOver) return "";
    return fmt::format("file{} has {} sectors, the kernel's {}", file, ours, kernels);
  }

  const TestMount::Options options_;
  EngineMount ours_;
  fs::path kernels_image_, point_;
  std::optional<ModelSide> ours_side_;
  std::optional<KernelSide> kernels_side_;
  std::optional<Pair> pair_;
};

// Around the end of what a file can be.
std::vector<Operation> at_the_limit(std::uint64_t limit, Kind::Maps maps) {
  using enum Operation::Kind;
  std::vector<Operation> all;
  for (const std::uint64_t position : {limit - 1, limit, limit + 4095, limit - 5000}) {
    all.push_back({.kind = kWrite, .position = position, .length = 1, .key = 99});
    all.push_back({.kind = kWrite, .position = position, .length = 6000, .key = 99});
    all.push_back({.kind = kTruncate, .position = position});
    // Without extents it is refused, for whichever reason.
    if (maps == Kind::Maps::kExtents)
      all.push_back({.kind = kAllocate, .position = position, .length = 4096});
    all.push_back({.kind = kRead, .position = position, .length = 6000});
    all.push_back({.kind = kPunch, .position = position - 8192, .length = 4096});
    all.push_back({.kind = kTruncate, .position = 100});
  }
  return all;
}

class EngineOracle : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (const auto why = KernelSide::impossible(); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_P(EngineOracle, DoesWhatTheKernelsDoes) {
  const Kind& kind = GetParam();
  Pair::Allowed allowed;
  const std::uint64_t first = first_seed();
  for (std::uint64_t seed = first; seed < first + number_of_seeds(kUsualSeeds); ++seed) {
    SCOPED_TRACE(fmt::format("FUSE4FS_SEED={}", seed));
    TwoVolumes volumes(kind, "64M");
    Pair& pair = volumes.pair();
    GeneratorOptions options = kind.generator;
    options.seed = seed;
    options.files = kFiles;
    Generator generator(options);
    const auto done = [&](const std::string& wrong) {
      EXPECT_EQ(wrong, "") << pair.history();
      EXPECT_TRUE(volumes.kernel().breaches().empty())
          << volumes.kernel().breaches().words() << pair.history();
      return !HasFailure();
    };
    for (std::size_t at = 1; at <= kOperations; ++at) {
      ASSERT_TRUE(done(pair.apply(generator.next(pair.sizes()))));
      if (at % kBetweenLooks != 0) continue;
      ASSERT_TRUE(done(pair.look_closely()));
    }
    if (seed % 2 == 0) {
      for (const Operation& operation : at_the_limit(volumes.largest_file(), kind.maps))
        ASSERT_TRUE(done(pair.apply(operation)));
    }
    ASSERT_TRUE(done(pair.look_closely()));
    allowed.layouts += pair.allowed().layouts;
    allowed.maps += pair.allowed().maps;
    allowed.seeks += pair.allowed().seeks;
    EXPECT_EQ(volumes.change_places(), "");
    ASSERT_FALSE(HasFailure());
  }
  fmt::print("{} maps compared, {} ranges of zeros were data on one side only, {} seeks\n", allowed.maps,
             allowed.layouts, allowed.seeks);
}

INSTANTIATE_TEST_SUITE_P(
    All, EngineOracle,
    ::testing::Values(
        Kind{.name = "Plain", .quirks = {}}, Kind{.name = "V7"},
        Kind{.name = "NoEnd", .quirks = {Quirk::kEndNotSent}},
        Kind{.name = "LargeFolios", .folio_size = 65536}, Kind{.name = "SmallCache", .cache_max_bytes = 256},
        Kind{.name = "SmallBlocks", .mke2fs = "-t ext4 -b 1024"},
        Kind{.name = "Clusters", .mke2fs = "-t ext4 -b 4096 -O bigalloc -C 16384"},
        Kind{.name = "Indirect",
             .mke2fs = "-t ext4 -b 4096 -O ^extents,^64bit",
             .maps = Kind::Maps::kIndirect},
        Kind{.name = "IndirectSmallBlocks", .mke2fs = "-t ext2 -b 1024", .maps = Kind::Maps::kIndirect},
        Kind{.name = "Inline",
             .mke2fs = "-t ext4 -b 4096 -O inline_data",
             .generator = {.largest_file = 600,
                           .largest_range = 300,
                           .offsets = GeneratorOptions::Offsets::kNear,
                           .allocations = GeneratorOptions::Allocations::kNone}},
        Kind{.name = "NoJournal", .mke2fs = "-t ext4 -b 4096 -O ^has_journal"}),
    [](const auto& info) { return std::string(info.param.name); });

// Room for less than what is written.
class FullOracle : public EngineOracle {};

TEST_P(FullOracle, IsFullWhenTheKernelsIs) {
  const Kind& kind = GetParam();
  Pair::Allowed allowed;
  const std::uint64_t first = first_seed();
  for (std::uint64_t seed = first; seed < first + number_of_seeds(kUsualSeeds); ++seed) {
    SCOPED_TRACE(fmt::format("FUSE4FS_SEED={}", seed));
    TwoVolumes volumes(kind, "1M");
    volumes.kernel().core().causes.set({ENOSPC});
    Pair& pair = volumes.pair();
    Generator generator({.seed = seed,
                         .files = kFiles,
                         .largest_file = 2 << 20,
                         .largest_range = 300 << 10,
                         .offsets = GeneratorOptions::Offsets::kNear,
                         .stores = GeneratorOptions::Stores::kNone});
    // What either side keeps for its own: blocks ahead, blocks of maps, those not yet released.
    constexpr std::uint64_t kSlack = 128 << 10;
    for (std::size_t at = 0; at < kOperations; ++at) {
      ASSERT_EQ(pair.apply_when_full(generator.next(pair.sizes()), kSlack), "") << pair.history();
      ASSERT_TRUE(volumes.kernel().breaches().empty())
          << volumes.kernel().breaches().words() << pair.history();
    }
    ASSERT_EQ(pair.look_closely(), "") << pair.history();
    allowed.full += pair.allowed().full;
    allowed.both_full += pair.allowed().both_full;
    EXPECT_EQ(volumes.change_places(), "");
    ASSERT_FALSE(HasFailure());
  }
  fmt::print("both full {} times, one of them {} times\n", allowed.both_full, allowed.full);
  EXPECT_GT(allowed.both_full + allowed.full, 0U);
}

INSTANTIATE_TEST_SUITE_P(
    All, FullOracle,
    ::testing::Values(Kind{.name = "V7", .mke2fs = "-t ext4 -b 4096 -O ^has_journal -N 16 -m 0"},
                      Kind{.name = "SmallBlocks", .mke2fs = "-t ext4 -b 1024 -O ^has_journal -N 16 -m 0"},
                      Kind{.name = "Indirect", .mke2fs = "-t ext2 -b 1024 -N 16 -m 0"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::iomap_model
