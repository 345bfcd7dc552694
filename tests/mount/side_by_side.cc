// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/mount/side_by_side.h"

#include <sys/mount.h>

#include <cerrno>
#include <cstring>

namespace fuse4fs::test {
namespace fs = std::filesystem;

SideBySide::~SideBySide() {
  while (::umount2(kernels().c_str(), MNT_DETACH) == 0) {
  }
}

void SideBySide::mount_both(const std::string& size, const Command& mkfs_arguments,
                            const std::string& prepare, const std::string& options) {
  image_ = make_image(size, mkfs_arguments);
  fs::create_directories(kernels());
  if (!prepare.empty()) {
    kernel_mount(image_);
    const Finished prepared = run({"sh", "-ec", "cd " + mount_point().string() + "\n" + prepare});
    ASSERT_EQ(prepared.status, 0) << prepared.output;
    ASSERT_EQ(unmount().status, 0);
    ASSERT_TRUE(is_free(image_));
  }
  const fs::path copy = scratch() / "copy";
  ASSERT_EQ(run({"cp", "--sparse=always", image_, copy}).status, 0);
  mount_or_fail(image_, options);
  const Finished mounted =
      run({"mount", "-t", "ext4", "-o", options.empty() ? "loop" : "loop," + options, copy, kernels()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
}

void SideBySide::unmount_both() {
  EXPECT_EQ(run({"umount", kernels()}).status, 0);
  unmount_and_check(image_);
}

void SideBySide::expect_same(const std::string& script) {
  const Finished here = run({"sh", "-c", "cd " + ours().string() + "\n" + script});
  const Finished there = run({"sh", "-c", "cd " + kernels().string() + "\n" + script});
  EXPECT_EQ(here.status, there.status) << script;
  EXPECT_EQ(here.output, there.output) << script;
}

void SideBySide::expect_same(const std::function<Observations(const fs::path& root)>& observe) {
  const auto here = observe(ours());
  const auto there = observe(kernels());
  ASSERT_EQ(here.size(), there.size());
  for (std::size_t i = 0; i < here.size(); ++i) EXPECT_EQ(here[i], there[i]) << "observation " << i;
}

std::string outcome(long result) { return result < 0 ? ::strerrorname_np(errno) : "0"; }

}  // namespace fuse4fs::test
