// SPDX-License-Identifier: GPL-2.0-or-later
// The root's reserve beside the kernel's ext4: a user is stopped at the same place, and root goes on to the
// same.
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/mount/side_by_side.h"

namespace fuse4fs::test {
namespace {

class RootReserve : public SideBySide {
 protected:
  // What is free once this user has filled the volume, in blocks.
  static long free_after_filling(const std::filesystem::path& root, const std::string& user) {
    const std::string file = (root / user).string();
    // In large pieces, then in single blocks; the page cache would take more than there is room for.
    const Finished filled =
        run({"setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups", "sh", "-c",
             "dd if=/dev/zero of=" + file + " bs=1M oflag=direct; dd if=/dev/zero of=" + file +
                 " bs=4096 oflag=direct,append conv=notrunc"});
    EXPECT_THAT(filled.output, ::testing::HasSubstr("No space left on device"));
    const Finished free = run({"stat", "-f", "-c", "%f", root});
    return std::atol(free.output.c_str());
  }
};

TEST_F(RootReserve, UsersAreStoppedWhereExt4StopsThem) {
  mount_both("128M", {"-m", "20"}, "chmod 777 .");
  const long ours_of_user = free_after_filling(ours(), "1000");
  const long kernels_of_user = free_after_filling(kernels(), "1000");
  EXPECT_GT(kernels_of_user, 128 * 256 / 5);
  EXPECT_NEAR(static_cast<double>(ours_of_user), static_cast<double>(kernels_of_user), 16);
  const long ours_of_root = free_after_filling(ours(), "0");
  const long kernels_of_root = free_after_filling(kernels(), "0");
  EXPECT_LT(kernels_of_root, kernels_of_user - 128 * 256 / 6);
  EXPECT_NEAR(static_cast<double>(ours_of_root), static_cast<double>(kernels_of_root), 16);
  // fallocate and mkdir say who asks.
  for (const auto& root : {ours(), kernels()}) {
    std::filesystem::remove(root / "0");
    ASSERT_EQ(run({"sync", "-f", root}).status, 0);
    const Finished refused =
        run({"setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c",
             "cd " + root.string() + "; fallocate -o 1G -l 1M 1000 || mkdir directory || echo refused"});
    EXPECT_THAT(refused.output, ::testing::EndsWith("refused\n"));
    EXPECT_EQ(run({"fallocate", "-o", "1G", "-l", "1M", root / "1000"}).status, 0);
    EXPECT_EQ(run({"mkdir", root / "directory"}).status, 0);
  }
  unmount_both();
}

}  // namespace
}  // namespace fuse4fs::test
