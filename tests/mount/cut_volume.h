// SPDX-License-Identifier: GPL-2.0-or-later
// Volumes as the kernel's ext4 leaves them behind when the power goes: mounted by it, changed, and cut by its
// shutdown ioctl, which writes nothing more.
//
// The kernel writes what was committed to the log; what lies in its page cache is gone. The image is copied
// after the unmount, so nothing is left of the mount.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/mount/fixture.h"

namespace fuse4fs::test {

// What kind of volume.
struct Form {
  std::string name;
  Command mkfs_arguments;
  std::string mount_options = "";  // of the kernel's mount, besides loop
};
void PrintTo(const Form& form, std::ostream* out);

// What a tree shows: by path, "." is the root. Of directories neither size nor times: where names lie is
// decided anew by a replay, and no record of a fast commit says when they came.
struct Seen {
  mode_t mode = 0;
  std::uint64_t links = 0, size = 0, inode = 0;
  std::uint32_t uid = 0, gid = 0;
  std::int64_t mtime_seconds = 0, mtime_nanoseconds = 0;
  std::string content;  // of files; of symbolic links where they lead
  bool operator==(const Seen&) const = default;
};
using SeenTree = std::map<std::string, Seen>;
SeenTree see(const std::filesystem::path& root);
// One difference a line, at most ten; empty if they are equal.
std::string differences(const SeenTree& expected, const SeenTree& found);

class CutTest : public MountTest {
 protected:
  // A fresh image of that form.
  std::filesystem::path make(const Form& form, const std::string& size = "64M");
  // The kernel mounts it at mount_point(), without access times and without commits that nobody asked for.
  void kernel_mounts(const std::filesystem::path& image, const Form& form);
  // The power goes: whatever is open stays open.
  void stop() const;
  // Unmounts what stopped, and waits until the image is nobody's any more.
  void let_go(const std::filesystem::path& image);
  // Mounted read-only by us it shows `expected`, and not a byte of it changes.
  void expect_in_memory(const std::filesystem::path& image, const SeenTree& expected);
  // How many fast commits the kernel has written since it mounted.
  [[nodiscard]] std::uint64_t fast_commits() const;

  // fsync(2) of what lies there.
  static void sync_path(const std::filesystem::path& path);
};

}  // namespace fuse4fs::test
