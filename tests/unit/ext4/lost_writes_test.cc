// SPDX-License-Identifier: GPL-2.0-or-later
// A device that fails to take what was written, says so once, and works again. Needs root and loop devices.
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <thread>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

// A loop device over a sparse image on a small tmpfs: when that is full, so is the device.
class LostWrites : public testing::TestWithParam<ErrorPolicy> {
 public:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    if (run("losetup -f").status != 0) GTEST_SKIP() << "no loop devices";
  }

  // In a thread of its own, whose mounts nobody else sees.
  void in_private(void (LostWrites::*body)(const std::string&, const std::string&)) {
    char place[] = "/tmp/ext4-lost-XXXXXX";
    ASSERT_NE(::mkdtemp(place), nullptr);
    std::thread([&] {
      ASSERT_EQ(::unshare(CLONE_FS | CLONE_NEWNS), 0);
      ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
      ASSERT_EQ(::mount("lost", place, "tmpfs", 0, "size=40m"), 0);
      const std::string image = place + std::string("/image");
      const auto made = run("truncate -s 300M " + image +
                            " && mke2fs -q -F -t ext4 -b 4096 -O ^has_journal,^metadata_csum,uninit_bg "
                            "-E lazy_itable_init=1 " +
                            image + " && losetup -f --show " + image);
      ASSERT_EQ(made.status, 0) << made.output;
      const auto device = made.output.substr(0, made.output.find('\n'));
      (this->*body)(place, device);
      EXPECT_EQ(run("losetup -d " + device).status, 0);
      ::umount2(place, MNT_DETACH);
    }).join();
    ::rmdir(place);
  }

  void fail_once(const std::string& place, const std::string& device) {
    const auto policy = GetParam();
    UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
    auto adopted = cache::BlockDevice::adopt(std::move(fd), UniqueFd(), cache::Access::kReadWrite);
    ASSERT_TRUE(adopted);
    auto mounted = FileSystem::mount(std::move(*adopted), {.errors = policy}, events_);
    ASSERT_TRUE(mounted) << mounted.error().message;
    auto& fs = **mounted;
    ASSERT_TRUE(fs.sync());
    (void)run("dd if=/dev/zero of=" + place + "/filler bs=64k");
    for (int i = 0; i < 500; ++i)
      ASSERT_TRUE(fs.make(kRootInode, fmt::format("directory {}", i), {.mode = S_IFDIR | 0755U}));
    EXPECT_EQ(fs.sync().error(), Errno(EIO));
    EXPECT_FALSE(events_.device_errors.empty());
    std::filesystem::remove(place + "/filler");
    // The device is well again, and knows nothing of it any more.
    EXPECT_EQ(fs.sync().error(), Errno(EIO));
    EXPECT_EQ(fs.sync_inode(kRootInode, FileSystem::SyncWhat::kAll).error(), Errno(EIO));
    const auto made = fs.make(kRootInode, "later", {.mode = S_IFREG | 0644U});
    const Errno answer = made ? Errno(0) : made.error();
    EXPECT_EQ(answer, policy == ErrorPolicy::kContinue          ? Errno(0)
                      : policy == ErrorPolicy::kRemountReadOnly ? Errno(EROFS)
                                                                : Errno(EIO));
    if (policy == ErrorPolicy::kContinue) synchronous_change(fs);
    EXPECT_EQ(fs.unmount().error(), Errno(EIO));
    const auto super = run("dumpe2fs -h " + device).output;
    EXPECT_EQ(super.find("state:         clean\n"), std::string::npos) << super;
    if (policy != ErrorPolicy::kShutDown) {
      EXPECT_NE(super.find("state:         not clean with errors"), std::string::npos) << super;
      EXPECT_NE(super.find("FS Error count:"), std::string::npos) << super;
    }
  }

  // What must be on the medium before the answer is not called done. It is there all the same, and a caller
  // that got an error has nothing to forget.
  static void synchronous_change(FileSystem& fs) {
    constexpr std::uint32_t kDirsync = 0x10000;
    ASSERT_TRUE(fs.set_flags(kRootInode, fs.flags(kRootInode)->flags | kDirsync));
    const auto free_inodes = fs.statistics()->free_inodes;
    EXPECT_EQ(fs.make(kRootInode, "file", {.mode = S_IFREG | 0644U}).error(), Errno(EIO));
    EXPECT_EQ(fs.statistics()->free_inodes, free_inodes - 1);
    EXPECT_EQ(fs.unlink(kRootInode, "file").error(), Errno(EIO));
    EXPECT_EQ(fs.statistics()->free_inodes, free_inodes);
  }

  // Nothing but the last flush fails.
  void fail_at_the_end(const std::string& place, const std::string& device) {
    UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
    auto adopted = cache::BlockDevice::adopt(std::move(fd), UniqueFd(), cache::Access::kReadWrite);
    ASSERT_TRUE(adopted);
    auto mounted = FileSystem::mount(std::move(*adopted), {.errors = GetParam()}, events_);
    ASSERT_TRUE(mounted) << mounted.error().message;
    for (int i = 0; i < 500; ++i)
      ASSERT_TRUE((*mounted)->make(kRootInode, fmt::format("directory {}", i), {.mode = S_IFDIR | 0755U}));
    (void)run("dd if=/dev/zero of=" + place + "/filler bs=64k");
    EXPECT_EQ((*mounted)->unmount().error(), Errno(EIO));
    EXPECT_FALSE(events_.device_errors.empty());
    const auto super = run("dumpe2fs -h " + device).output;
    EXPECT_EQ(super.find("state:         clean\n"), std::string::npos) << super;
  }

  RecordedEvents events_;
};

TEST_P(LostWrites, AreNotForgotten) { in_private(&LostWrites::fail_once); }
TEST_P(LostWrites, LeaveTheVolumeUnclean) { in_private(&LostWrites::fail_at_the_end); }

INSTANTIATE_TEST_SUITE_P(Policies, LostWrites,
                         testing::Values(ErrorPolicy::kContinue, ErrorPolicy::kRemountReadOnly,
                                         ErrorPolicy::kShutDown));

}  // namespace
}  // namespace fuse4fs::ext4
