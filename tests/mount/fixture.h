// SPDX-License-Identifier: GPL-2.0-or-later
// A private mount namespace, a scratch directory, and the tools to mount with the real helper and to judge
// afterwards.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace fuse4fs::test {

using Command = std::vector<std::string>;

struct Finished {
  int status = -1;     // exit status, or 128 + signal
  std::string output;  // standard output and error, together
};

// Runs to the end. The child has no standard input.
Finished run(const Command& command);
// Text of a file, or empty.
std::string contents_of(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, std::string_view contents);
// Loop devices in use, by backing file, of this scratch directory or any.
std::vector<std::string> loop_devices_of(const std::filesystem::path& image);
// Waits until no loop device holds it: the last one goes a moment after the kernel's unmount.
[[nodiscard]] bool is_free(const std::filesystem::path& image, int seconds = 30);

class MountTest : public ::testing::Test {
 protected:
  MountTest();
  ~MountTest() override;

  // A fresh image in the scratch directory, made by mkfs.ext4 with `mkfs_arguments` before the file's name.
  std::filesystem::path make_image(const std::string& size = "64M", const Command& mkfs_arguments = {},
                                   const std::string& name = "image");
  // mount.fuse4fs SOURCE mount_point() -o OPTIONS, and the server's log in the scratch directory.
  Finished mount(const std::filesystem::path& source, const std::string& options = "");
  // The same, and the test ends if it fails.
  void mount_or_fail(const std::filesystem::path& source, const std::string& options = "");
  Finished unmount();
  // Unmounts, and at once `e2fsck -fn` must find nothing.
  void unmount_and_check(const std::filesystem::path& image);
  static void expect_clean(const std::filesystem::path& image);
  // The kernel's own ext4, read-only or not.
  void kernel_mount(const std::filesystem::path& image, const std::string& options = "loop");

  [[nodiscard]] std::filesystem::path mount_point() const { return scratch_ / "mnt"; }
  [[nodiscard]] std::filesystem::path scratch() const { return scratch_; }
  [[nodiscard]] std::string log() const { return contents_of(scratch_ / "log"); }
  // Of the server that serves mount_point(), as this process sees it; empty once it has ended.
  [[nodiscard]] std::optional<pid_t> server() const;
  // Waits, at most `seconds`, until the server has ended.
  [[nodiscard]] bool server_ends(int seconds = 10) const;

 private:
  std::filesystem::path scratch_;
};

}  // namespace fuse4fs::test
