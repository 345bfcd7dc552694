// SPDX-License-Identifier: GPL-2.0-or-later
// The root's reserve: what is left when others find the volume full, and whose it is.
#include <fmt/format.h>

#include <optional>
#include <string>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint64_t kBlock = 1024;
constexpr Caller kRoot{0, 0}, kUser{1000, 1000};
constexpr auto kKeep = AttributeChanges::Privileges::kKeep;

class RootReserve : public testing::Test {
 protected:
  // A tenth is reserved, and also given to user 77 and group 88.
  RootReserve() {
    EXPECT_EQ(run("tune2fs -u 77 -g 88 " + volume_.image().string()).status, 0);
    volume_.mount();
  }
  ~RootReserve() override { EXPECT_EQ(volume_.unmount_and_check(), ""); }

  InodeNumber make(const std::string& name, Caller owner) {
    const auto made =
        volume_.fs().make(kRootInode, name, {.mode = S_IFREG | 0644U, .uid = owner.uid, .gid = owner.gid});
    EXPECT_TRUE(made);
    return made ? made->inode : 0;
  }
  // Until it is full; answers what is free then.
  std::uint64_t fill(InodeNumber file) {
    for (const std::size_t length : {std::size_t{1} << 20, std::size_t{kBlock}}) {
      const std::string bytes(length, 'f');
      while (true) {
        const auto size = volume_.fs().attributes(file)->size;
        const auto done = volume_.fs().write(file, size, std::as_bytes(std::span(bytes)), {});
        if (done) continue;
        EXPECT_EQ(done.error(), Errno(ENOSPC));
        break;
      }
    }
    return free_blocks();
  }
  [[nodiscard]] std::uint64_t free_blocks() { return volume_.fs().statistics()->free_blocks; }

  TestVolume volume_{"-t ext4 -b 1024 -m 10 -O ^has_journal", "32M"};
  const std::uint64_t reserve_ = 3276, kept_ = 655;
};

TEST_F(RootReserve, IsLeftByUsersAndIsRoots) {
  const auto users = make("users", kUser);
  const auto roots = make("roots", kRoot);
  const auto left = fill(users);
  EXPECT_GE(left, reserve_ + kept_);
  EXPECT_LE(left, reserve_ + kept_ + 2) << "map blocks";
  EXPECT_EQ(volume_.fs().statistics()->available_blocks, left - (reserve_ + kept_));
  // Statistics are the same for all.
  EXPECT_LE(fill(roots), kept_ + 2);
}

TEST_F(RootReserve, IsAlsoWhoseTheSuperblockNames) {
  EXPECT_GE(fill(make("users", kUser)), reserve_);
  EXPECT_GE(fill(make("group of root", {1000, 0})), reserve_);
  const auto before = free_blocks();
  volume_.write(make("by user", {77, 1000}), 0, std::string(10 * kBlock, 'u'));
  volume_.write(make("by group", {1000, 88}), 0, std::string(10 * kBlock, 'g'));
  EXPECT_EQ(free_blocks(), before - 20);
}

TEST_F(RootReserve, OfWhatCarriesItsCallerHeCounts) {
  auto& fs = volume_.fs();
  const auto users = make("users", kUser);
  const auto roots = make("roots", kRoot);
  fill(users);
  const auto allocate = [&](InodeNumber file, std::optional<Caller> caller) {
    const auto end = fs.attributes(file)->size;
    return fs.change_range(file, RangeChange::kAllocate, {end, 10 * kBlock}, EndOfFile::kMayMove, kKeep,
                           caller);
  };
  EXPECT_EQ(allocate(roots, kUser), fail(Errno(ENOSPC)));
  EXPECT_EQ(allocate(users, std::nullopt), fail(Errno(ENOSPC)));
  EXPECT_TRUE(allocate(users, kRoot));
  EXPECT_TRUE(allocate(roots, std::nullopt));
  // A directory needs a block at once, a file none, a name perhaps one.
  const auto make_directory = [&](Caller caller) {
    return fs.make(kRootInode, fmt::format("of {}", caller.uid),
                   {.mode = S_IFDIR | 0755U, .uid = caller.uid, .gid = caller.gid});
  };
  EXPECT_EQ(make_directory(kUser).error(), Errno(ENOSPC));
  EXPECT_TRUE(make_directory(kRoot));
  EXPECT_NE(make("empty", kUser), 0U);
  const auto names_until_full = [&](Caller caller) {
    int names = 0;
    while (names < 200 && fs.make(kRootInode, fmt::format("{:0>200}{}", names, caller.uid),
                                  {.mode = S_IFREG | 0644U, .uid = caller.uid, .gid = caller.gid}))
      ++names;
    return names;
  };
  EXPECT_LT(names_until_full(kUser), 5);
  EXPECT_EQ(names_until_full(kRoot), 200);
}

}  // namespace
}  // namespace fuse4fs::ext4
