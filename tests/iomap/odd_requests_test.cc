// SPDX-License-Identifier: GPL-2.0-or-later
// Requests that no kernel sends, or not then: they are answered, by an error or by nothing that harms the
// volume.
//
// FUSE4FS_SEED, FUSE4FS_SEEDS: where to begin, and how many.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <deque>
#include <optional>
#include <random>

#include "tests/iomap/engine_mount.h"
#include "tests/iomap/environment.h"
#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

namespace abi = iomap_abi;

constexpr std::uint64_t kBlock = 4096;

class OddRequests : public ::testing::Test {
 protected:
  // Files that the volume has and the model does not know: what it is told of them it leaves alone.
  void mount(const char* mke2fs = "-t ext4 -b 4096") {
    mount_.emplace(mke2fs, "64M", EngineMount::Fill::kNothing);
    Kernel& kernel = mount_->mount();
    for (const char* name : {"written", "allocated", "empty", "gone"}) {
      const auto file = kernel.create(name);
      ASSERT_TRUE(file);
      if (std::string_view(name) == "written") (void)(*file)->write(0, pattern(1, 0, 10 * kBlock + 100));
      if (std::string_view(name) == "allocated")
        (void)(*file)->fallocate(0, {.offset = 4 * kBlock, .length = 8 * kBlock});
      nodes_.push_back((*file)->node());
      ASSERT_TRUE((*file)->sync());
      ASSERT_TRUE(kernel.evict(*file));
    }
    ASSERT_TRUE(kernel.unlink("gone"));
    for (const char* name : {"written", "allocated", "empty"}) look_up(name);
  }
  void look_up(std::string_view name) {
    const std::string wire = std::string(name) + '\0';
    EXPECT_TRUE(connection().call(FUSE_LOOKUP, FUSE_ROOT_ID, std::as_bytes(std::span(wire))));
  }
  void forget(std::uint64_t node, std::uint64_t lookups) {
    connection().post(FUSE_FORGET, node, fuse_forget_in{.nlookup = lookups});
  }
  Connection& connection() { return mount_->kernel().core().connection; }

  template <class In>
  Result<std::vector<std::byte>> send(std::uint32_t opcode, std::uint64_t node, const In& in) {
    return connection().call(opcode, node, std::as_bytes(std::span(&in, 1)));
  }
  Result<std::uint64_t> ioend(std::uint64_t node, ByteRange range, std::uint32_t flags,
                              std::int32_t error = 0) {
    abi::IoendIn in{};
    in.flags = flags;
    in.error = error;
    in.inode = node;
    in.position = range.offset;
    in.written = range.length;
    ASSIGN_OR_RETURN(const auto bytes, send(abi::kIoend, node, in));
    abi::IoendOut out{};
    if (bytes.size() != sizeof out) return fail(EPROTO);
    std::memcpy(&out, bytes.data(), sizeof out);
    return out.new_size;
  }
  Result<abi::BeginOut> begin(std::uint64_t node, ByteRange range, std::uint32_t operation) {
    const abi::BeginIn in{.operation = operation,
                          .reserved = 0,
                          .inode = node,
                          .position = range.offset,
                          .count = range.length};
    ASSIGN_OR_RETURN(const auto bytes, send(abi::kBegin, node, in));
    abi::BeginOut out{};
    if (bytes.size() != sizeof out) return fail(EPROTO);
    std::memcpy(&out, bytes.data(), sizeof out);
    return out;
  }
  Result<void> end(std::uint64_t node, ByteRange range, std::int64_t written, std::uint32_t operation,
                   std::uint16_t flags = 0) {
    abi::EndIn in{};
    in.operation = operation;
    in.inode = node;
    in.position = range.offset;
    in.count = range.length;
    in.written = written;
    in.mapping = {.offset = range.offset,
                  .length = range.length,
                  .address = abi::kNullAddress,
                  .type = abi::kHole,
                  .flags = flags,
                  .device = 0};
    const auto answered = send(abi::kEnd, node, in);
    return answered ? Result<void>() : fail(answered.error());
  }
  // What is written into "written" is still there, for a kernel that begins anew; e2fsck finds nothing.
  void unmount_and_check() {
    // Errors of writes are kept until then.
    for (const std::uint64_t node : nodes_) (void)send(FUSE_FSYNC, node, fuse_fsync_in{});
    ASSERT_TRUE(mount_->kernel().sync_file_system());
    mount_->unmount_and_check();
  }
  std::vector<std::byte> contents_of_written() {
    Kernel& kernel = mount_->mount();
    const auto file = kernel.open("written");
    EXPECT_TRUE(file);
    std::vector<std::byte> bytes((*file)->size());
    (void)(*file)->adopt();
    EXPECT_TRUE((*file)->read(0, bytes));
    return bytes;
  }

  std::optional<EngineMount> mount_;
  // written, allocated, empty, gone
  std::vector<std::uint64_t> nodes_;
};

constexpr std::uint32_t kWriteBackOfUnwritten = abi::kIoendWriteback | abi::kIoendUnwritten;

TEST_F(OddRequests, OfInodesThatAreGone) {
  mount();
  const std::uint64_t gone = nodes_[3];
  for (const std::uint64_t node : {gone, std::uint64_t{0}, std::uint64_t{7}, std::uint64_t{FUSE_ROOT_ID},
                                   std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    EXPECT_FALSE(begin(node, {.offset = 0, .length = kBlock}, abi::kOpWrite)) << node;
    EXPECT_FALSE(begin(node, {.offset = 0, .length = kBlock}, abi::kOpWriteback)) << node;
    EXPECT_FALSE(ioend(node, {.offset = 0, .length = kBlock}, kWriteBackOfUnwritten)) << node;
    if (node == FUSE_ROOT_ID) continue;
    EXPECT_FALSE(ioend(node, {.offset = 0, .length = kBlock}, 0, -EIO)) << node;
    EXPECT_FALSE(end(node, {.offset = 0, .length = kBlock}, kBlock, abi::kOpWrite, abi::kSizeChanged))
        << node;
  }
  unmount_and_check();
}

// Said of an inode in the header and of another one in the struct.
TEST_F(OddRequests, OfTwoInodes) {
  mount();
  abi::BeginIn begin_in{};
  begin_in.operation = abi::kOpWrite;
  begin_in.inode = nodes_[0];
  begin_in.count = kBlock;
  EXPECT_FALSE(send(abi::kBegin, nodes_[2], begin_in));
  abi::IoendIn ioend_in{};
  ioend_in.flags = kWriteBackOfUnwritten;
  ioend_in.inode = nodes_[1];
  ioend_in.written = kBlock;
  EXPECT_FALSE(send(abi::kIoend, nodes_[2], ioend_in));
  unmount_and_check();
}

TEST_F(OddRequests, IoendsAgainAndOfHoles) {
  mount();
  const std::uint64_t size = 10 * kBlock + 100;
  for (int time = 0; time < 3; ++time) {
    EXPECT_EQ(ioend(nodes_[0], {.offset = 0, .length = 2 * kBlock}, kWriteBackOfUnwritten), size);
    // Half of it unwritten, half a hole.
    EXPECT_EQ(ioend(nodes_[1], {.offset = 0, .length = 6 * kBlock}, kWriteBackOfUnwritten).error(),
              Errno(EIO));
    EXPECT_EQ(ioend(nodes_[1], {.offset = 0, .length = 2 * kBlock}, kWriteBackOfUnwritten).error(),
              Errno(EIO));
    EXPECT_EQ(ioend(nodes_[0], {.offset = 0, .length = 0}, kWriteBackOfUnwritten), size);
  }
  EXPECT_EQ(ioend(nodes_[2], {.offset = 3 * kBlock, .length = 10}, kWriteBackOfUnwritten).error(),
            Errno(EIO));
  unmount_and_check();
  EXPECT_TRUE(contents_of_written() == pattern(1, 0, size));
}

TEST_F(OddRequests, IoendsBehindTheLargestFile) {
  for (const char* const mke2fs :
       {"-t ext4 -b 4096", "-t ext2 -b 1024", "-t ext4 -b 4096 -O ^extents,^64bit"}) {
    SCOPED_TRACE(mke2fs);
    nodes_.clear();
    mount(mke2fs);
    const std::uint64_t largest = mount_->server().mappings()->mapping_limits().largest_file;
    for (const std::uint64_t node : {nodes_[0], nodes_[2]})
      for (const std::uint64_t position : {largest, largest - 1, largest + kBlock, std::uint64_t{1} << 62,
                                           (std::uint64_t{1} << 63) - kBlock})
        for (const std::uint32_t flags : {kWriteBackOfUnwritten, std::uint32_t{abi::kIoendDirect}})
          EXPECT_FALSE(ioend(node, {.offset = position, .length = kBlock}, flags)) << position;
    // The same by what is noted, and becomes the size when the file is synced.
    for (const std::uint64_t position : {largest, std::uint64_t{1} << 62}) {
      (void)end(nodes_[2], {.offset = position, .length = kBlock}, kBlock, abi::kOpWrite, abi::kSizeChanged);
      (void)send(FUSE_FSYNC, nodes_[2], fuse_fsync_in{});
    }
    unmount_and_check();
    EXPECT_TRUE(contents_of_written() == pattern(1, 0, 10 * kBlock + 100));
    mount_->unmount_and_check();
  }
}

TEST_F(OddRequests, ThatAreTooShortOrTooLong) {
  mount();
  const std::vector<std::byte> zeros(400);
  for (const std::uint32_t opcode : {abi::kBegin, abi::kEnd, abi::kIoend, abi::kConfig})
    for (const std::size_t length : {0, 1, 7, 31, 39})
      EXPECT_FALSE(connection().call(opcode, nodes_[0], std::span(zeros).first(length)))
          << opcode << ' ' << length;
  unmount_and_check();
}

TEST_F(OddRequests, ForgottenTooOftenAndAskedAfterwards) {
  mount();
  forget(nodes_[0], 1);
  forget(nodes_[0], 1000);
  forget(nodes_[3], 1);
  forget(12345, 1);
  // FORGET has no answer: what comes next may be before it.
  (void)begin(nodes_[0], {.offset = 0, .length = kBlock}, 0);
  (void)ioend(nodes_[0], {.offset = 0, .length = kBlock}, kWriteBackOfUnwritten);
  look_up("written");
  unmount_and_check();
  EXPECT_TRUE(contents_of_written() == pattern(1, 0, 10 * kBlock + 100));
}

// Without extents there is nothing unwritten: what a write did not come to must not stay behind the end,
// whatever is asked for meanwhile.
TEST_F(OddRequests, ABlockThatAWriteDidNotComeTo) {
  mount("-t ext2 -b 1024");
  ASSERT_TRUE(begin(nodes_[2], {.offset = 8 * kBlock, .length = kBlock}, abi::kOpWrite));
  ASSERT_TRUE(end(nodes_[2], {.offset = 8 * kBlock, .length = kBlock}, 0, abi::kOpWrite));
  fuse_fallocate_in in{};
  in.mode = 3;  // to punch a hole
  in.length = kBlock;
  EXPECT_TRUE(send(FUSE_FALLOCATE, nodes_[2], in));
  unmount_and_check();
}

// Anything in any order.
class RandomRequests : public OddRequests, public ::testing::WithParamInterface<const char*> {
 protected:
  std::uint64_t pick(std::initializer_list<std::uint64_t> from) {
    return std::data(from)[random_() % from.size()];
  }
  ByteRange range(std::uint64_t largest) {
    const std::uint64_t position =
        pick({0, 1, kBlock, random_() % (64 * kBlock), random_() % (64 * kBlock) / kBlock * kBlock, largest,
              largest - kBlock, largest - 1, std::uint64_t{1} << 32, std::uint64_t{1} << 62, random_()});
    return {.offset = position,
            .length = pick(
                {0, 1, kBlock, random_() % (16 * kBlock), std::uint64_t{1} << 31, ~position, random_()})};
  }
  void one(std::uint64_t largest) {
    const std::uint64_t node =
        random_() % 8 == 0 ? pick({0, 1, 2, 7, 8, 11, nodes_[3], random_()}) : nodes_[random_() % 3];
    switch (random_() % 8) {
      case 0:
      case 1: {
        const auto operation = static_cast<std::uint32_t>(pick(
            {0, abi::kOpWrite, abi::kOpWrite | abi::kOpDirect, abi::kOpWriteback, abi::kOpZero,
             abi::kOpReport, abi::kOpUnshare | abi::kOpWrite, abi::kOpDax, abi::kOpSwapFile | abi::kOpReport,
             abi::kOpDirect | abi::kOpWrite | abi::kOpAtomic, abi::kOpNoWait, random_()}));
        ByteRange where = range(largest);
        // Of the many blocks that it would get there is not much to learn.
        where.length = std::min<std::uint64_t>(where.length, 64 * kBlock);
        (void)begin(node, where, operation);
        return;
      }
      case 2:
        (void)end(node, range(largest), static_cast<std::int64_t>(pick({0, 1, kBlock, random_()})),
                  static_cast<std::uint32_t>(pick({abi::kOpWrite, abi::kOpZero, random_()})),
                  static_cast<std::uint16_t>(pick({0, abi::kSizeChanged, abi::kStale, random_()})));
        return;
      case 3:
      case 4:
        (void)ioend(node, range(largest),
                    static_cast<std::uint32_t>(
                        pick({0, abi::kIoendDirect, kWriteBackOfUnwritten,
                              abi::kIoendUnwritten | abi::kIoendDirect, abi::kIoendSwapOff, random_()})),
                    random_() % 8 == 0 ? -EIO : 0);
        return;
      case 5: {
        fuse_setattr_in in{};
        in.valid = FATTR_SIZE;
        in.size = range(largest).offset;
        (void)send(FUSE_SETATTR, nodes_[random_() % 3], in);
        return;
      }
      case 6: {
        fuse_fallocate_in in{};
        const ByteRange where = range(largest);
        in.offset = where.offset;
        in.length = std::min<std::uint64_t>(where.length, 64 * kBlock);
        in.mode = static_cast<std::uint32_t>(pick({0, 1, 3, 16, 17, 8, 32, random_()}));
        (void)send(FUSE_FALLOCATE, nodes_[random_() % 3], in);
        return;
      }
      default:
        if (random_() % 4 == 0) {
          forget(nodes_[random_() % 4], pick({1, 2, random_()}));
          look_up("written");
        } else {
          (void)send(FUSE_FSYNC, node, fuse_fsync_in{});
          mount_->tick();
        }
    }
  }
  std::mt19937_64 random_;
};

TEST_P(RandomRequests, HarmNothing) {
  const std::uint64_t first = first_seed();
  for (std::uint64_t seed = first; seed < first + number_of_seeds(4) && !HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("FUSE4FS_SEED={}", seed));
    random_.seed(seed);
    nodes_.clear();
    mount(GetParam());
    const std::uint64_t largest = mount_->server().mappings()->mapping_limits().largest_file;
    for (int at = 0; at < 400; ++at) one(largest);
    // Errors of writes are told here at the latest.
    (void)mount_->kernel().unmount();
    mount_->check();
  }
}

INSTANTIATE_TEST_SUITE_P(All, RandomRequests,
                         ::testing::Values("-t ext4 -b 4096", "-t ext2 -b 1024",
                                           "-t ext4 -b 4096 -O inline_data",
                                           "-t ext4 -b 4096 -O bigalloc -C 16384"),
                         [](const auto& info) {
                           constexpr auto kNames =
                               std::to_array<const char*>({"Plain", "Indirect", "Inline", "Clusters"});
                           return std::string(kNames.at(info.index));
                         });

}  // namespace
}  // namespace fuse4fs::iomap_model
