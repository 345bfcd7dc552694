// SPDX-License-Identifier: GPL-2.0-or-later
// Directories, images and loop devices for the helper's tests, which run as root with the real things.
#pragma once

#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/types.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "helper/loop_device.h"

namespace fuse4fs::helper::testing {

// A test that needs root and loop devices says why it does not run.
#define REQUIRE_ROOT_AND_LOOP_DEVICES()                                                   \
  do {                                                                                    \
    if (::getuid() != 0) GTEST_SKIP() << "needs root";                                    \
    if (::access("/dev/loop-control", W_OK) != 0) GTEST_SKIP() << "no loop devices here"; \
  } while (false)

#define REQUIRE_FUSE()                                                         \
  do {                                                                         \
    REQUIRE_ROOT_AND_LOOP_DEVICES();                                           \
    if (::access("/dev/fuse", W_OK) != 0) GTEST_SKIP() << "no /dev/fuse here"; \
    ASSERT_TRUE(testing::mount_in_private());                                  \
  } while (false)

// From now on this process and its children mount in a mount namespace of their own. Elsewhere any program
// that makes itself one meanwhile copies the mounts, and keeps their servers and devices until it ends.
bool mount_in_private();

class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return path_ / name; }
  // A sparse file that no file system is in.
  [[nodiscard]] std::string make_image(const std::string& name, std::uintmax_t bytes = 8 << 20) const;
  [[nodiscard]] std::string make_directory(const std::string& name) const;

 private:
  std::filesystem::path path_;
};

// How many loop devices are bound to this file (others on the machine come and go).
int loop_devices_of(const std::string& image);
// The same, after giving the kernel a moment to let go of one.
int loop_devices_left(const std::string& image);

// The device number of a block device's node.
dev_t device_number_of(const std::string& path);

}  // namespace fuse4fs::helper::testing
