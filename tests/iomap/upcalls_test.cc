// SPDX-License-Identifier: GPL-2.0-or-later
// What a kernel asks for what: exact figures, and what the quirks change of them.
#include <gtest/gtest.h>

#include "tests/iomap/allocating_mount.h"
#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

using Remember = AllocatingOptions::Remember;

class UpcallsTest : public ::testing::Test {
 protected:
  void start(Quirks quirks = {}, Remember remember = Remember::kNothing,
             Connection::Tampering tampering = {}) {
    AllocatingMount::Options options;
    options.server.inline_bytes = inline_bytes_;
    options.server.remember = remember;
    options.server.shape.longest_run = 64;
    options.mount.kernel.quirks = quirks;
    options.mount.kernel.tampering = std::move(tampering);
    mount_ = std::make_unique<AllocatingMount>(options);
    ASSERT_TRUE(kernel().mount());
    const auto file = kernel().create("file");
    ASSERT_TRUE(file);
    file_ = *file;
    (void)since();
  }
  ~UpcallsTest() override {
    if (!mount_) return;
    EXPECT_TRUE(kernel().breaches().empty()) << kernel().breaches().words();
  }
  Kernel& kernel() { return mount_->kernel(); }
  // Since it was called before.
  UpcallCounts since() {
    const auto now = kernel().counts();
    UpcallCounts difference;
    for (const auto& [opcode, count] : now)
      if (const auto more = count - before_[opcode]; more != 0) difference[opcode] = more;
    before_ = now;
    return difference;
  }
  void write(std::uint64_t position, std::size_t length) {
    EXPECT_EQ(file_->write(position, pattern(1, position, length)), length);
  }
  void read(std::size_t length) {
    std::vector<std::byte> bytes(length);
    EXPECT_EQ(file_->read(0, bytes), length);
  }

  std::uint64_t inline_bytes_ = 0;
  std::unique_ptr<AllocatingMount> mount_;
  std::shared_ptr<File> file_;
  UpcallCounts before_;
};

constexpr std::uint32_t kBegin = abi::kBegin, kEnd = abi::kEnd, kIoend = abi::kIoend;

TEST_F(UpcallsTest, OfAWriteAndItsSync) {
  start();
  write(0, 16 * 4096);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}, {kEnd, 1}}));
  EXPECT_TRUE(file_->sync());
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 16}, {kIoend, 1}, {FUSE_SETATTR, 1}, {FUSE_FSYNC, 1}}))
      << "an answer for what was asked is one for a page";
  // Within the file and on blocks that are written: the kernel tells nobody.
  write(0, 16 * 4096);
  EXPECT_TRUE(file_->sync());
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 17}, {FUSE_SETATTR, 1}, {FUSE_FSYNC, 1}}));
}

TEST_F(UpcallsTest, OfMappingsThatTheKernelHas) {
  start({Quirk::kOverwriteDropsMapping}, Remember::kByCache);
  write(0, 16 * 4096);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}, {kEnd, 1}}));
  EXPECT_TRUE(file_->sync());
  EXPECT_EQ(since(), (UpcallCounts{{kIoend, 1}, {FUSE_SETATTR, 1}, {FUSE_FSYNC, 1}}));
  // IOEND has taken it out.
  write(0, 16 * 4096);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}}));
  for (int times = 0; times < 3; ++times) {
    write(0, 4096);
    EXPECT_TRUE(file_->write_back());
  }
  // A completed write takes what it covers out, also where nothing is told.
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 2}}));
}

TEST_F(UpcallsTest, OfMappingsThatTheKernelKeeps) {
  start({}, Remember::kByCache);
  write(0, 16 * 4096);
  EXPECT_TRUE(file_->sync());
  (void)since();
  // The first was unwritten. From then on nothing changes, whichever way it is written.
  write(0, 16 * 4096);
  EXPECT_TRUE(file_->write_back());
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}}));
  write(0, 16 * 4096);
  EXPECT_TRUE(file_->write_back());
  EXPECT_EQ(file_->direct_write(0, pattern(2, 0, 16 * 4096)), 16U * 4096);
  EXPECT_EQ(since(), UpcallCounts{});
}

TEST_F(UpcallsTest, AKnownFileIsNotAskedFor) {
  start();
  write(0, 4096);
  EXPECT_TRUE(file_->sync());
  (void)since();
  EXPECT_EQ(file_->attributes()->size, 4096U) << "as the answer to the times has them";
  EXPECT_EQ(*kernel().open("file"), file_);
  EXPECT_EQ(since(), UpcallCounts{});
  write(0, 4096);
  EXPECT_TRUE(file_->write_back());
  (void)since();
  EXPECT_TRUE(file_->attributes());
  EXPECT_EQ(since(), (UpcallCounts{{FUSE_GETATTR, 1}})) << "somebody has written to it";
  EXPECT_TRUE(file_->attributes());
  EXPECT_EQ(since(), UpcallCounts{});
}

TEST_F(UpcallsTest, OfReads) {
  start();
  write(0, 64 * 4096);
  EXPECT_TRUE(file_->sync());
  (void)since();
  read(64 * 4096);
  EXPECT_EQ(since(), UpcallCounts{});
  file_->drop_caches();
  read(64 * 4096);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 2}})) << "128 KiB at a time";
}

TEST_F(UpcallsTest, OfDirectWrites) {
  start();
  EXPECT_EQ(file_->direct_write(0, pattern(1, 0, 16 * 4096)), 16U * 4096);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}, {kIoend, 1}})) << "an IOEND for all of it";
  EXPECT_EQ(file_->direct_write(0, pattern(2, 0, 16 * 4096)), 16U * 4096);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}}));
}

TEST_F(UpcallsTest, OfInlineData) {
  inline_bytes_ = 100;
  start();
  write(0, 60);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}, {FUSE_WRITE, 1}, {kEnd, 1}}));
  EXPECT_TRUE(file_->sync());
  EXPECT_EQ(since(), (UpcallCounts{{FUSE_SETATTR, 1}, {FUSE_FSYNC, 1}})) << "no page is dirty";
  file_->drop_caches();
  read(60);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}, {FUSE_READ, 1}}));
  // Then it is too large for that.
  write(60, 60);
  write(120, 60);
  EXPECT_TRUE(file_->sync());
  EXPECT_TRUE(file_->judge_durability());
  read(180);
  EXPECT_TRUE(file_->truncate(70));
  EXPECT_TRUE(file_->sync());
  EXPECT_TRUE(file_->judge_durability());
}

TEST_F(UpcallsTest, AStatHidesThatAFileGrows) {
  for (const bool hides : {false, true}) {
    start(hides ? Quirks{Quirk::kStatMovesDiskSize} : Quirks{});
    write(0, 1000);
    EXPECT_TRUE(file_->sync());
    write(1000, 1000);
    EXPECT_TRUE(file_->stat());
    (void)since();
    EXPECT_TRUE(file_->write_back());
    EXPECT_EQ(since()[kIoend], hides ? 0U : 1U);
    EXPECT_TRUE(file_->sync());
    EXPECT_TRUE(file_->judge_durability());
    EXPECT_TRUE(kernel().breaches().empty()) << kernel().breaches().words();
  }
}

TEST_F(UpcallsTest, RefusedIoendsAreDroppedInWriteBack) {
  for (const bool dropped : {false, true}) {
    start(dropped ? Quirks{Quirk::kIoendErrorsDropped} : Quirks{});
    kernel().core().causes.set({EIO});
    mount_->server().fail_completions(1);
    write(0, 4096);
    const auto written = file_->write_back();
    EXPECT_EQ(written.has_value(), dropped);
    EXPECT_FALSE(file_->sync()) << "the server has kept it";
  }
}

TEST_F(UpcallsTest, NewAddressesAreSectors) {
  for (const bool sectors : {false, true}) {
    std::atomic<std::uint64_t> address = 0;
    start(sectors ? Quirks{Quirk::kNewAddressInSectors} : Quirks{}, Remember::kNothing,
          [&](Connection::Answer& answer) {
            if (answer.opcode == kIoend)
              address = reinterpret_cast<const abi::IoendIn*>(answer.request.data())->new_address;
          });
    // Not at the device's beginning.
    write(0, 4096);
    write(8 * 4096, 4096);
    EXPECT_TRUE(file_->write_back({.offset = 8 * 4096, .length = 4096}));
    EXPECT_EQ(address, sectors ? 4096U / 512 : 4096U);
    EXPECT_TRUE(file_->sync());
  }
}

TEST_F(UpcallsTest, EndsCanBeSwitchedOff) {
  start({Quirk::kEndNotSent});
  write(0, 4096);
  EXPECT_EQ(since(), (UpcallCounts{{kBegin, 1}}));
}

TEST_F(UpcallsTest, AWishForAnEndIsHeardByNewerKernels) {
  for (const bool deaf : {false, true}) {
    start(deaf ? Quirks{Quirk::kWantEndIneffective} : Quirks{}, Remember::kNothing,
          [](Connection::Answer& answer) {
            if (answer.opcode == kBegin && answer.error == 0)
              reinterpret_cast<abi::BeginOut*>(answer.payload.data())->read.flags |= abi::kWantEnd;
          });
    write(0, 4096);
    (void)since();
    write(0, 4096);
    EXPECT_EQ(since()[kEnd], deaf ? 0U : 1U);
  }
}

}  // namespace
}  // namespace fuse4fs::iomap_model
