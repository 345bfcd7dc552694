// SPDX-License-Identifier: GPL-2.0-or-later
// The same steps on our mount and on one by the kernel's own ext4, of volumes that began alike.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/mount/fixture.h"

namespace fuse4fs::test {

class SideBySide : public MountTest {
 protected:
  ~SideBySide() override;

  // Makes one image, has `prepare` (a shell script, run in its root under the kernel) fill it, and mounts two
  // copies: ours() and kernels().
  void mount_both(const std::string& size = "64M", const Command& mkfs_arguments = {},
                  const std::string& prepare = "", const std::string& options = "");
  // Unmounts both; e2fsck must find nothing in ours.
  void unmount_both();

  [[nodiscard]] std::filesystem::path ours() const { return mount_point(); }
  [[nodiscard]] std::filesystem::path kernels() const { return scratch() / "kernel"; }

  // A shell script, run in each root: exit status and output must be the same.
  void expect_same(const std::string& script);
  // What a function observes in each root must be the same.
  using Observations = std::vector<std::string>;
  void expect_same(const std::function<Observations(const std::filesystem::path& root)>& observe);

 private:
  std::filesystem::path image_;
};

// "EPERM", or "0" for a result of at least 0. Reads errno.
std::string outcome(long result);

}  // namespace fuse4fs::test
