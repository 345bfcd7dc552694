// SPDX-License-Identifier: GPL-2.0-or-later
// What kernels of v7 make of a server's refusals, and of how much they ask: what is lost is lost as there.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/iomap/allocating_mount.h"
#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

constexpr std::uint64_t kBlock = 4096;

template <class In>
In read_as(std::span<const std::byte> request) {
  In in{};
  std::memcpy(&in, request.data(), sizeof in);
  return in;
}

class RefusalsTest : public ::testing::Test {
 protected:
  // Whether this BEGIN is refused.
  using Refuses = std::function<bool(const abi::BeginIn&)>;

  void start(int error, Refuses refuses, std::size_t folio_size = kBlock, std::uint64_t inline_bytes = 0) {
    AllocatingMount::Options options;
    options.server.inline_bytes = inline_bytes;
    // Blocks that follow each other lie together.
    options.server.shape.longest_run = 64;
    options.mount.kernel.quirks = Quirks::v7();
    options.mount.kernel.folio_size = folio_size;
    options.mount.kernel.tampering = [this, error, refuses](Connection::Answer& answer) {
      if (answer.opcode == abi::kIoend) ioends_.push_back(read_as<abi::IoendIn>(answer.request));
      if (answer.opcode == FUSE_READ) read_sizes_.push_back(read_as<fuse_read_in>(answer.request).size);
      if (answer.opcode != abi::kBegin || !refuses(read_as<abi::BeginIn>(answer.request))) return;
      answer.error = -error;
      answer.payload.clear();
    };
    mount_ = std::make_unique<AllocatingMount>(options);
    ASSERT_TRUE(kernel().mount());
    const auto file = kernel().create("file");
    ASSERT_TRUE(file);
    file_ = *file;
  }
  Kernel& kernel() { return mount_->kernel(); }
  void write(std::uint64_t position, std::size_t length) {
    ASSERT_EQ(file_->write(position, pattern(1, position, length)), length);
  }
  std::vector<std::byte> read(std::uint64_t position, std::size_t length) {
    std::vector<std::byte> bytes(length);
    EXPECT_EQ(file_->read(position, bytes), length);
    return bytes;
  }
  void expect_rules(const std::set<Rule>& rules) {
    EXPECT_EQ(kernel().breaches().rules(), rules) << kernel().breaches().words();
  }

  std::unique_ptr<AllocatingMount> mount_;
  std::shared_ptr<File> file_;
  std::vector<abi::IoendIn> ioends_;
  std::vector<std::uint32_t> read_sizes_;
};

bool is_direct_write(const abi::BeginIn& in) {
  return (in.operation & abi::kOpDirect) != 0 && (in.operation & abi::kOpWrite) != 0;
}

TEST_F(RefusalsTest, WhatIsLeftOfAFolioIsDroppedWhereWriteBackIsRefused) {
  bool refuses = false;
  start(
      ENOSPC,
      [&](const auto& in) {
        return refuses && (in.operation & abi::kOpWriteback) != 0 && in.position == kBlock;
      },
      4 * kBlock);
  kernel().core().causes.set({ENOSPC});
  write(0, 4 * kBlock);
  ASSERT_TRUE(file_->sync());
  ioends_.clear();
  refuses = true;
  // Two runs in a folio.
  ASSERT_TRUE(file_->write(kBlock, pattern(2, 0, kBlock)));
  ASSERT_TRUE(file_->write(3 * kBlock, pattern(2, 0, kBlock)));
  EXPECT_FALSE(file_->sync());
  ASSERT_EQ(ioends_.size(), 1U);
  EXPECT_EQ(ioends_[0].error, -ENOSPC);
  EXPECT_EQ(ioends_[0].position, kBlock);
  EXPECT_EQ(ioends_[0].written, 3 * kBlock) << "up to the end of the folio";
  EXPECT_TRUE(file_->sync()) << "none of it is dirty any more";
  file_->drop_caches();
  EXPECT_EQ(read(0, 4 * kBlock), pattern(1, 0, 4 * kBlock)) << "the second run is lost as well";
  expect_rules({});
}

TEST_F(RefusalsTest, WhatIsNotOnItsWayYetIsCancelledWithARefusedWriteBack) {
  start(ENOSPC,
        [](const auto& in) { return (in.operation & abi::kOpWriteback) != 0 && in.position == 2 * kBlock; });
  kernel().core().causes.set({ENOSPC});
  write(0, 3 * kBlock);
  EXPECT_FALSE(file_->sync());
  ASSERT_EQ(ioends_.size(), 2U);
  EXPECT_EQ(ioends_[1].error, -ENOSPC);
  EXPECT_EQ(ioends_[1].position, 0U);
  EXPECT_EQ(ioends_[1].written, 2 * kBlock) << "two blocks that could have been written";
  file_->drop_caches();
  EXPECT_EQ(read(0, 3 * kBlock), std::vector<std::byte>(3 * kBlock));
  expect_rules({});
}

TEST_F(RefusalsTest, AFlusherStopsWhereItIsRefused) {
  start(ENOSPC,
        [](const auto& in) { return (in.operation & abi::kOpWriteback) != 0 && in.position == kBlock; });
  kernel().core().causes.set({ENOSPC});
  write(0, 3 * kBlock);
  EXPECT_FALSE(file_->flush_in_background());
  EXPECT_EQ(ioends_.size(), 2U);
  EXPECT_FALSE(file_->sync()) << "the error that nobody has heard of";
  ASSERT_EQ(ioends_.size(), 3U);
  EXPECT_EQ(ioends_[2].error, 0);
  EXPECT_EQ(ioends_[2].position, 2 * kBlock) << "what the flusher did not come to";
  expect_rules({});
}

TEST_F(RefusalsTest, ADirectWriteRefusedByNotBlockIsOneOfNothing) {
  start(ENOTBLK, is_direct_write);
  EXPECT_EQ(file_->direct_write(0, pattern(1, 0, kBlock)), 0U);
  EXPECT_EQ(file_->size(), 0U);
  expect_rules({Rule::kDirectRefusedUnheard});
}

TEST_F(RefusalsTest, AnUnsupportedDirectWriteGoesByPages) {
  start(ENOSYS, is_direct_write);
  EXPECT_EQ(file_->direct_write(0, pattern(1, 0, kBlock)), kBlock);
  ASSERT_EQ(ioends_.size(), 2U);
  EXPECT_EQ(ioends_[0].error, -ENOSYS) << "of the direct one";
  EXPECT_EQ(ioends_[0].written, 0U);
  EXPECT_EQ(ioends_[1].error, 0) << "of write-back, before it returned";
  EXPECT_TRUE(file_->sync());
  EXPECT_TRUE(file_->judge_durability());
  expect_rules({});
}

TEST_F(RefusalsTest, TheRestOfADirectWriteGoesToItsBeginning) {
  start(ENOSYS, [](const auto& in) { return is_direct_write(in) && in.position == 2 * kBlock; });
  // A block of another file between them: two mappings.
  ASSERT_EQ(file_->direct_write(0, pattern(1, 0, 2 * kBlock)), 2 * kBlock);
  const auto other = kernel().create("other");
  ASSERT_TRUE(other);
  ASSERT_TRUE((*other)->direct_write(0, pattern(3, 0, kBlock)));
  const auto bytes = pattern(2, 0, 3 * kBlock);
  EXPECT_EQ(file_->direct_write(0, bytes), kBlock) << "short";
  expect_rules({Rule::kDirectRefusedLate});
  EXPECT_EQ(read(0, kBlock), std::vector<std::byte>(bytes.begin() + 2 * kBlock, bytes.end()));
}

TEST_F(RefusalsTest, OfADirectWriteThatIsRefusedInTheMiddleNothingIsDone) {
  start(ENOSPC, [](const auto& in) { return is_direct_write(in) && in.position == 2 * kBlock; });
  ASSERT_EQ(file_->direct_write(0, pattern(1, 0, 2 * kBlock)), 2 * kBlock);
  const auto other = kernel().create("other");
  ASSERT_TRUE(other);
  ASSERT_TRUE((*other)->direct_write(0, pattern(3, 0, kBlock)));
  ioends_.clear();
  const auto written = file_->direct_write(0, pattern(2, 0, 3 * kBlock));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error(), Errno(ENOSPC));
  ASSERT_EQ(ioends_.size(), 1U);
  EXPECT_EQ(ioends_[0].error, -ENOSPC);
  EXPECT_EQ(ioends_[0].written, 2 * kBlock);
  expect_rules({});
}

TEST_F(RefusalsTest, InlineDataIsReadByTheLengthOfTheQuestion) {
  start(EIO, [](const auto&) { return false; }, kBlock, 100);
  write(0, 60);
  EXPECT_TRUE(file_->sync());
  file_->drop_caches();
  EXPECT_EQ(read(0, 60), pattern(1, 0, 60));
  std::vector<std::byte> bytes(4 * kBlock);
  EXPECT_EQ(file_->direct_read(0, bytes), 60U);
  EXPECT_EQ(read_sizes_, (std::vector<std::uint32_t>{kBlock, 4 * kBlock}));
  expect_rules({});
}

}  // namespace
}  // namespace fuse4fs::iomap_model
