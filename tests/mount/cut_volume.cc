// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/mount/cut_volume.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>
#include <ostream>

#include "base/unique_fd.h"

namespace fuse4fs::test {
namespace fs = std::filesystem;
namespace {

// EXT4_IOC_SHUTDOWN, which no installed header has.
constexpr unsigned long kShutdown = _IOR('X', 125, std::uint32_t);
constexpr std::uint32_t kWithoutLogFlush = 2;

Seen look_at(const fs::path& path) {
  struct stat status{};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path << ": " << std::strerror(errno);
  Seen seen;
  seen.mode = status.st_mode;
  seen.links = status.st_nlink;
  seen.inode = status.st_ino;
  seen.uid = status.st_uid;
  seen.gid = status.st_gid;
  if (!S_ISDIR(status.st_mode)) {
    seen.size = static_cast<std::uint64_t>(status.st_size);
    seen.mtime_seconds = status.st_mtim.tv_sec;
    seen.mtime_nanoseconds = status.st_mtim.tv_nsec;
  }
  if (S_ISREG(status.st_mode)) {
    EXPECT_EQ(::access(path.c_str(), R_OK), 0);
    seen.content = contents_of(path);
    EXPECT_EQ(seen.content.size(), seen.size) << path;
  }
  if (S_ISLNK(status.st_mode)) seen.content = fs::read_symlink(path).string();
  return seen;
}

std::string described(const Seen& seen) {
  return "mode " + std::to_string(seen.mode) + " inode " + std::to_string(seen.inode) + " links " +
         std::to_string(seen.links) + " size " + std::to_string(seen.size) + " owner " +
         std::to_string(seen.uid) + " mtime " + std::to_string(seen.mtime_seconds) + "." +
         std::to_string(seen.mtime_nanoseconds) + " content " +
         std::to_string(std::hash<std::string>()(seen.content));
}

}  // namespace

void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

SeenTree see(const fs::path& root) {
  SeenTree tree;
  tree["."] = look_at(root);
  for (const auto& entry : fs::recursive_directory_iterator(root))
    tree[entry.path().lexically_relative(root)] = look_at(entry.path());
  return tree;
}

std::string differences(const SeenTree& expected, const SeenTree& found) {
  std::string lines;
  int count = 0;
  const auto add = [&](const std::string& line) {
    if (++count <= 10) lines += line + "\n";
  };
  for (const auto& [path, seen] : expected) {
    const auto other = found.find(path);
    if (other == found.end())
      add(path + " is missing: " + described(seen));
    else if (other->second != seen)
      add(path + " was " + described(seen) + "\n  and is " + described(other->second));
  }
  for (const auto& [path, seen] : found) {
    if (!expected.contains(path)) add(path + " is too much: " + described(seen));
  }
  return lines;
}

fs::path CutTest::make(const Form& form, const std::string& size) {
  return make_image(size, form.mkfs_arguments);
}

void CutTest::kernel_mounts(const fs::path& image, const Form& form) {
  kernel_mount(image,
               "loop,noatime,commit=600" + (form.mount_options.empty() ? "" : "," + form.mount_options));
}

void CutTest::stop() const {
  const UniqueFd root(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(root);
  std::uint32_t how = kWithoutLogFlush;
  ASSERT_EQ(::ioctl(root.get(), kShutdown, &how), 0) << std::strerror(errno);
}

void CutTest::let_go(const fs::path& image) {
  const Finished unmounted = unmount();
  ASSERT_EQ(unmounted.status, 0) << unmounted.output;
  ASSERT_TRUE(is_free(image, 60)) << "the image stays in use";
}

void CutTest::expect_in_memory(const fs::path& image, const SeenTree& expected) {
  const fs::path copy = scratch() / "before";
  fs::copy_file(image, copy, fs::copy_options::overwrite_existing);
  mount_or_fail(image, "ro");
  EXPECT_EQ(differences(expected, see(mount_point())), "");
  const Finished unmounted = unmount();
  ASSERT_EQ(unmounted.status, 0) << unmounted.output;
  const Finished compared = run({"cmp", image, copy});
  EXPECT_EQ(compared.status, 0) << compared.output;
  fs::remove(copy);
}

std::uint64_t CutTest::fast_commits() const {
  struct stat status{};
  EXPECT_EQ(::stat(mount_point().c_str(), &status), 0);
  const fs::path device = fs::read_symlink("/sys/dev/block/" + std::to_string(major(status.st_dev)) + ":" +
                                           std::to_string(minor(status.st_dev)));
  const std::string info = contents_of("/proc/fs/ext4/" + device.filename().string() + "/fc_info");
  // "fc stats:", and then "N commits".
  const auto line = info.find('\n');
  return line == std::string::npos ? 0 : std::strtoull(info.c_str() + line + 1, nullptr, 10);
}

void CutTest::sync_path(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << path << ": " << std::strerror(errno);
  ASSERT_EQ(::fsync(file.get()), 0) << path << ": " << std::strerror(errno);
}

}  // namespace fuse4fs::test
