// SPDX-License-Identifier: GPL-2.0-or-later
// Directories with more subdirectories than a link count can hold: 1 stands for "too many", and e2fsck takes
// that from directories with an index only, once they are fewer again.
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

using LinkCount = MountTest;
// With 65,000 directories: label "long".
using LongLinkCount = MountTest;

TEST_F(LinkCount, IsTakenUpAgainWhereTheIndexIsDropped) {
  const auto image = make_image("64M", {"-b", "1024"});
  kernel_mount(image);
  ASSERT_EQ(run({"sh", "-ec",
                 fmt::format("cd {}; for d in made linked moved; do mkdir $d; mkdir $d/a $d/b $d/c\n"
                             "for i in $(seq 200); do : > $d/a-name-with-some-length-$i; done; done; mkdir m",
                             mount_point().string())})
                .status,
            0);
  ASSERT_EQ(unmount().status, 0);
  // As if there had been 65,000 more.
  for (const char* const name : {"made", "linked", "moved"})
    ASSERT_EQ(run({"debugfs", "-w", "-R", fmt::format("sif /{} links_count 1", name), image}).status, 0);
  expect_clean(image);
  mount_or_fail(image);
  const auto root = mount_point();
  // Kept with the index, as the kernel keeps it.
  ASSERT_EQ(::rmdir((root / "made/a").c_str()), 0);
  EXPECT_EQ(links_of(root / "made"), 1U);
  ASSERT_EQ(::mkdir((root / "made/d").c_str(), 0755), 0);
  EXPECT_EQ(links_of(root / "made"), 5U);
  ASSERT_EQ(::link((root / "made/a-name-with-some-length-1").c_str(), (root / "linked/link").c_str()), 0);
  EXPECT_EQ(links_of(root / "linked"), 5U);
  ASSERT_EQ(::rename((root / "m").c_str(), (root / "moved/m").c_str()), 0);
  EXPECT_EQ(links_of(root / "moved"), 6U);
  unmount_and_check(image);
}

TEST_F(LongLinkCount, OverflowsAndComesBack) {
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
      if (i == 64'999) {
        EXPECT_EQ(links_of(many), 1U);
      }
      if (i == 64'998) {
        EXPECT_EQ(links_of(many), 65'000U);
      }
    }
    EXPECT_EQ(links_of(many), kLeft + 2U);
  }
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
