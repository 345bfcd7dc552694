// SPDX-License-Identifier: GPL-2.0-or-later
// What mke2fs left of the inode tables is done while the volume is mounted, unless it is asked not to.
#include <chrono>
#include <thread>

#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

class LazyInit : public MountTest {
 protected:
  void SetUp() override {
    MountTest::SetUp();
    image_ = make_image("512M", {"-E", "lazy_itable_init=1"});
  }
  // Groups whose descriptors say that there are zeros, on the medium.
  [[nodiscard]] int zeroed() const {
    const std::string shown = run({"dumpe2fs", image_.string()}).output;
    int count = 0;
    for (auto at = shown.find("ITABLE_ZEROED"); at != std::string::npos;
         at = shown.find("ITABLE_ZEROED", at + 1))
      ++count;
    return count;
  }
  std::filesystem::path image_;
};

TEST_F(LazyInit, ComesToItsEnd) {
  ASSERT_EQ(zeroed(), 0);
  mount_or_fail(image_, "init_itable=0,commit=1");
  write_file(mount_point() / "file", "content");
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (zeroed() != 4 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(zeroed(), 4);
  EXPECT_EQ(unmount().status, 0);
  EXPECT_EQ(run({"e2fsck", "-fn", image_}).status, 0);
}

TEST_F(LazyInit, IsLeftWhereNobodyWantsIt) {
  mount_or_fail(image_, "noinit_itable,commit=1");
  write_file(mount_point() / "file", "content");
  // Longer than the other one waits before it begins.
  std::this_thread::sleep_for(std::chrono::seconds(7));
  EXPECT_EQ(unmount().status, 0);
  EXPECT_EQ(zeroed(), 0);
}

}  // namespace
}  // namespace fuse4fs::test
