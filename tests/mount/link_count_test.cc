// SPDX-License-Identifier: GPL-2.0-or-later
// Directories with more subdirectories than a link count can hold: 1 stands for "too many", and stays while
// there is an index, as with the kernel's ext4.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

nlink_t links_of(const fs::path& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_nlink;
}

// With 65,000 directories: label "long".
using LongLinkCount = MountTest;

TEST_F(LongLinkCount, OverflowsAndStays) {
  constexpr int kCount = 65'010, kLeft = 6;
  const auto image = make_image("400M", {"-N", "70000", "-b", "1024"});
  mount_or_fail(image);
  const auto many = mount_point() / "many";
  ASSERT_EQ(::mkdir(many.c_str(), 0755), 0);
  {
    const UniqueFd directory(::open(many.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto name = [](int i) { return std::to_string(i); };
    for (int i = 0; i < kCount; ++i) {
      ASSERT_EQ(::mkdirat(directory.get(), name(i).c_str(), 0755), 0) << i << std::strerror(errno);
      if (i == 64'997) {
        EXPECT_EQ(links_of(many), 65'000U);
      }
      if (i == 64'998) {
        EXPECT_EQ(links_of(many), 1U);
      }
    }
    EXPECT_EQ(links_of(many), 1U);
    for (int i = kCount; i-- > kLeft;) {
      ASSERT_EQ(::unlinkat(directory.get(), name(i).c_str(), AT_REMOVEDIR), 0) << i << std::strerror(errno);
    }
    EXPECT_EQ(links_of(many), 1U);
  }
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
