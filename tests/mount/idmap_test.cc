// SPDX-License-Identifier: GPL-2.0-or-later
// Idmapped mounts (option idmap), beside the same on the kernel's ext4.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kShift = 20000;  // what is user 5 on the volume is user 20005 through the mount

// A user namespace in which the ids 0 to 999 are those from kShift on.
UniqueFd make_user_namespace() {
  // By clone itself: after fork(2) a sanitizer's thread would be in the way of unshare(2).
  const auto child = static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
  if (child == 0) {
    for (;;) ::syscall(SYS_pause);
  }
  if (child < 0) return {};
  const auto about = fmt::format("/proc/{}/", child);
  for (const char* const map : {"uid_map", "gid_map"})
    write_file(about + map, fmt::format("0 {} 1000", kShift));
  UniqueFd made(::open((about + "ns/user").c_str(), O_RDONLY | O_CLOEXEC));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return made;
}

// 0, or what the kernel says against a mapped copy of the mount at `from` on `to`.
int mount_mapped(const fs::path& from, const fs::path& to) {
  const UniqueFd users = make_user_namespace();
  EXPECT_TRUE(users);
  const UniqueFd tree(
      static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, from.c_str(), OPEN_TREE_CLONE | O_CLOEXEC)));
  if (!tree) return errno;
  mount_attr wanted{};
  wanted.attr_set = MOUNT_ATTR_IDMAP;
  wanted.userns_fd = static_cast<__u64>(users.get());
  if (::syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &wanted, sizeof wanted) != 0) return errno;
  if (::syscall(SYS_move_mount, tree.get(), "", AT_FDCWD, to.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return errno;
  return 0;
}

std::string answer(long result) { return result >= 0 ? "ok" : ::strerrorname_np(errno); }

std::string owner_of(const fs::path& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return ::strerrorname_np(errno);
  return fmt::format("{}:{}", status.st_uid, status.st_gid);
}

// Creates as another user, without capabilities.
std::string create_as(uid_t user, const fs::path& path) {
  EXPECT_EQ(::setegid(user), 0);
  EXPECT_EQ(::seteuid(user), 0);
  const UniqueFd made(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644));
  const std::string said = answer(made.get());
  EXPECT_EQ(::seteuid(0), 0);
  EXPECT_EQ(::setegid(0), 0);
  return said;
}

// Everything of the file system at `plain`, whose mapped copy is at `mapped`.
std::string try_all(const fs::path& plain, const fs::path& mapped) {
  std::string said;
  const auto say = [&](const std::string& words) { said += words + "; "; };
  fs::permissions(plain, fs::perms(0777));
  write_file(plain / "of-5", "x");
  EXPECT_EQ(::chown((plain / "of-5").c_str(), 5, 6), 0);
  write_file(plain / "of-5000", "x");
  EXPECT_EQ(::chown((plain / "of-5000").c_str(), 5000, 5000), 0);
  for (const char* const name : {"of-5", "of-5000"}) say(owner_of(mapped / name));
  // Created through the map by one whom it knows, and by one whom it does not.
  say(create_as(kShift + 7, mapped / "by-7"));
  say(owner_of(mapped / "by-7") + " is " + owner_of(plain / "by-7"));
  say(create_as(3, mapped / "by-unknown"));
  say(answer(::mkdir((mapped / "by-root").c_str(), 0755)));
  say(answer(::symlink("x", (mapped / "link-by-root").c_str())));
  say(answer(::chown((mapped / "of-5").c_str(), kShift + 9, kShift + 10)));
  say(owner_of(mapped / "of-5") + " is " + owner_of(plain / "of-5"));
  say(answer(::chown((mapped / "of-5").c_str(), 4, 4)));
  say(answer(::chmod((mapped / "of-5").c_str(), 0600)));
  say(answer(::rename((mapped / "of-5").c_str(), (mapped / "moved").c_str())));
  say(answer(::link((mapped / "moved").c_str(), (mapped / "second").c_str())));
  say(answer(::unlink((mapped / "second").c_str())));
  unsigned flags = 0;
  const UniqueFd file(::open((mapped / "of-5").c_str(), O_RDONLY));
  say(answer(::ioctl(file.get(), FS_IOC_GETFLAGS, &flags)));
  flags |= FS_NODUMP_FL;
  say(answer(::ioctl(file.get(), FS_IOC_SETFLAGS, &flags)));
  // All that root sees, or a backup would miss some of it.
  for (const char* const name : {"trusted.a", "user.b"})
    EXPECT_EQ(::setxattr((plain / "of-5").c_str(), name, "value", 5, 0), 0) << name;
  for (const auto& path : {plain / "of-5", mapped / "of-5"}) {
    std::string names(100, '\0');
    const auto length = ::listxattr(path.c_str(), names.data(), names.size());
    say(answer(length));
    names.resize(static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
    std::ranges::replace(names, '\0', ' ');
    char value[10];
    say(names + answer(::getxattr(path.c_str(), "trusted.a", value, sizeof value)));
  }
  return said;
}

using IdMap = MountTest;

TEST_F(IdMap, AMappedCopyIsAsOneOfTheKernelsExt4) {
  const auto image = make_image(), kernel_image = make_image("64M", {}, "kernel-image");
  for (const char* const name : {"mapped", "kernel", "kernel-mapped"}) fs::create_directory(scratch() / name);
  mount_or_fail(image, "idmap");
  ASSERT_EQ(mount_mapped(mount_point(), scratch() / "mapped"), 0) << std::strerror(errno);
  ASSERT_EQ(run({"mount", "-t", "ext4", "-o", "loop", kernel_image, scratch() / "kernel"}).status, 0);
  ASSERT_EQ(mount_mapped(scratch() / "kernel", scratch() / "kernel-mapped"), 0);

  EXPECT_EQ(try_all(mount_point(), scratch() / "mapped"),
            try_all(scratch() / "kernel", scratch() / "kernel-mapped"));

  // Nobody can be told from an administrator now.
  UniqueFd root(::open(mount_point().c_str(), O_RDONLY));
  char label[FSLABEL_MAX] = "label";
  EXPECT_EQ(answer(::ioctl(root.get(), FS_IOC_SETFSLABEL, label)), "EPERM");
  fstrim_range range{.start = 0, .len = UINT64_MAX, .minlen = 0};
  EXPECT_EQ(answer(::ioctl(root.get(), FITRIM, &range)), "EPERM");

  for (const char* const name : {"mapped", "kernel-mapped", "kernel"})
    EXPECT_EQ(::umount2((scratch() / name).c_str(), 0), 0) << name;
  root.reset();
  unmount_and_check(image);
}

TEST_F(IdMap, WithoutTheOptionTheKernelRefusesIt) {
  const auto image = make_image();
  fs::create_directory(scratch() / "mapped");
  mount_or_fail(image);
  EXPECT_EQ(mount_mapped(mount_point(), scratch() / "mapped"), EINVAL);
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
