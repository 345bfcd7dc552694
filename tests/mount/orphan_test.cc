// SPDX-License-Identifier: GPL-2.0-or-later
// Files without a name when the power went: deleted when the volume is mounted for writing, left alone
// otherwise.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/unique_fd.h"
#include "tests/mount/cut_volume.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

class Orphans : public CutTest, public testing::WithParamInterface<Form> {
 protected:
  // Open, with blocks and attributes, and without a name.
  [[nodiscard]] UniqueFd nameless(int number, std::size_t bytes) const {
    const fs::path path = mount_point() / ("gone" + std::to_string(number));
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    EXPECT_TRUE(file) << std::strerror(errno);
    const std::string content(bytes, 'g');
    EXPECT_EQ(::write(file.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
    if (number % 3 == 0) {
      const std::string value(700, 'x');
      EXPECT_EQ(::fsetxattr(file.get(), "user.large", value.data(), value.size(), 0), 0)
          << std::strerror(errno);
    }
    EXPECT_EQ(::unlink(path.c_str()), 0);
    return file;
  }
  [[nodiscard]] std::pair<fsblkcnt_t, fsfilcnt_t> free_room() const {
    struct statvfs room{};
    EXPECT_EQ(::statvfs(mount_point().c_str(), &room), 0);
    return {room.f_bfree, room.f_ffree};
  }
};

TEST_P(Orphans, AreDeletedWithAllThatTheyOwned) {
  const fs::path image = make(GetParam());
  kernel_mounts(image, GetParam());
  write_file(mount_point() / "stays", std::string(10'000, 's'));
  const auto before = free_room();
  const SeenTree expected = see(mount_point());
  {
    std::vector<UniqueFd> held;
    for (int i = 0; i < 50; ++i) held.push_back(nameless(i, static_cast<std::size_t>(i) * 3000));
    ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
    // While they are open.
    stop();
  }
  let_go(image);
  expect_in_memory(image, expected);
  mount_or_fail(image);
  EXPECT_EQ(differences(expected, see(mount_point())), "");
  EXPECT_EQ(free_room().second, before.second);
  unmount_and_check(image);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, Orphans,
    testing::Values(Form{"chain", {"-t", "ext4", "-O", "^orphan_file"}},
                    Form{"file", {"-t", "ext4", "-b", "1024", "-O", "orphan_file"}},
                    Form{"values_in_inodes", {"-t", "ext4", "-I", "256", "-O", "ea_inode,^orphan_file"}},
                    Form{"ext3", {"-t", "ext3", "-b", "1024"}},
                    Form{"bigalloc", {"-t", "ext4", "-O", "bigalloc,^orphan_file", "-C", "16384"}}),
    [](const auto& info) { return info.param.name; });

class LongOrphans : public Orphans {};

TEST_P(LongOrphans, TwentyThousand) {
  constexpr int kMany = 20'000;
  const fs::path image = make(GetParam(), "256M");
  kernel_mounts(image, GetParam());
  const auto before = free_room();
  {
    // A mapping keeps a file as an open descriptor does, of which a process may not have so many.
    std::vector<void*> held;
    for (int i = 1; i <= kMany; ++i) {
      const UniqueFd file = nameless(i * 3 + 1, 100);
      held.push_back(::mmap(nullptr, 100, PROT_READ, MAP_SHARED, file.get(), 0));
      ASSERT_NE(held.back(), MAP_FAILED) << i << ": " << std::strerror(errno);
    }
    ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
    stop();
    for (void* const one : held) ::munmap(one, 100);
  }
  let_go(image);
  mount_or_fail(image);
  EXPECT_EQ(free_room().second, before.second);
  unmount_and_check(image);
}

INSTANTIATE_TEST_SUITE_P(Forms, LongOrphans,
                         testing::Values(Form{"chain", {"-t", "ext4", "-N", "30000", "-O", "^orphan_file"}},
                                         Form{"file", {"-t", "ext4", "-N", "30000", "-O", "orphan_file"}}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace fuse4fs::test
