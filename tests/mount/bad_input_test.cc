// SPDX-License-Identifier: GPL-2.0-or-later
// What cannot be mounted is refused in words, with mount(8)'s exit status, and nothing is left behind.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <random>

#include "base/unique_fd.h"
#include "tests/mount/cut_volume.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kUsage = 1;
constexpr int kMountFailure = 32;

void overwrite(const fs::path& image, off_t offset, std::string_view bytes) {
  const UniqueFd file(::open(image.c_str(), O_WRONLY));
  ASSERT_EQ(::pwrite(file.get(), bytes.data(), bytes.size(), offset), static_cast<ssize_t>(bytes.size()));
}

class BadInput : public MountTest {
 protected:
  void expect_refused(const fs::path& source, const std::string& words, const std::string& options = "",
                      int status = kMountFailure) {
    const Finished refused = mount(source, options);
    EXPECT_EQ(refused.status, status) << refused.output;
    EXPECT_THAT(refused.output, HasSubstr(words));
    // A wrong option is wrong whatever the source.
    if (status != kUsage) {
      EXPECT_THAT(refused.output, HasSubstr(source.filename().string()));
    }
    expect_nothing_left(source);
  }
  void expect_nothing_left(const fs::path& source) {
    EXPECT_TRUE(server_ends());
    EXPECT_THAT(contents_of("/proc/self/mountinfo"), ::testing::Not(HasSubstr(mount_point().string())));
    EXPECT_THAT(loop_devices_of(source), IsEmpty());
  }
};

TEST_F(BadInput, ATruncatedImage) {
  const auto image = make_image("64M");
  fs::resize_file(image, 32 << 20);
  expect_refused(image, "truncated");
}

TEST_F(BadInput, AnEmptyFile) {
  const auto image = scratch() / "empty";
  write_file(image, "");
  expect_refused(image, "empty");
}

TEST_F(BadInput, NotExt4) {
  const auto image = scratch() / "noise";
  write_file(image, std::string(1 << 20, 'x'));
  expect_refused(image, "ext");
}

TEST_F(BadInput, ADirectory) { expect_refused(scratch(), "directory"); }

TEST_F(BadInput, AMissingSource) { expect_refused(scratch() / "absent", "No such file"); }

TEST_F(BadInput, AMissingMountPoint) {
  const auto image = make_image();
  const auto refused = run({FUSE4FS_HELPER, image, scratch() / "nowhere"});
  EXPECT_EQ(refused.status, kMountFailure) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("nowhere"));
  expect_nothing_left(image);
}

TEST_F(BadInput, AMountPointThatIsNoDirectory) {
  const auto image = make_image();
  write_file(scratch() / "file", "");
  const auto refused = run({FUSE4FS_HELPER, image, scratch() / "file"});
  EXPECT_EQ(refused.status, kMountFailure) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("directory"));
  expect_nothing_left(image);
}

TEST_F(BadInput, ADeviceInUse) {
  const auto image = make_image();
  const auto made = run({"losetup", "--show", "-f", image});
  ASSERT_EQ(made.status, 0) << made.output;
  const auto device = made.output.substr(0, made.output.find('\n'));
  kernel_mount(device, "defaults");
  const auto second = scratch() / "second";
  fs::create_directory(second);
  const auto refused = run({FUSE4FS_HELPER, device, second});
  EXPECT_EQ(refused.status, kMountFailure) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("in use"));
  EXPECT_EQ(unmount().status, 0);
  EXPECT_EQ(run({"losetup", "-d", device}).status, 0);
}

TEST_F(BadInput, AnImageThatIsMountedAlreadyShowsTheSameFileSystem) {
  const auto image = make_image();
  mount_or_fail(image);
  write_file(mount_point() / "file", "text");
  const auto second = scratch() / "second";
  fs::create_directory(second);
  const auto again = run({FUSE4FS_HELPER, image, second, "-o", "nodev"});
  EXPECT_EQ(again.status, 0) << again.output;
  EXPECT_EQ(loop_devices_of(image).size(), 1U);
  EXPECT_EQ(contents_of(second / "file"), "text");
  write_file(second / "file", "other");
  EXPECT_EQ(contents_of(mount_point() / "file"), "other");
  // As the kernel's ext4 answers it: EBUSY.
  const auto refused = run({FUSE4FS_HELPER, image, second, "-o", "ro"});
  EXPECT_EQ(refused.status, kMountFailure) << refused.output;
  // The server stays until the last of them goes.
  EXPECT_EQ(unmount().status, 0);
  EXPECT_EQ(contents_of(second / "file"), "other");
  EXPECT_EQ(run({FUSE4FS_HELPER, "--stop", second}).status, 0);
  expect_nothing_left(image);
  expect_clean(image);
}

TEST_F(BadInput, AnUnknownOption) {
  const auto image = make_image();
  expect_refused(image, "frobnicate", "frobnicate", kUsage);
}

TEST_F(BadInput, OptionsOfExt4ThatAreNotServedAreRefusedByName) {
  const auto image = make_image();
  for (const std::string option : {"data=journal", "usrquota", "dax", "nobarrier"})
    expect_refused(image, option.substr(0, option.find('=')), option, kUsage);
}

TEST_F(BadInput, UnknownFeatureBits) {
  const auto image = make_image("64M", {"-O", "^metadata_csum"});
  constexpr off_t kSuperblock = 1024;
  overwrite(image, kSuperblock + 0x60 + 3, "\x40");  // an incompatible feature nobody knows
  expect_refused(image, "feature");
  overwrite(image, kSuperblock + 0x60 + 3, std::string_view("\0", 1));
  overwrite(image, kSuperblock + 0x64 + 3, "\x40");  // a read-only compatible one
  expect_refused(image, "feature");
  EXPECT_EQ(mount(image, "ro").status, 0);
  EXPECT_EQ(unmount().status, 0);
}

TEST_F(BadInput, ADamagedJournal) {
  const auto image = make_image("64M", {"-b", "4096"});
  ASSERT_EQ(run({"debugfs", "-w", "-R", "feature needs_recovery", image}).status, 0);
  // Its superblock's magic.
  const auto block = run({"sh", "-c", "debugfs -R 'bmap <8> 0' " + image.string() + " 2>/dev/null"}).output;
  ASSERT_FALSE(block.empty());
  {
    std::fstream file(image, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(std::stoll(block) * 4096);
    file.write("nobody", 6);
    ASSERT_TRUE(file) << block;
  }
  expect_refused(image, "e2fsck");
  const Finished served = mount(image, "ro,noload");
  EXPECT_EQ(served.status, 0) << served.output;
  EXPECT_EQ(unmount().status, 0);
}

TEST_F(BadInput, NotRoot) {
  const auto image = make_image();
  // The build tree may lie where others cannot look.
  const auto copy = scratch() / "mount.fuse4fs";
  fs::copy_file(FUSE4FS_HELPER, copy);
  fs::permissions(scratch(), fs::perms::all);
  const auto refused =
      run({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy, image, mount_point()});
  EXPECT_EQ(refused.status, kUsage) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("root"));
}

// The volume's metadata with random bytes flipped: any errno, but no crash and no hang.
class FlippedBytes : public MountTest, public ::testing::WithParamInterface<int> {};

TEST_P(FlippedBytes, NeverCrashesTheServer) {
  constexpr int kImagesPerTest = 20;
  const bool checksums = GetParam() % 2 == 0;
  const auto original =
      make_image("16M", checksums ? Command{} : Command{"-O", "^metadata_csum,^64bit"}, "original");
  mount_or_fail(original);
  for (int i = 0; i < 100; ++i) {
    write_file(mount_point() / ("file" + std::to_string(i)),
               std::string(static_cast<std::size_t>(i) * 100, 'd'));
    if (i % 10 == 0)
      fs::create_directories(mount_point() / ("dir" + std::to_string(i)) / "deeper/and/deeper");
  }
  ASSERT_EQ(unmount().status, 0);

  int served = 0;
  for (int image_number = 0; image_number < kImagesPerTest; ++image_number) {
    const int seed = GetParam() * kImagesPerTest + image_number;
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto image = scratch() / "flipped";
    fs::copy_file(original, image, fs::copy_options::overwrite_existing);
    fs::remove(scratch() / "log");
    std::mt19937 random(static_cast<unsigned>(seed));
    // Superblock, descriptors, bitmaps, inode table and the first directories lie in the first megabyte.
    const int flips = 1 + static_cast<int>(random() % 200);
    for (int flip = 0; flip < flips; ++flip) {
      // Superblock and descriptors in a third of the images only: most flips there end at the door.
      const bool early = image_number % 3 == 0 && random() % 4 == 0;
      const off_t offset = early ? static_cast<off_t>(random() % 8192)
                                 : static_cast<off_t>(65536 + random() % ((1 << 20) - 65536));
      overwrite(image, offset, std::string(1, static_cast<char>(random())));
    }

    const Finished mounted = run(
        {"timeout", "60", FUSE4FS_HELPER, image, mount_point(), "-o", "log=" + (scratch() / "log").string()});
    ASSERT_NE(mounted.status, 124) << "hangs";
    ASSERT_THAT(mounted.output, ::testing::Not(HasSubstr("Sanitizer")));
    ASSERT_THAT(mounted.output, ::testing::Not(HasSubstr("by signal"))) << "the server died";
    ASSERT_THAT(mounted.output, ::testing::Not(HasSubstr("broke off"))) << "the server died";
    if (mounted.status != 0) continue;
    ++served;
    const auto walked = run(
        {"timeout", "60", "sh", "-c",
         "cd '" + mount_point().string() +
             // Of a damaged root there is no way in: nothing below is for the directory of this test then.
             "' || exit 0; find . -ls >/dev/null; "
             // A flipped size can be petabytes of nothing: the start of each file will do.
             "find . -type f -exec head -c 1M {} + >/dev/null; "
             "mkdir new; echo text >new/file; head -c 1M file50 >new/file50; mv file51 new/; rm -r dir10 "
             "dir20 "
             "file6*; truncate -s 100k file70; ln file71 new/link; sync -f ."});
    ASSERT_NE(walked.status, 124) << "hangs: " << walked.output;
    ASSERT_TRUE(server()) << "the server died: " << log();
    ASSERT_EQ(unmount().status, 0);
    ASSERT_TRUE(server_ends());
    ASSERT_THAT(log(), HasSubstr("unmounted")) << "the server died at the last";
    ASSERT_THAT(log(), ::testing::Not(HasSubstr("Sanitizer")));
    // The kernel takes it away once nobody has it open; others may just be looking at all loop devices.
    ASSERT_TRUE(is_free(image));
  }
  std::cout << served << " of " << kImagesPerTest << " images were mounted\n";
  // Refusing everything would prove nothing.
  EXPECT_GE(served, kImagesPerTest / 4);
}

INSTANTIATE_TEST_SUITE_P(Seeds, FlippedBytes, ::testing::Range(0, 10));

}  // namespace
}  // namespace fuse4fs::test
