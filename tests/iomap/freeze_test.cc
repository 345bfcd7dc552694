// SPDX-License-Identifier: GPL-2.0-or-later
// A frozen volume: the image is what an unmount would leave of it, with every byte that was written, and
// stays so whatever the server does by itself, until it is thawed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "tests/iomap/engine_mount.h"
#include "tests/iomap/random_load.h"
#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFiles = 4;
// More than a file with blocks ahead may be idle before they go (preallocated_blocks.h).
constexpr int kManyTicks = 12;
#ifdef FUSE4FS_SANITIZED
constexpr int kTimes = 5;
#else
constexpr int kTimes = 12;
#endif

bool succeeds(const std::string& command) { return std::system(command.c_str()) == 0; }

// What lies on the image just now.
class Copy {
 public:
  explicit Copy(EngineMount& mount) : image_(mount.image()), copy_(image_.string() + ".copy") {
    EXPECT_TRUE(succeeds(fmt::format("cp --sparse=always {} {}", image_.string(), copy_.string())));
  }
  ~Copy() { fs::remove(copy_); }
  [[nodiscard]] const fs::path& path() const { return copy_; }
  [[nodiscard]] bool is_image() const {
    return succeeds(fmt::format("cmp {} {}", image_.string(), copy_.string()));
  }
  [[nodiscard]] bool is_clean() const {
    return succeeds(
        fmt::format("dumpe2fs -h {} 2>/dev/null | grep -q '^Filesystem state: *clean$'", copy_.string()));
  }
  [[nodiscard]] bool satisfies_e2fsck(const char* options) const {
    return succeeds(fmt::format("e2fsck {} {} >{}.said 2>&1 || {{ cat {}.said; false; }}", options,
                                copy_.string(), image_.string(), image_.string()));
  }

 private:
  fs::path image_, copy_;
};

std::vector<std::byte> contents(Kernel& kernel, const std::string& name) {
  const auto file = kernel.open(name);
  EXPECT_TRUE(file) << name;
  if (!file) return {};
  std::vector<std::byte> bytes((*file)->size());
  EXPECT_EQ((*file)->read(0, bytes), bytes.size());
  return bytes;
}

// The server's own work goes on all the time, and inodes are forgotten.
class FrozenLoad : public ::testing::TestWithParam<LoadOptions::Names> {};

TEST_P(FrozenLoad, TheImageIsWholeAndStaysAsItIs) {
  const auto names = GetParam();
  EngineMount mount("-t ext4 -b 4096 -E lazy_itable_init=1", "64M", EngineMount::Fill::kNothing);
  TestMount::Options options;
  options.kernel.quirks = Quirks::v7();
  Kernel& kernel = mount.mount(options);
  RandomLoad load(
      kernel, {.files = kFiles, .operations = 400, .memory = LoadOptions::Memory::kShort, .names = names});
  ASSERT_TRUE(load.prepare());
  std::atomic<bool> ends = false;
  std::jthread running([&] {
    load.run();
    ends = true;
  });
  std::jthread ticking([&] {
    while (!ends) {
      // Time passes while it is frozen: transfers do not last as long as time for the engine.
      mount.tick(std::chrono::seconds(0));
      (void)mount.server().initialise_inode_table();
    }
  });
  int times = 0;
  do {
    ASSERT_TRUE(kernel.freeze());
    {
      const Copy copy(mount);
      for (int tick = 0; tick < kManyTicks; ++tick) mount.tick();
      EXPECT_TRUE(copy.is_image()) << "written to while it was frozen";
      // What has no name any more and is not forgotten yet is e2fsck's to free.
      if (names == LoadOptions::Names::kKept) {
        EXPECT_TRUE(copy.is_clean());
        EXPECT_TRUE(copy.satisfies_e2fsck("-fn"));
        EngineMount another(copy.path());
        Kernel& other = another.mount(options);
        for (std::size_t at = 0; at < kFiles; ++at) {
          const std::string name = "file" + std::to_string(at);
          const auto known = other.open(name);
          ASSERT_TRUE(known && (*known)->adopt());
          EXPECT_TRUE(contents(kernel, name) == contents(other, name)) << name;
        }
      } else if (copy.is_clean()) {
        EXPECT_TRUE(copy.satisfies_e2fsck("-fn"));
      } else {
        (void)copy.satisfies_e2fsck("-fp");
        EXPECT_TRUE(copy.satisfies_e2fsck("-fn"));
      }
    }
    ASSERT_TRUE(kernel.unfreeze());
    ++times;
  } while (!ends && times < kTimes && !HasFailure());
  running.join();
  ticking.join();
  EXPECT_GT(times, 1);
  fmt::print("frozen {} times\n", times);
  EXPECT_TRUE(load.judge());
  mount.unmount_and_check();
}

INSTANTIATE_TEST_SUITE_P(All, FrozenLoad,
                         ::testing::Values(LoadOptions::Names::kKept, LoadOptions::Names::kChange),
                         [](const auto& info) {
                           return info.param == LoadOptions::Names::kKept ? "NamesKept" : "NamesChange";
                         });

class Frozen : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.kernel.quirks = Quirks::v7();
    kernel_ = &mount_.mount(options_);
    for (const char* name : {"file", "other"}) {
      const auto made = kernel_->create(name);
      ASSERT_TRUE(made);
      // It grows, so that blocks are mapped ahead.
      for (std::uint64_t at = 0; at < 256 << 10; at += 8192)
        ASSERT_TRUE((*made)->write(at, pattern(1, at, 8192)));
    }
  }
  std::uint64_t free_blocks() { return mount_.server().statistics()->free_blocks; }
  // Whatever the server might do with what it was told.
  void let_it_work() {
    for (int tick = 0; tick < kManyTicks; ++tick) mount_.tick();
    mount_.server().shrink();
  }

  EngineMount mount_{"-t ext4 -b 4096", "64M", EngineMount::Fill::kNothing};
  TestMount::Options options_;
  Kernel* kernel_ = nullptr;
};

TEST_F(Frozen, AnUnlinkedFileThatIsClosedWaits) {
  const auto file = kernel_->unlink_open("file");
  ASSERT_TRUE(file);
  std::vector<std::byte> bytes(8192);
  ASSERT_TRUE(kernel_->freeze());
  const Copy copy(mount_);
  EXPECT_EQ((*file)->read(8192, bytes), bytes.size());
  EXPECT_TRUE(bytes == pattern(1, 8192, 8192));
  const auto before = free_blocks();
  kernel_->close_unlinked(*file);
  // FORGET has no answer; but requests are taken in order where one thread takes them.
  ASSERT_TRUE((*kernel_->open("other"))->sync());
  let_it_work();
  EXPECT_TRUE(copy.is_image()) << "written to while it was frozen";
  EXPECT_EQ(free_blocks(), before);
  ASSERT_TRUE(kernel_->unfreeze());
  mount_.unmount_and_check();
}

TEST_F(Frozen, AFileThatIsForgottenKeepsItsBlocks) {
  ASSERT_TRUE(kernel_->freeze());
  const Copy copy(mount_);
  EXPECT_TRUE(copy.is_clean());
  EXPECT_TRUE(copy.satisfies_e2fsck("-fn"));
  for (const char* name : {"file", "other"}) ASSERT_TRUE(kernel_->evict(*kernel_->open(name)));
  EXPECT_TRUE(contents(*kernel_, "file") == pattern(1, 0, 256 << 10));
  ASSERT_TRUE((*kernel_->open("file"))->sync());
  let_it_work();
  EXPECT_TRUE(copy.is_image()) << "written to while it was frozen";
  ASSERT_TRUE(kernel_->unfreeze());
  EXPECT_TRUE(contents(*kernel_, "other") == pattern(1, 0, 256 << 10));
  mount_.unmount_and_check();
}

}  // namespace
}  // namespace fuse4fs::iomap_model
