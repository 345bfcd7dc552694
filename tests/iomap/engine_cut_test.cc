// SPDX-License-Identifier: GPL-2.0-or-later
// The power fails at any point of what engine and kernel did on the device: what was synced is there, nothing
// shows what blocks held before.
//
// FUSE4FS_SEED, FUSE4FS_SEEDS: the first load, and how many. FUSE4FS_CUTS: so many cuts of each.
// FUSE4FS_E2FSCK: with what e2fsck said. FUSE4FS_KEEP: a directory for the images that are wrong.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <thread>

#include "tests/devices/memory_backend.h"
#include "tests/devices/recording_backend.h"
#include "tests/iomap/engine_mount.h"
#include "tests/iomap/environment.h"
#include "tests/iomap/load_history.h"
#include "tests/iomap/random_load.h"
#include "tests/iomap/recovered_volume.h"

namespace fuse4fs::iomap_model {
namespace {

using cache::Recording;
using cache::Survival;

struct Kind {
  std::string_view name;
  const char* mke2fs = "-t ext4 -b 4096";
  std::size_t block_size = 4096;
  LoadHistory::Ends ends = LoadHistory::Ends::kExact;
  std::size_t folio_size = 4096;
  Quirks quirks = Quirks::v7();
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

#ifdef FUSE4FS_SANITIZED
constexpr std::size_t kCuts = 6;
#else
constexpr std::size_t kCuts = 15;
#endif

// A load that ran on a device that was recorded.
class RecordedLoad {
 public:
  RecordedLoad(const Kind& kind, std::uint64_t seed);

  // Changes of all kinds, and then writes over what is there; a write-back of the engine now and then.
  void run();
  // The engine is gone while it is in the middle of it.
  void run_and_kill();

  [[nodiscard]] Recording& recording() { return *recording_; }
  [[nodiscard]] const LoadHistory& history() const { return history_; }
  [[nodiscard]] std::size_t begin() const { return begin_; }

 private:
  [[nodiscard]] LoadOptions load_options(LoadOptions::Blocks blocks);
  void tick_until(const std::atomic<bool>& ends);

  EngineMount mount_;
  std::shared_ptr<Recording> recording_ = std::make_shared<Recording>();
  LoadHistory history_;
  const std::uint64_t seed_;
  std::optional<RandomLoad> load_;
  std::size_t begin_ = 0;
};

std::vector<std::byte> bytes_of(const std::filesystem::path& path) {
  std::vector<std::byte> bytes(std::filesystem::file_size(path));
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

RecordedLoad::RecordedLoad(const Kind& kind, std::uint64_t seed)
    : mount_(kind.mke2fs, "16M", EngineMount::Fill::kOldData),
      history_([this] { return recording_->count(); }, {.ends = kind.ends}),
      seed_(seed) {
  TestMount::Options options;
  options.kernel.quirks = kind.quirks;
  options.kernel.folio_size = kind.folio_size;
  auto memory =
      std::make_unique<cache::MemoryBackend>(std::make_shared<cache::Memory>(bytes_of(mount_.image())));
  Kernel& kernel = mount_.mount(
      options, {.medium = std::make_shared<cache::RecordingBackend>(std::move(memory), recording_)});
  begin_ = recording_->count();
  load_.emplace(kernel, load_options(LoadOptions::Blocks::kChange));
  EXPECT_TRUE(load_->prepare());
}

LoadOptions RecordedLoad::load_options(LoadOptions::Blocks blocks) {
  return {.files = 8,
          .operations = 100,
          .largest_file = 128 << 10,
          .seed = seed_,
          .blocks = blocks,
          .memory = LoadOptions::Memory::kShort,
          .syncs = LoadOptions::Syncs::kMany,
          .burst = 8,
          .history = &history_,
          .expected_errors = {ENOTCONN}};
}

void RecordedLoad::tick_until(const std::atomic<bool>& ends) {
  // Whenever something has been done, so that there is something to write. Time passes faster than it does,
  // but not so fast that transfers would last for as long as none does.
  constexpr int kFaster = 30;
  const auto begin = std::chrono::steady_clock::now();
  std::chrono::seconds told(0);
  for (std::size_t last = 0; !ends;) {
    const std::size_t now = recording_->count();
    if (now < last + 50) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    const auto passed = std::chrono::duration_cast<std::chrono::seconds>(
        kFaster * (std::chrono::steady_clock::now() - begin));
    mount_.tick(passed - std::exchange(told, passed));
    last = recording_->count();
  }
}

void RecordedLoad::run() {
  std::atomic<bool> ends = false;
  std::jthread ticks([&] { tick_until(ends); });
  load_->run();
  RandomLoad overwrites(mount_.kernel(), load_options(LoadOptions::Blocks::kFixed));
  EXPECT_TRUE(overwrites.prepare());
  overwrites.run();
  ends = true;
  ticks.join();
  const auto& breaches = mount_.kernel().breaches();
  EXPECT_TRUE(breaches.empty()) << "FUSE4FS_SEED=" << seed_ << "\n" << breaches.words();
  mount_.kill_server();
}

void RecordedLoad::run_and_kill() {
  std::jthread running([&] { load_->run(); });
  const std::size_t enough = recording_->count() + 200;
  while (recording_->count() < enough) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  mount_.kill_server();
  running.join();
  const auto& breaches = mount_.kernel().breaches();
  EXPECT_TRUE(breaches.empty()) << "FUSE4FS_SEED=" << seed_ << "\n" << breaches.words();
}

struct Tally {
  std::size_t cuts = 0, unjudged = 0, promised = 0, wrong = 0;
  std::size_t showed_old = 0;  // of those that are wrong: what somebody held before the volume was made
  std::string words;           // of the first that are wrong
};

void judge(const RecordedLoad& load, std::size_t cut, const Survival& survival, const Recording& recording,
           const ScratchDirectory& scratch, Tally& tally) {
  auto recovered = RecoveredVolume::from(recording.image_at(cut, survival), scratch);
  ++tally.cuts;
  if (recovered.judgement == RecoveredVolume::Judgement::kNone) {
    ++tally.unjudged;
    return;
  }
  tally.promised += load.history().files_promised_at(cut);
  auto lines = load.history().broken(cut, recovered.files, recovered.mended);
  lines.insert(lines.end(), recovered.complaints.begin(), recovered.complaints.end());
  if (lines.empty()) return;
  tally.showed_old += std::ranges::any_of(recovered.files, [](const auto& file) {
    return std::ranges::find(file.second.bytes, EngineMount::kOldByte) != file.second.bytes.end();
  });
  if (++tally.wrong > 3) return;
  tally.words += fmt::format("cut {} of {}, survival {}, chance {}:\n", cut, recording.operations().size(),
                             static_cast<int>(survival.kind), survival.seed);
  for (const auto& line : lines) tally.words += "  " + line + "\n";
  if (std::getenv("FUSE4FS_E2FSCK") != nullptr) tally.words += recovered.repair;
  if (const char* const directory = std::getenv("FUSE4FS_KEEP")) {
    const auto image = recording.image_at(cut, survival);
    std::ofstream(fmt::format("{}/cut-{}-{}", directory, cut, survival.seed), std::ios::binary)
        .write(reinterpret_cast<const char*>(image.data()), static_cast<std::streamsize>(image.size()));
  }
}

// Anywhere, and half of them where the device was flushed, or something was durable at once.
Tally judge_cuts(RecordedLoad& load, const Kind& kind, std::uint64_t seed, std::size_t cuts) {
  const Recording& recording = load.recording();
  const auto& operations = recording.operations();
  std::vector<std::size_t> barriers;
  for (std::size_t at = load.begin(); at < operations.size(); ++at)
    if (operations[at].kind != Recording::Operation::Kind::kWrite) barriers.push_back(at);
  const ScratchDirectory scratch;
  std::mt19937_64 random(seed);
  Tally tally;
  for (std::size_t number = 0; number < cuts; ++number) {
    std::size_t cut = load.begin() + random() % (operations.size() - load.begin() + 1);
    if (random() % 2 == 0 && !barriers.empty())
      cut = std::min(barriers[random() % barriers.size()] + random() % 3, operations.size());
    const auto chance = random();
    constexpr Survival::Kind kKinds[] = {Survival::Kind::kByChance, Survival::Kind::kByChance,
                                         Survival::Kind::kAll, Survival::Kind::kNone};
    // A block arrives whole or not at all: below that only a journal helps.
    judge(load, cut, {.kind = kKinds[chance % 4], .seed = chance, .piece = kind.block_size}, recording,
          scratch, tally);
  }
  return tally;
}

class EngineCut : public ::testing::TestWithParam<Kind> {};

TEST_P(EngineCut, KeepsWhatWasSyncedAndShowsNothingOld) {
  const Kind& kind = GetParam();
  const std::uint64_t first = first_seed();
  const std::uint64_t seeds = number_of_seeds();
  const std::size_t cuts = number_from_environment("FUSE4FS_CUTS", kCuts);
  Tally all;
  std::size_t operations = 0;
  for (std::uint64_t seed = first; seed < first + seeds && !HasFatalFailure(); ++seed) {
    RecordedLoad load(kind, seed);
    load.run();
    const Tally tally = judge_cuts(load, kind, seed, cuts);
    EXPECT_EQ(tally.wrong, 0U) << "FUSE4FS_SEED=" << seed << "\n" << tally.words;
    operations += load.recording().operations().size() - load.begin();
    all.cuts += tally.cuts;
    all.unjudged += tally.unjudged;
    all.promised += tally.promised;
    all.wrong += tally.wrong;
  }
  EXPECT_LE(all.unjudged, all.cuts / 10);
  fmt::print(
      "{}: {} loads, {} operations of the device, {} cuts, {} wrong, {} not judged, {} files that were "
      "synced and not changed since\n",
      kind.name, seeds, operations, all.cuts, all.wrong, all.unjudged, all.promised);
}

// Who does it in another order is found out.
enum class Mistake { kFlushesForgotten, kDataLate };

void make(Mistake mistake, std::vector<Recording::Operation>& operations) {
  using Operation = Recording::Operation;
  if (mistake == Mistake::kFlushesForgotten) {
    for (auto& operation : operations) operation.kind = Operation::Kind::kWrite;
    return;
  }
  // What the kernel writes goes behind what the server does about it.
  constexpr std::size_t kFlushes = 4;
  std::vector<Operation> late, all;
  std::size_t flushes = 0;
  for (auto& operation : operations) {
    const bool is_flush = operation.kind == Operation::Kind::kFlush;
    if (!is_flush && operation.path == Device::kPath) {
      late.push_back(std::move(operation));
      continue;
    }
    all.push_back(std::move(operation));
    if (!is_flush || ++flushes % kFlushes != 0) continue;
    std::ranges::move(late, std::back_inserter(all));
    late.clear();
  }
  std::ranges::move(late, std::back_inserter(all));
  operations = std::move(all);
}

class EngineCutMistake : public ::testing::TestWithParam<Mistake> {};

TEST_P(EngineCutMistake, IsFound) {
  const std::uint64_t seed = first_seed();
  const Kind kind{.name = "Plain"};
  RecordedLoad load(kind, seed);
  load.run();
  load.recording().rewrite([](auto& operations) { make(GetParam(), operations); });
  const Tally tally = judge_cuts(load, kind, seed, 40);
  EXPECT_GT(tally.wrong, 0U);
  if (GetParam() == Mistake::kDataLate) {
    EXPECT_GT(tally.showed_old, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EngineCutMistake,
                         ::testing::Values(Mistake::kFlushesForgotten, Mistake::kDataLate),
                         [](const auto& info) {
                           return info.param == Mistake::kDataLate ? "DataLate" : "FlushesForgotten";
                         });

// The server dies under load, without an unmount. What the kernel writes afterwards still arrives.
TEST_P(EngineCut, ServerDies) {
  const Kind& kind = GetParam();
  const std::uint64_t first = first_seed();
  const std::uint64_t seeds = number_of_seeds();
  Tally tally;
  const ScratchDirectory scratch;
  for (std::uint64_t seed = first; seed < first + seeds && tally.wrong == 0; ++seed) {
    RecordedLoad load(kind, seed);
    load.run_and_kill();
    const Recording& recording = load.recording();
    judge(load, recording.operations().size(), {.kind = Survival::Kind::kAll}, recording, scratch, tally);
    EXPECT_EQ(tally.wrong, 0U) << "FUSE4FS_SEED=" << seed << "\n" << tally.words;
  }
  EXPECT_LE(tally.unjudged, tally.cuts / 10);
  fmt::print("{}: {} deaths, {} wrong, {} not judged, {} files that were synced and not changed since\n",
             kind.name, tally.cuts, tally.wrong, tally.unjudged, tally.promised);
}

INSTANTIATE_TEST_SUITE_P(
    All, EngineCut,
    ::testing::Values(Kind{.name = "Plain"}, Kind{.name = "LargeFolios", .folio_size = 65536},
                      Kind{.name = "NoAppend", .quirks = Quirks::v7().with(Quirk::kDirectAppendsUnsaid)},
                      Kind{.name = "SmallBlocks", .mke2fs = "-t ext4 -b 1024", .block_size = 1024},
                      Kind{.name = "Clusters", .mke2fs = "-t ext4 -b 4096 -O bigalloc -C 16384"},
                      Kind{.name = "NoJournal", .mke2fs = "-t ext4 -b 4096 -O ^has_journal"},
                      Kind{.name = "Indirect",
                           .mke2fs = "-t ext4 -b 4096 -O ^extents,^64bit",
                           .ends = LoadHistory::Ends::kLoose},
                      Kind{.name = "IndirectSmallBlocks",
                           .mke2fs = "-t ext2 -b 1024",
                           .block_size = 1024,
                           .ends = LoadHistory::Ends::kLoose}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::iomap_model
