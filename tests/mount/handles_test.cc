// SPDX-License-Identifier: GPL-2.0-or-later
// File handles, as an NFS server keeps them: name_to_handle_at and open_by_handle_at.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

// A handle of the kernel's FUSE: node id, its high half first, and generation.
struct Handle {
  struct file_handle header;
  std::array<std::uint32_t, 32> words;

  void set_node(std::uint64_t node) {
    words[0] = static_cast<std::uint32_t>(node >> 32);
    words[1] = static_cast<std::uint32_t>(node);
  }
};

class Handles : public MountTest {
 protected:
  Handle handle_of(const fs::path& path) {
    Handle handle{};
    handle.header.handle_bytes = sizeof handle.words;
    int mount_id = 0;
    EXPECT_EQ(::name_to_handle_at(AT_FDCWD, path.c_str(), &handle.header, &mount_id, 0), 0)
        << path << ": " << std::strerror(errno);
    return handle;
  }
  UniqueFd open_handle(Handle handle, int flags) {
    const UniqueFd root(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return UniqueFd(::open_by_handle_at(root.get(), &handle.header, flags | O_CLOEXEC));
  }
  int error_of(const Handle& handle) {
    const UniqueFd opened = open_handle(handle, O_PATH);
    return opened ? 0 : errno;
  }
  static ino_t inode_of(const UniqueFd& file) {
    struct stat status{};
    EXPECT_EQ(::fstat(file.get(), &status), 0);
    return status.st_ino;
  }
  static ino_t inode_of(const fs::path& path) {
    struct stat status{};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0);
    return status.st_ino;
  }
  // Not sync(2): other file systems of the machine, and what hangs in them, are no business of a test.
  void drop_caches() const {
    const UniqueFd root(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_EQ(::syncfs(root.get()), 0);
    write_file("/proc/sys/vm/drop_caches", "3");
  }
};

TEST_F(Handles, LeadBackToWhatTheyAreOf) {
  const auto image = make_image();
  mount_or_fail(image);
  fs::create_directories(mount_point() / "a/b/c");
  write_file(mount_point() / "a/b/c/file", "content");
  fs::create_symlink("target", mount_point() / "a/link");
  ASSERT_EQ(::mkfifo((mount_point() / "a/b/pipe").c_str(), 0600), 0);
  ASSERT_EQ(::mknod((mount_point() / "device").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
  const fs::path paths[] = {"", "a", "a/b/c", "a/b/c/file", "a/link", "a/b/pipe", "device", "lost+found"};
  std::map<std::string, std::pair<Handle, ino_t>> handles;
  for (const auto& path : paths)
    handles[path] = {handle_of(mount_point() / path), inode_of(mount_point() / path)};
  const auto all_are_good = [&](const char* when) {
    SCOPED_TRACE(when);
    for (const auto& [path, known] : handles) {
      SCOPED_TRACE(path);
      const UniqueFd opened = open_handle(known.first, O_PATH);
      ASSERT_TRUE(opened) << std::strerror(errno);
      EXPECT_EQ(inode_of(opened), known.second);
    }
    const UniqueFd file = open_handle(handles["a/b/c/file"].first, O_RDWR);
    std::array<char, 7> bytes{};
    EXPECT_EQ(::pread(file.get(), bytes.data(), bytes.size(), 0), 7);
    EXPECT_EQ(std::string_view(bytes.data(), bytes.size()), "content");
    // Connected by "..", up to the root.
    const UniqueFd directory = open_handle(handles["a/b/c"].first, O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(directory) << std::strerror(errno);
    EXPECT_EQ(fs::read_symlink(fmt::format("/proc/self/fd/{}", directory.get())), mount_point() / "a/b/c");
    EXPECT_EQ(::faccessat(directory.get(), "../../link", F_OK, AT_SYMLINK_NOFOLLOW), 0);
  };
  all_are_good("at once");
  drop_caches();
  all_are_good("after the kernel forgot them");
  ASSERT_EQ(unmount().status, 0);
  mount_or_fail(image);
  all_are_good("after another mount");
  // A name is nothing to a handle.
  fs::rename(mount_point() / "a/b", mount_point() / "moved");
  drop_caches();
  UniqueFd moved = open_handle(handles["a/b/c"].first, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(moved);
  EXPECT_EQ(fs::read_symlink(fmt::format("/proc/self/fd/{}", moved.get())), mount_point() / "moved/c");
  moved.reset();
  unmount_and_check(image);
}

TEST_F(Handles, OfWhatIsGoneAreStale) {
  const auto image = make_image();
  mount_or_fail(image);
  write_file(mount_point() / "file", "x");
  fs::create_directory(mount_point() / "directory");
  const Handle file = handle_of(mount_point() / "file");
  const Handle directory = handle_of(mount_point() / "directory");
  {
    const UniqueFd open(::open((mount_point() / "file").c_str(), O_RDONLY | O_CLOEXEC));
    fs::remove(mount_point() / "file");
    EXPECT_EQ(error_of(file), 0) << "it is still open";
  }
  fs::remove(mount_point() / "directory");
  drop_caches();
  EXPECT_EQ(error_of(file), ESTALE);
  EXPECT_EQ(error_of(directory), ESTALE);
  // Their inodes in use again, by others.
  const ino_t number = file.words[1];
  bool reused = false;
  // A number is free once a write-back has come behind the deletion, which the kernel's FORGET brings.
  for (int i = 0; i < 100 && !reused; ++i) {
    drop_caches();
    const auto name = mount_point() / fmt::format("new{}", i);
    write_file(name, "y");
    reused = inode_of(name) == number;
  }
  EXPECT_TRUE(reused);
  EXPECT_EQ(error_of(file), ESTALE);
  ASSERT_EQ(unmount().status, 0);
  mount_or_fail(image);
  EXPECT_EQ(error_of(file), ESTALE);
  unmount_and_check(image);
}

TEST_F(Handles, ThatAreMadeUpAreStaleAndLeaveNoTrace) {
  const auto image = make_image();
  mount_or_fail(image);
  write_file(mount_point() / "file", "x");
  const Handle good = handle_of(mount_point() / "file");
  std::vector<std::uint64_t> nodes{0, UINT32_MAX, std::uint64_t{1} << 32, UINT64_MAX, 16384, 16385, 5000};
  nodes.push_back((std::uint64_t{7} << 32) + good.words[1]);
  for (std::uint64_t node = 2; node < 11; ++node) nodes.push_back(node);
  for (const std::uint64_t node : nodes) {
    for (const std::uint32_t generation : {0U, good.words[2]}) {
      Handle handle = good;
      handle.set_node(node);
      handle.words[2] = generation;
      EXPECT_EQ(error_of(handle), ESTALE) << node;
    }
  }
  drop_caches();
  Handle other_generation = good;
  ++other_generation.words[2];
  EXPECT_EQ(error_of(other_generation), ESTALE);
  EXPECT_EQ(error_of(good), 0);
  const std::string said = log();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << "but that it mounted: " << said;
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
