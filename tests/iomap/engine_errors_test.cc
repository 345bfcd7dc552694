// SPDX-License-Identifier: GPL-2.0-or-later
// The device fails beneath engine and kernel: data, metadata, flushes. Whoever syncs is told, nothing shows
// what blocks held before, and what was synced earlier is there.
//
// FUSE4FS_SEED, FUSE4FS_SEEDS as in engine_test.cc.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "base/zeros.h"
#include "tests/devices/faulty_backend.h"
#include "tests/devices/memory_backend.h"
#include "tests/devices/recording_backend.h"
#include "tests/iomap/engine_mount.h"
#include "tests/iomap/environment.h"
#include "tests/iomap/random_load.h"
#include "tests/iomap/recovered_volume.h"

namespace fuse4fs::iomap_model {
namespace {

using cache::Fault;
using cache::Survival;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kSize = 64 << 10;

Bytes bytes_of(const std::filesystem::path& path) {
  Bytes bytes(std::filesystem::file_size(path));
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

// A volume that is full of somebody's old data, on a device that fails as it is told.
class FailingVolume {
 public:
  explicit FailingVolume(const std::string& mke2fs = "-t ext4 -b 4096 -e remount-ro")
      : mount_(mke2fs, "16M", EngineMount::Fill::kOldData) {
    TestMount::Options options;
    options.kernel.quirks = Quirks::v7();
    auto memory =
        std::make_unique<cache::MemoryBackend>(std::make_shared<cache::Memory>(bytes_of(mount_.image())));
    mount_.mount(options, {.medium = std::make_shared<cache::RecordingBackend>(std::move(memory), recording_),
                           .faults = faults_});
  }

  Kernel& kernel() { return mount_.kernel(); }
  EngineMount& mount() { return mount_; }
  cache::Faults& faults() { return *faults_; }
  cache::Recording& recording() { return *recording_; }
  // Errors that this device is the reason of.
  void may_fail() { kernel().core().causes.set({EIO, EROFS}); }

 private:
  EngineMount mount_;
  std::shared_ptr<cache::Recording> recording_ = std::make_shared<cache::Recording>();
  std::shared_ptr<cache::Faults> faults_ = std::make_shared<cache::Faults>();
};

class EngineErrors : public ::testing::Test {
 protected:
  void SetUp() override {
    kept_ = make("kept");
    ASSERT_TRUE(kept_->write(0, pattern(1, 0, kSize)));
    ASSERT_TRUE(kept_->sync());
    file_ = make("file");
    ASSERT_TRUE(file_->sync());
    volume_.may_fail();
  }
  std::shared_ptr<File> make(std::string_view name) {
    auto made = kernel().create(name);
    EXPECT_TRUE(made);
    return made ? *made : nullptr;
  }
  Kernel& kernel() { return volume_.kernel(); }
  static Errno error_of(const auto& outcome) { return outcome ? Errno(0) : outcome.error(); }

  Bytes read_again() {
    file_->drop_caches();
    Bytes bytes(file_->size());
    EXPECT_EQ(file_->read(0, bytes), bytes.size());
    return bytes;
  }
  // Whatever of what was not flushed arrives.
  void cut_and_judge() {
    EXPECT_TRUE(kernel().breaches().empty()) << kernel().breaches().words();
    volume_.mount().kill_server();
    const auto& recording = volume_.recording();
    const ScratchDirectory scratch;
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
      constexpr Survival::Kind kKinds[] = {Survival::Kind::kAll, Survival::Kind::kNone,
                                           Survival::Kind::kByChance};
      const Survival survival{.kind = kKinds[std::min<std::size_t>(seed, 2)], .seed = seed, .piece = 4096};
      const auto image = recording.image_at(recording.operations().size(), survival);
      const auto recovered = RecoveredVolume::from(image, scratch);
      for (const auto& line : recovered.complaints) ADD_FAILURE() << line;
      const auto kept = recovered.files.find("kept");
      ASSERT_NE(kept, recovered.files.end());
      EXPECT_EQ(kept->second.bytes, pattern(1, 0, kSize));
      for (const auto& [name, found] : recovered.files)
        EXPECT_EQ(std::ranges::count(found.bytes, EngineMount::kOldByte), 0) << name << ", seed " << seed;
    }
  }

  FailingVolume volume_;
  std::shared_ptr<File> kept_, file_;
};

TEST_F(EngineErrors, WriteBackIsToldOnce) {
  ASSERT_TRUE(file_->write(0, pattern(2, 0, kSize)));
  kernel().device()->fail_writes(1);
  EXPECT_EQ(error_of(file_->sync()), Errno(EIO));
  EXPECT_EQ(error_of(file_->sync()), Errno(0));
  EXPECT_TRUE(is_zero(read_again()));
  // It can be written again.
  ASSERT_TRUE(file_->write(0, pattern(3, 0, kSize)));
  EXPECT_TRUE(file_->sync());
  EXPECT_EQ(read_again(), pattern(3, 0, kSize));
  volume_.mount().unmount_and_check();
}

TEST_F(EngineErrors, WriteBackInTheBackgroundIsToldOnce) {
  ASSERT_TRUE(file_->write(0, pattern(2, 0, kSize)));
  kernel().device()->fail_writes(1);
  EXPECT_EQ(error_of(file_->flush_in_background()), Errno(EIO));
  EXPECT_EQ(error_of(file_->sync(File::SyncWhat::kDataOnly)), Errno(EIO));
  EXPECT_EQ(error_of(file_->sync(File::SyncWhat::kDataOnly)), Errno(0));
  EXPECT_TRUE(is_zero(read_again()));
  volume_.mount().unmount_and_check();
}

TEST_F(EngineErrors, DirectWriteShowsNothingOld) {
  kernel().device()->fail_writes(1);
  EXPECT_EQ(error_of(file_->direct_write(0, pattern(2, 0, kSize))), Errno(EIO));
  EXPECT_EQ(file_->size(), 0U);
  // It was told to whoever wrote.
  EXPECT_TRUE(file_->sync());
  ASSERT_TRUE(file_->truncate(kSize));
  EXPECT_TRUE(is_zero(read_again()));
  volume_.mount().unmount_and_check();
}

TEST_F(EngineErrors, DirectWriteBehindDataThatFailedShowsNothingOld) {
  ASSERT_TRUE(file_->write(0, pattern(2, 0, kSize)));
  kernel().device()->fail_writes(1);
  EXPECT_EQ(error_of(file_->sync()), Errno(EIO));
  ASSERT_TRUE(file_->direct_write(kSize, pattern(3, kSize, kSize)));
  EXPECT_TRUE(file_->sync());
  const auto bytes = read_again();
  ASSERT_EQ(bytes.size(), 2 * kSize);
  EXPECT_TRUE(is_zero({bytes.begin(), bytes.begin() + kSize}));
  EXPECT_TRUE(std::equal(bytes.begin() + kSize, bytes.end(), pattern(3, kSize, kSize).begin()));
  volume_.mount().unmount_and_check();
}

TEST_F(EngineErrors, ConversionThatIsNotWrittenIsTold) {
  ASSERT_TRUE(file_->write(0, pattern(2, 0, kSize)));
  volume_.faults().add({.operation = Fault::Operation::kWrite, .times = Fault::kForever});
  EXPECT_FALSE(file_->sync());
  EXPECT_GT(volume_.faults().strikes(), 0U);
  // errors=remount-ro.
  EXPECT_EQ(volume_.mount().server().access(), cache::Access::kReadOnly);
  EXPECT_EQ(error_of(file_->write(kSize, pattern(3, kSize, kSize))), Errno(EROFS));
  volume_.faults().clear();
  // Nobody knows what the medium shows, so it stays told.
  EXPECT_FALSE(file_->sync());
  cut_and_judge();
}

TEST_F(EngineErrors, FlushThatFailsIsTold) {
  ASSERT_TRUE(file_->write(0, pattern(2, 0, kSize)));
  volume_.faults().add({.operation = Fault::Operation::kFlush});
  EXPECT_EQ(error_of(file_->sync()), Errno(EIO));
  EXPECT_EQ(volume_.faults().strikes(), 1U);
  cut_and_judge();
}

TEST_F(EngineErrors, FlushBehindOverwriteThatFailsIsTold) {
  ASSERT_TRUE(file_->write(0, pattern(2, 0, kSize)));
  ASSERT_TRUE(file_->sync());
  ASSERT_TRUE(file_->direct_write(0, pattern(3, 0, kSize)));
  volume_.faults().add({.operation = Fault::Operation::kFlush});
  EXPECT_EQ(error_of(file_->sync(File::SyncWhat::kDataOnly)), Errno(EIO));
  EXPECT_EQ(volume_.faults().strikes(), 1U);
  cut_and_judge();
}

// The device fails now and then while threads do random things.
class EngineErrorsLoad : public ::testing::TestWithParam<const char*> {};

TEST_P(EngineErrorsLoad, ShowsNothingOld) {
  const std::uint64_t first = first_seed();
  const std::uint64_t seeds = number_of_seeds(4);
  const ScratchDirectory scratch;
  std::size_t strikes = 0, unjudged = 0;
  for (std::uint64_t seed = first; seed < first + seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("FUSE4FS_SEED={}", seed));
    FailingVolume volume(GetParam());
    auto& recording = volume.recording();
    LoadHistory history([&] { return recording.count(); }, {.syncs = LoadHistory::Syncs::kNothing});
    RandomLoad load(volume.kernel(), {.operations = 50,
                                      .seed = seed,
                                      .memory = LoadOptions::Memory::kShort,
                                      .syncs = LoadOptions::Syncs::kMany,
                                      .history = &history,
                                      .expected_errors = {EIO, EROFS}});
    ASSERT_TRUE(load.prepare());
    volume.may_fail();
    std::mt19937_64 random(seed);
    for (int round = 0; round < 4; ++round) {
      volume.kernel().device()->fail_writes(random() % 3);
      // The metadata of half of them.
      if (round == 2 && seed % 2 == 0)
        volume.faults().add(
            {.operation = random() % 2 == 0 ? Fault::Operation::kWrite : Fault::Operation::kFlush,
             .effect = Fault::Effect::kFail,
             .nth = 1 + random() % 20});
      load.run();
      (void)volume.mount().server().write_back();
    }
    EXPECT_TRUE(volume.kernel().breaches().empty()) << volume.kernel().breaches().words();
    volume.mount().kill_server();
    strikes += volume.faults().strikes();
    const auto recovered = RecoveredVolume::from(
        recording.image_at(recording.operations().size(), {.kind = Survival::Kind::kAll}), scratch);
    if (recovered.judgement == RecoveredVolume::Judgement::kNone) {
      ++unjudged;
      continue;
    }
    for (const auto& line : recovered.complaints) ADD_FAILURE() << line;
    for (const auto& line : history.broken(recording.operations().size(), recovered.files, recovered.mended))
      ADD_FAILURE() << line;
  }
  EXPECT_LE(unjudged, seeds / 4);
  fmt::print("{} loads, {} failures of metadata's device, {} not judged\n", seeds, strikes, unjudged);
}

INSTANTIATE_TEST_SUITE_P(All, EngineErrorsLoad,
                         ::testing::Values("-t ext4 -b 4096 -e remount-ro", "-t ext4 -b 1024 -e continue"),
                         [](const auto& info) { return info.index == 0 ? "ReadOnly" : "Continue"; });

}  // namespace
}  // namespace fuse4fs::iomap_model
