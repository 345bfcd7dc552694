// SPDX-License-Identifier: GPL-2.0-or-later
// chattr +D and +S: what was answered is on the medium. The image is read beside the mount: what its file
// holds has gone through a flush of the loop device, or would not be there yet.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

void set_flags(const fs::path& path, unsigned flags) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  unsigned now = 0;
  ASSERT_EQ(::ioctl(file.get(), FS_IOC_GETFLAGS, &now), 0);
  now |= flags;
  ASSERT_EQ(::ioctl(file.get(), FS_IOC_SETFLAGS, &now), 0);
}

class Synchronous : public MountTest {
 protected:
  void start(const std::string& options = "") {
    image_ = make_image();
    mount_or_fail(image_, options);
  }
  [[nodiscard]] std::string debugfs(const std::string& command) const {
    return run({"debugfs", "-R", command, image_.string()}).output;
  }
  // "file", "directory", …, or "nothing", as the medium has it.
  [[nodiscard]] std::string found(const std::string& path) const {
    const std::string said = debugfs("stat /" + path);
    if (said.find("File not found") != std::string::npos) return "nothing";
    const auto at = said.find("Type: ");
    return at == std::string::npos ? said : said.substr(at + 6, said.find(' ', at + 6) - at - 6);
  }
  [[nodiscard]] fs::path image() const { return image_; }

 private:
  fs::path image_;
};

// Nobody syncs: it is due after a second, and a machine that has much to do may take longer.
TEST_F(Synchronous, WhatNobodySyncsGoesAsCommitSays) {
  start("commit=1");
  fs::create_directory(mount_point() / "d");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (found("d") == "nothing" && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(found("d"), "directory");
}

class SynchronousDirectory : public Synchronous, public ::testing::WithParamInterface<unsigned> {};

TEST_P(SynchronousDirectory, NamesAreOnTheMediumAtOnce) {
  start();
  const auto root = mount_point();
  const auto at = [&](const std::string& name) { return (root / name).string(); };
  ASSERT_EQ(::mkdir(at("d").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(at("plain").c_str(), 0755), 0);
  for (const char* const name : {"plain/a", "plain/b", "plain/c"}) write_file(root / name, "x");
  set_flags(root / "d", GetParam());
  ASSERT_EQ(run({"sync", "-f", root.string()}).status, 0);

  UniqueFd file(::open(at("d/file").c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644));
  ASSERT_TRUE(file);
  EXPECT_EQ(found("d/file"), "regular");
  ASSERT_EQ(::mkdir(at("d/sub").c_str(), 0755), 0);
  EXPECT_EQ(found("d/sub"), "directory");
  ASSERT_EQ(::symlink("target", at("d/symlink").c_str()), 0);
  EXPECT_EQ(found("d/symlink"), "symlink");
  ASSERT_EQ(::mkfifo(at("d/fifo").c_str(), 0644), 0);
  EXPECT_EQ(found("d/fifo"), "FIFO");
  ASSERT_EQ(::link(at("plain/a").c_str(), at("d/link").c_str()), 0);
  EXPECT_EQ(found("d/link"), "regular");
  {
    const UniqueFd temporary(::open(root.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(::linkat(temporary.get(), "", AT_FDCWD, at("d/temporary").c_str(), AT_EMPTY_PATH), 0);
    EXPECT_EQ(found("d/temporary"), "regular");
  }
  ASSERT_EQ(::rename(at("d/file").c_str(), at("d/renamed").c_str()), 0);
  EXPECT_EQ(found("d/file") + found("d/renamed"), "nothingregular");
  ASSERT_EQ(::rename(at("plain/b").c_str(), at("d/moved-in").c_str()), 0);
  EXPECT_EQ(found("plain/b") + found("d/moved-in"), "nothingregular");
  ASSERT_EQ(::rename(at("d/moved-in").c_str(), at("plain/moved-out").c_str()), 0);
  EXPECT_EQ(found("d/moved-in") + found("plain/moved-out"), "nothingregular");
  ASSERT_EQ(::renameat2(AT_FDCWD, at("d/sub").c_str(), AT_FDCWD, at("plain/c").c_str(), RENAME_EXCHANGE), 0);
  EXPECT_EQ(found("d/sub") + found("plain/c"), "regulardirectory");
  ASSERT_EQ(::unlink(at("d/sub").c_str()), 0);
  EXPECT_EQ(found("d/sub"), "nothing");
  // What is made in it takes the flag over.
  ASSERT_EQ(::mkdir(at("d/heir").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(at("d/heir/sub").c_str(), 0755), 0);
  EXPECT_EQ(found("d/heir/sub"), "directory");
  ASSERT_EQ(::rmdir(at("d/heir/sub").c_str()), 0);
  EXPECT_EQ(found("d/heir/sub"), "nothing");
  file.reset();
  unmount_and_check(image());
}

INSTANTIATE_TEST_SUITE_P(Flags, SynchronousDirectory, ::testing::Values(FS_DIRSYNC_FL, FS_SYNC_FL),
                         [](const auto& flag) { return flag.param == FS_SYNC_FL ? "Sync" : "Dirsync"; });

TEST_F(Synchronous, WhatTheServerIsAskedOfAFileIsOnTheMediumAtOnce) {
  start();
  const auto path = mount_point() / "file";
  write_file(path, std::string(10'000, 'x'));
  set_flags(path, FS_SYNC_FL);
  ASSERT_EQ(run({"sync", "-f", path.string()}).status, 0);

  ASSERT_EQ(::chmod(path.c_str(), 0604), 0);
  EXPECT_THAT(debugfs("stat /file"), testing::HasSubstr("Mode:  0604"));
  ASSERT_EQ(::chown(path.c_str(), 4321, 0), 0);
  EXPECT_THAT(debugfs("stat /file"), testing::ContainsRegex("User: +4321"));
  ASSERT_EQ(::setxattr(path.c_str(), "user.name", "value", 5, 0), 0);
  EXPECT_THAT(debugfs("ea_list /file"), testing::HasSubstr("user.name (5)"));
  ASSERT_EQ(::removexattr(path.c_str(), "user.name"), 0);
  EXPECT_THAT(debugfs("ea_list /file"), testing::Not(testing::HasSubstr("user.name")));
  ASSERT_EQ(::truncate(path.c_str(), 5000), 0);
  EXPECT_THAT(debugfs("stat /file"), testing::ContainsRegex("Size: 5000"));
  UniqueFd file(::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  ASSERT_TRUE(file);
  ASSERT_EQ(::fallocate(file.get(), 0, 0, 8192), 0);
  EXPECT_THAT(debugfs("stat /file"), testing::ContainsRegex("Size: 8192"));
  // Past the page cache, a WRITE is what the program's write(2) was.
  constexpr std::size_t kPage = 4096;
  const std::unique_ptr<void, decltype(&std::free)> page(std::aligned_alloc(kPage, kPage), &std::free);
  std::fill_n(static_cast<char*>(page.get()), kPage, 'y');
  ASSERT_EQ(::pwrite(file.get(), page.get(), kPage, 8192), static_cast<ssize_t>(kPage)) << errno;
  const std::string content = debugfs("cat /file");
  EXPECT_TRUE(content.ends_with(std::string(kPage, 'y')));
  EXPECT_TRUE(content.find(std::string(5000, 'x')) != std::string::npos);
  file.reset();
  unmount_and_check(image());
}

}  // namespace
}  // namespace fuse4fs::test
