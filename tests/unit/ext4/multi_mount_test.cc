// SPDX-License-Identifier: GPL-2.0-or-later
// Multi-mount protection: what is decided from the block, with waits that a test plays the other side in.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <thread>

#include "base/guarded.h"
#include "server/ext4/ext2.h"
#include "server/ext4/multi_mount_protection.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kMmp = "-t ext4 -b 4096 -O mmp -E mmp_update_interval=1";

// The other machine.
class Other {
 public:
  explicit Other(const TestVolume& volume) : fd_(::open(volume.image().c_str(), O_RDWR | O_CLOEXEC)) {
    EXPECT_EQ(::pread(fd_.get(), &super, sizeof super, 1024), static_cast<ssize_t>(sizeof super));
  }
  mmp_struct read() const {
    mmp_struct block{};
    EXPECT_EQ(::pread(fd_.get(), &block, sizeof block, offset()), static_cast<ssize_t>(sizeof block));
    return block;
  }
  void write(mmp_struct block) const {
    block.mmp_checksum =
        ext2fs_crc32c_le(ext2fs_crc32c_le(~0U, super.s_uuid, sizeof super.s_uuid),
                         reinterpret_cast<unsigned char*>(&block), offsetof(mmp_struct, mmp_checksum));
    EXPECT_EQ(::pwrite(fd_.get(), &block, sizeof block, offset()), static_cast<ssize_t>(sizeof block));
  }
  void says(std::uint32_t sequence, std::string_view node = "other", std::uint16_t interval = 5) const {
    auto block = read();
    block.mmp_seq = sequence;
    block.mmp_time = 1600000000;
    std::memset(block.mmp_nodename, 0, sizeof block.mmp_nodename);
    std::memcpy(block.mmp_nodename, node.data(), node.size());
    std::memset(block.mmp_bdevname, 0, sizeof block.mmp_bdevname);
    std::memcpy(block.mmp_bdevname, "sdx", 3);
    block.mmp_check_interval = interval;
    write(block);
  }
  void write_super() const {
    EXPECT_EQ(::pwrite(fd_.get(), &super, sizeof super, 1024), static_cast<ssize_t>(sizeof super));
  }
  off_t offset() const { return static_cast<off_t>(super.s_mmp_block << (10 + super.s_log_block_size)); }

  ext2_super_block super{};

 private:
  UniqueFd fd_;
};

struct Ours {
  std::vector<seconds> waits;
  std::function<bool(std::size_t)> during = [](std::size_t) { return true; };
  MountOptions options(cache::Access access = cache::Access::kReadWrite) {
    return {.access = access, .node_name = "here", .device_name = "loop77", .wait = [this](seconds time) {
              waits.push_back(time);
              return during(waits.size());
            }};
  }
};

std::string name_of(const mmp_struct& block) {
  return std::string(reinterpret_cast<const char*>(block.mmp_nodename)) + "/" +
         reinterpret_cast<const char*>(block.mmp_bdevname);
}

class EachBlockSize : public testing::TestWithParam<const char*> {};

TEST_P(EachBlockSize, IsTakenAtOnceWhereTheVolumeIsFreeAndGivenBack) {
  TestVolume volume(GetParam(), "256M");
  const Other other(volume);
  Ours ours;
  volume.mount(ours.options());
  EXPECT_THAT(ours.waits, IsEmpty());
  const auto taken = other.read();
  EXPECT_LE(taken.mmp_seq, EXT4_MMP_SEQ_MAX);
  EXPECT_EQ(name_of(taken), "here/loop77");
  EXPECT_GE(taken.mmp_check_interval, EXT4_MMP_MIN_CHECK_INTERVAL);
  volume.write(volume.make_file(kRootInode, "file"), 0, "content");
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_EQ(other.read().mmp_seq, EXT4_MMP_SEQ_CLEAN);
}

INSTANTIATE_TEST_SUITE_P(MultiMount, EachBlockSize,
                         testing::Values("-t ext4 -b 4096 -O mmp", "-t ext4 -b 1024 -O mmp",
                                         "-t ext4 -b 65536 -O mmp", "-t ext4 -b 2048 -O mmp,^metadata_csum",
                                         "-t ext4 -b 4096 -O mmp,metadata_csum_seed",
                                         "-t ext4 -b 4096 -O mmp,bigalloc"));

TEST(MultiMount, AStaleRecordIsWaitedForTwiceAndThenTaken) {
  TestVolume volume(kMmp);
  const Other other(volume);
  other.says(7);
  Ours ours;
  volume.mount(ours.options());
  EXPECT_THAT(ours.waits, ElementsAre(seconds(11), seconds(11)));
  ASSERT_EQ(volume.events.notices.size(), 1U);
  EXPECT_THAT(volume.events.notices[0],
              AllOf(HasSubstr("machine \"other\", device \"sdx\", last heard of at 2020-09-13 12:26:40 UTC"),
                    HasSubstr("waiting 11 seconds")));
  EXPECT_EQ(name_of(other.read()), "here/loop77");
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(MultiMount, ARecordThatChangesIsSomebodyElses) {
  TestVolume volume(kMmp);
  const Other other(volume);
  other.says(7);
  Ours ours;
  ours.during = [&](std::size_t) {
    other.says(8, "o\"\n\xff");
    return true;
  };
  const auto before = volume.image_bytes();
  const auto mounted = volume.try_mount(ours.options());
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error, Errno(EBUSY));
  EXPECT_THAT(mounted.error().message,
              AllOf(HasSubstr("mounted elsewhere already"), HasSubstr(R"(machine "o\x22\x0a\xff")")));
  // Nothing but what the other side wrote.
  other.says(7);
  EXPECT_TRUE(volume.image_bytes() == before);
}

TEST(MultiMount, WhoWritesLastInTheSecondWaitWins) {
  TestVolume volume(kMmp);
  const Other other(volume);
  other.says(7);
  Ours ours;
  ours.during = [&](std::size_t wait) {
    if (wait == 2) other.says(9);
    return true;
  };
  const auto mounted = volume.try_mount(ours.options());
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error, Errno(EBUSY));
  EXPECT_EQ(other.read().mmp_seq, 9U);
}

TEST(MultiMount, WaitingCanBeGivenUp) {
  for (const std::size_t at : {1, 2}) {
    TestVolume volume(kMmp);
    const Other other(volume);
    other.says(7);
    Ours ours;
    ours.during = [&](std::size_t wait) { return wait != at; };
    const auto mounted = volume.try_mount(ours.options());
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error, Errno(ETIMEDOUT));
    // Once it was ours, the next mount need not wait.
    EXPECT_EQ(other.read().mmp_seq, at == 1 ? 7 : EXT4_MMP_SEQ_CLEAN);
  }
}

TEST(MultiMount, ARunningCheckIsNotDisturbed) {
  TestVolume volume(kMmp);
  Other(volume).says(EXT4_MMP_SEQ_FSCK);
  Ours ours;
  const auto mounted = volume.try_mount(ours.options());
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error, Errno(EBUSY));
  EXPECT_THAT(mounted.error().message, HasSubstr("e2fsck is at work"));
  EXPECT_THAT(ours.waits, IsEmpty());
}

// Somebody else's running journal is no reason to send the user to e2fsck.
TEST(MultiMount, WhoHasItComesBeforeHowItWasLeft) {
  // A journal to be replayed that is not there.
  TestVolume volume("-t ext4 -b 4096 -O mmp,^metadata_csum,^has_journal");
  Other other(volume);
  other.super.s_feature_incompat |= EXT3_FEATURE_INCOMPAT_RECOVER;
  other.write_super();
  other.says(7);
  Ours ours;
  ours.during = [&](std::size_t) {
    other.says(8);
    return true;
  };
  const auto mounted = volume.try_mount(ours.options());
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error, Errno(EBUSY));
  // Nobody has it: the advice is true, and the volume was given back for it.
  other.says(7);
  ours.during = [](std::size_t) { return true; };
  const auto dirty = volume.try_mount(ours.options());
  ASSERT_FALSE(dirty);
  EXPECT_THAT(dirty.error().message, HasSubstr("run: e2fsck"));
  EXPECT_EQ(other.read().mmp_seq, EXT4_MMP_SEQ_CLEAN);
}

TEST(MultiMount, ReadingNeitherWaitsNorWrites) {
  TestVolume volume(kMmp);
  Other(volume).says(7);
  const auto before = volume.image_bytes();
  Ours ours;
  volume.mount(ours.options(cache::Access::kReadOnly));
  volume.fs().keep_claim();
  volume.unmount();
  EXPECT_THAT(ours.waits, IsEmpty());
  EXPECT_TRUE(volume.image_bytes() == before);
}

TEST(MultiMount, HostileIntervalsAreBounded) {
  TestVolume volume("-t ext4 -b 4096 -O mmp,^metadata_csum");
  Other other(volume);
  other.super.s_mmp_update_interval = 65535;
  other.write_super();
  other.says(7, "other", 65535);
  Ours ours;
  volume.mount(ours.options());
  EXPECT_THAT(ours.waits, ElementsAre(seconds(360), seconds(360)));
  EXPECT_EQ(other.read().mmp_check_interval, 300);
}

TEST(MultiMount, ADamagedBlockIsNotTrusted) {
  {
    TestVolume volume(kMmp);
    const Other other(volume);
    const UniqueFd image(::open(volume.image().c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::pwrite(image.get(), "x", 1, other.offset() + 20), 1);
    const auto mounted = volume.try_mount();
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error, Errno(EUCLEAN));
    EXPECT_THAT(mounted.error().message, HasSubstr("damaged"));
  }
  for (const std::uint64_t block : {std::uint64_t{0}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    TestVolume volume("-t ext4 -b 4096 -O mmp,^metadata_csum");
    Other other(volume);
    other.super.s_mmp_block = block;
    other.write_super();
    const auto mounted = volume.try_mount();
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error, Errno(EUCLEAN)) << mounted.error().message;
  }
  {
    // In the middle of the inode table, where a sound record was put.
    TestVolume volume("-t ext4 -b 4096 -O mmp,^metadata_csum");
    Other other(volume);
    const auto block = other.read();
    other.super.s_mmp_block = 100;
    other.write_super();
    other.write(block);
    const auto mounted = volume.try_mount();
    ASSERT_FALSE(mounted);
    EXPECT_THAT(mounted.error().message, HasSubstr("belongs to two"));
  }
}

TEST(MultiMount, AVolumeThatWasTakenOverIsNotWrittenAnyMore) {
  TestVolume volume(kMmp);
  const Other other(volume);
  Ours ours;
  auto& fs = volume.mount(ours.options());
  std::thread keeper([&] { fs.keep_claim(); });
  const auto file = volume.make_file(kRootInode, "file");
  volume.write(file, 0, "content");
  // At least one more round, and then the other side.
  const auto first = other.read().mmp_seq;
  while (other.read().mmp_seq == first) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  other.says(1000);
  keeper.join();
  ASSERT_EQ(volume.events.notices.size(), 1U);
  EXPECT_THAT(volume.events.notices[0],
              AllOf(HasSubstr("taken over by machine \"other\", device \"sdx\""), HasSubstr("read-only")));
  EXPECT_EQ(fs.access(), cache::Access::kReadOnly);
  const auto before = volume.image_bytes();
  const std::string more = "more";
  EXPECT_EQ(fs.write(file, 0, std::as_bytes(std::span(more)), AttributeChanges::Privileges::kKeep).error(),
            Errno(EROFS));
  EXPECT_EQ(fs.make(kRootInode, "other", {.mode = S_IFREG | 0644}).error(), Errno(EROFS));
  EXPECT_EQ(volume.read(file, 0, 10), "content");
  EXPECT_TRUE(fs.write_back());
  EXPECT_EQ(fs.sync().error(), Errno(EIO));
  EXPECT_EQ(fs.unmount().error(), Errno(EIO));
  EXPECT_TRUE(volume.image_bytes() == before);
  EXPECT_EQ(other.read().mmp_seq, 1000U);
}

TEST(MultiMount, ATakeoverIsSeenByTheUnmountItself) {
  TestVolume volume(kMmp);
  const Other other(volume);
  Ours ours;
  auto& fs = volume.mount(ours.options());
  volume.make_file(kRootInode, "file");
  other.says(1000);
  const auto before = volume.image_bytes();
  EXPECT_EQ(fs.unmount().error(), Errno(EIO));
  EXPECT_TRUE(volume.image_bytes() == before);
}

// The class alone, with a clock of the test's own.
struct Protected : testing::Test {
  TestVolume volume{kMmp};
  Other other{volume};
  Ours ours;

  std::unique_ptr<cache::BlockDevice> device;
  std::unique_ptr<MultiMountProtection> protection;

  void SetUp() override {
    UniqueFd buffered(::open(volume.image().c_str(), O_RDWR | O_CLOEXEC));
    auto adopted = cache::BlockDevice::adopt(std::move(buffered), UniqueFd(), cache::Access::kReadWrite);
    ASSERT_TRUE(adopted);
    device = std::make_unique<cache::BlockDevice>(std::move(*adopted));
    const MultiMountPlace place{
        .offset = static_cast<std::uint64_t>(other.offset()),
        .update_interval = seconds(5),
        .checksum_seed = ext2fs_crc32c_le(~0U, other.super.s_uuid, sizeof other.super.s_uuid)};
    auto taken = MultiMountProtection::take(*device, place, ours.options(), volume.events);
    ASSERT_TRUE(taken) << taken.error().message;
    protection = std::move(*taken);
  }
  const MultiMountProtection::TimePoint start = std::chrono::steady_clock::now();
};

TEST_F(Protected, TheCheckIntervalFollowsTheDevice) {
  EXPECT_EQ(other.read().mmp_check_interval, 10);
  for (const auto& [at, interval] : {std::pair(5, 10), {35, 60}, {41, 12}, {1041, 300}, {1046, 10}}) {
    // One second of grace: the mount's own time is a little later than `start`.
    EXPECT_EQ(protection->beat(start + seconds(at) + std::chrono::milliseconds(900)), std::nullopt);
    EXPECT_EQ(other.read().mmp_check_interval, interval) << at;
  }
  protection->give_back();
  EXPECT_EQ(other.read().mmp_seq, EXT4_MMP_SEQ_CLEAN);
}

TEST_F(Protected, ADeviceThatFailsForLongLosesTheVolume) {
  EXPECT_EQ(protection->beat(start + seconds(5)), std::nullopt);
  device->forbid_writes();
  EXPECT_EQ(protection->beat(start + seconds(10)), std::nullopt);
  EXPECT_EQ(volume.events.device_errors.size(), 1U);
  const auto lost = protection->beat(start + seconds(40));
  ASSERT_TRUE(lost);
  EXPECT_THAT(*lost, HasSubstr("could not be written"));
  // Said once.
  EXPECT_EQ(protection->beat(start + seconds(45)), std::nullopt);
}

TEST_F(Protected, ABlockThatWasWipedLosesTheVolume) {
  other.write(mmp_struct{});
  const auto lost = protection->beat(start + seconds(5));
  ASSERT_TRUE(lost);
  EXPECT_THAT(*lost, HasSubstr("overwritten"));
}

TEST_F(Protected, ANeighbourOfTheSameNameIsSomebodyElse) {
  auto block = other.read();
  ++block.mmp_seq;
  other.write(block);
  const auto lost = protection->beat(start + seconds(5));
  ASSERT_TRUE(lost);
  EXPECT_THAT(*lost, HasSubstr("taken over by machine \"here\""));
}

TEST(Quota, AVolumeWithQuotaFilesIsReadOnlyAndSaysWhy) {
  TestVolume volume("-t ext4 -b 4096 -O quota");
  auto& fs = volume.mount();
  EXPECT_EQ(fs.access(), cache::Access::kReadOnly);
  ASSERT_EQ(volume.events.notices.size(), 1U);
  EXPECT_THAT(volume.events.notices[0], AllOf(HasSubstr("read-only"), HasSubstr("quota")));
  EXPECT_EQ(fs.make(kRootInode, "file", {.mode = S_IFREG | 0644}).error(), Errno(EROFS));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
