// SPDX-License-Identifier: GPL-2.0-or-later
// Multi-mount protection for real: two loop devices of one image are two machines with one disk.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

#ifdef __SANITIZE_THREAD__
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

class MultiMount : public MountTest {
 protected:
  void SetUp() override { fs::create_directory(second_mount_point()); }
  void TearDown() override {
    ::umount2(second_mount_point().c_str(), MNT_DETACH);
    ::umount2(mount_point().c_str(), MNT_DETACH);
    EXPECT_TRUE(server_ends());
    for (const auto& device : devices_) {
      // The second server may take a moment to let go.
      for (int i = 0; i < 100 && run({"losetup", "-d", device}).status != 0; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  // An image with the feature, and two devices of it.
  void make_devices(const Command& mkfs_arguments) {
    image_ = make_image("64M", mkfs_arguments);
    for (int i = 0; i < 2; ++i) {
      auto made = run({"losetup", "--show", "-f", image_});
      ASSERT_EQ(made.status, 0) << made.output;
      made.output.pop_back();
      devices_.push_back(made.output);
    }
  }
  [[nodiscard]] fs::path second_mount_point() const { return scratch() / "second"; }
  [[nodiscard]] Finished mount_second(const std::string& options = "rw") const {
    return run({FUSE4FS_HELPER, devices_[1], second_mount_point(), "-o",
                "log=" + (scratch() / "log2").string() + "," + options});
  }
  [[nodiscard]] static std::string node() {
    utsname name{};
    ::uname(&name);
    return name.nodename;
  }
  [[nodiscard]] std::string who(const std::string& device) const {
    return "machine \"" + node() + "\", device \"" + fs::path(device).filename().string() + "\"";
  }
  [[nodiscard]] bool log_says(const std::string& words, int seconds) const {
    for (int i = 0; i < seconds * 20; ++i) {
      if (log().find(words) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }
  [[nodiscard]] std::string record() const { return run({"debugfs", "-R", "dump_mmp", image_}).output; }

  fs::path image_;
  std::vector<std::string> devices_;
};

const Command kMmp{"-O", "mmp", "-E", "mmp_update_interval=1"};

TEST_F(MultiMount, AVolumeThatTheKernelHasMountedIsRefusedWithTheOthersName) {
  make_devices(kMmp);
  ASSERT_EQ(run({"mount", "-t", "ext4", devices_[0], mount_point()}).status, 0);
  const auto refused = mount_second();
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.output, AllOf(HasSubstr("waiting 11 seconds"), HasSubstr("mounted elsewhere already"),
                                    HasSubstr(who(devices_[0]))));
  write_file(mount_point() / "file", "content");
  ASSERT_EQ(unmount().status, 0);
  // Free now: at once.
  const auto start = std::chrono::steady_clock::now();
  const auto mounted = mount_second();
  EXPECT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(11));
  EXPECT_EQ(contents_of(second_mount_point() / "file"), "content");
  ASSERT_EQ(run({"umount", second_mount_point()}).status, 0);
  expect_clean(image_);
}

TEST_F(MultiMount, TheKernelRefusesAVolumeThatWeHaveMounted) {
  make_devices(kMmp);
  mount_or_fail(devices_[0]);
  write_file(mount_point() / "file", "content");
  const auto refused = run({"mount", "-t", "ext4", devices_[1], second_mount_point()});
  EXPECT_NE(refused.status, 0);
  const auto messages = run({"dmesg"}).output;
  const auto device = fs::path(devices_[1]).filename().string();
  const auto at = messages.rfind("(device " + device + "): ext4_multi_mount_protect");
  ASSERT_NE(at, std::string::npos);
  EXPECT_THAT(messages.substr(at),
              AllOf(HasSubstr("MMP failure info"), HasSubstr("last update node: " + node()),
                    HasSubstr(fs::path(devices_[0]).filename().string())));
  // Neither did e2fsck -p want it.
  EXPECT_THAT(run({"e2fsck", "-p", devices_[1]}).output, HasSubstr("MMP"));
  ASSERT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());
  // The kernel takes it at once, and reads what was written.
  ASSERT_EQ(run({"mount", "-t", "ext4", devices_[1], second_mount_point()}).status, 0);
  EXPECT_EQ(contents_of(second_mount_point() / "file"), "content");
  ASSERT_EQ(run({"umount", second_mount_point()}).status, 0);
  expect_clean(image_);
}

TEST_F(MultiMount, TwoServersDoNotMountOneVolume) {
  make_devices({"-b", "1024", "-O", "mmp,^metadata_csum", "-E", "mmp_update_interval=2"});
  mount_or_fail(devices_[0]);
  write_file(mount_point() / "file", "content");
  const auto refused = mount_second();
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.output, AllOf(HasSubstr("waiting"), HasSubstr("mounted elsewhere already"),
                                    HasSubstr(who(devices_[0]))));
  // Reading asks nobody, as with the kernel's ext4.
  EXPECT_EQ(mount_second("ro,noload").status, 0);
  ASSERT_EQ(run({"umount", second_mount_point()}).status, 0);
  write_file(mount_point() / "another", "content");
  EXPECT_THAT(log(), Not(HasSubstr("taken over")));
  ASSERT_EQ(unmount().status, 0);
  // Under the thread sanitizer the second server keeps this mount alive until it has ended
  // (server_process.cc).
  ASSERT_TRUE(server_ends());
  expect_clean(image_);
}

TEST_F(MultiMount, AKilledServersRecordIsWaitedForAndTheVolumeMounts) {
  if (kThreadSanitizer)
    GTEST_SKIP()
        << "SKIPPED: a server under the thread sanitizer that is killed while it serves can stop the "
           "kernel";
  make_devices({"-O", "^has_journal,mmp", "-E", "mmp_update_interval=1"});
  mount_or_fail(devices_[0]);
  write_file(mount_point() / "file", "content");
  ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
  const auto pid = server();
  ASSERT_TRUE(pid);
  ASSERT_EQ(::kill(*pid, SIGKILL), 0);
  ASSERT_TRUE(server_ends());
  ASSERT_EQ(::umount2(mount_point().c_str(), MNT_DETACH), 0);
  const auto mounted = mount_second();
  EXPECT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(mounted.output, AllOf(HasSubstr(who(devices_[0])), HasSubstr("waiting 11 seconds")));
  EXPECT_EQ(contents_of(second_mount_point() / "file"), "content");
  EXPECT_THAT(contents_of(scratch() / "log2"), HasSubstr("waiting 11 seconds"));
  ASSERT_EQ(run({"umount", second_mount_point()}).status, 0);
  // It was left unclean and is so still, by its own word: nothing else may be wrong with it.
  EXPECT_LE(run({"e2fsck", "-fp", image_}).status, 1);
  expect_clean(image_);
}

TEST_F(MultiMount, AnInterruptedWaitEndsTheServer) {
  make_devices(kMmp);
  ASSERT_EQ(run({"mount", "-t", "ext4", devices_[0], mount_point()}).status, 0);
  const auto start = std::chrono::steady_clock::now();
  const auto interrupted = run({"timeout", "-s", "INT", "2", FUSE4FS_HELPER, devices_[1],
                                second_mount_point(), "-o", "log=" + (scratch() / "log2").string()});
  EXPECT_NE(interrupted.status, 0);
  EXPECT_THAT(interrupted.output, HasSubstr("waiting 11 seconds"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(9));
  ASSERT_EQ(unmount().status, 0);
  expect_clean(image_);
}

TEST_F(MultiMount, AVolumeThatIsTakenOverAtRunTimeBecomesReadOnlyAndIsNotWrittenAgain) {
  make_devices({"-b", "4096", "-O", "mmp,^metadata_csum", "-E", "mmp_update_interval=1"});
  mount_or_fail(devices_[0]);
  write_file(mount_point() / "file", "content");
  ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
  const auto shown = run({"dumpe2fs", "-h", image_}).output;
  const auto at = shown.find("MMP block number:");
  ASSERT_NE(at, std::string::npos) << shown;
  const auto block = std::stoull(shown.substr(at + std::string_view("MMP block number:").size()));
  {
    // Sequence and node, as somebody else would write them.
    const UniqueFd device(::open(devices_[1].c_str(), O_RDWR | O_CLOEXEC));
    constexpr std::string_view kOther("\x05\x00\x00\x00\x80\x43\x6d\x38\x00\x00\x00\x00stranger\0", 21);
    ASSERT_EQ(::pwrite(device.get(), kOther.data(), kOther.size(), static_cast<off_t>(block * 4096 + 4)),
              static_cast<ssize_t>(kOther.size()));
    ASSERT_EQ(::fsync(device.get()), 0);
  }
  ASSERT_TRUE(log_says("taken over by machine \"stranger", 30));
  EXPECT_THAT(log(), HasSubstr("read-only from now on"));
  // What the page cache had taken before has been written by this.
  ASSERT_EQ(run({"sync", devices_[0]}).status, 0);
  const std::string before = contents_of(image_);
  const UniqueFd file(::open((mount_point() / "new").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  EXPECT_FALSE(file);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(contents_of(mount_point() / "file"), "content");
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());
  EXPECT_TRUE(contents_of(image_) == before);
  EXPECT_THAT(record(), HasSubstr("stranger"));
  EXPECT_THAT(log(), HasSubstr("not everything could be written"));
}

TEST_F(MultiMount, AVolumeWithQuotaFilesMountsReadOnlyAndSaysWhy) {
  const auto image = make_image("64M", {"-O", "quota"});
  for (const std::string options : {"", "rw"}) {
    const auto mounted = mount(image, options);
    EXPECT_EQ(mounted.status, 0) << mounted.output;
    EXPECT_THAT(mounted.output, AllOf(HasSubstr("read-only"), HasSubstr("quota")));
    EXPECT_EQ(::open((mount_point() / "new").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644), -1);
    EXPECT_EQ(errno, EROFS);
    const auto remounted = run({FUSE4FS_HELPER, "none", mount_point(), "-o", "remount,rw"});
    EXPECT_NE(remounted.status, 0);
    EXPECT_THAT(remounted.output, HasSubstr("is read-only, and so is its server"));
    EXPECT_THAT(log(), HasSubstr("mounted \"\", read-only"));
    unmount_and_check(image);
  }
}

}  // namespace
}  // namespace fuse4fs::test
