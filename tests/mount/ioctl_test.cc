// SPDX-License-Identifier: GPL-2.0-or-later
// The ioctls of a file system, beside the same calls on a mount of the kernel's ext4.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <iostream>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr uid_t kOwner = 1000, kStranger = 1001;
constexpr unsigned kShutdown = _IOR('X', 125, std::uint32_t);

// Another user for a while, without capabilities: the whole process, which has one thread.
class ActAs {
 public:
  explicit ActAs(uid_t user) {
    EXPECT_EQ(::setegid(user), 0);
    EXPECT_EQ(::seteuid(user), 0);
  }
  ~ActAs() {
    EXPECT_EQ(::seteuid(0), 0);
    EXPECT_EQ(::setegid(0), 0);
  }
  ActAs(const ActAs&) = delete;
  ActAs& operator=(const ActAs&) = delete;
};

constexpr unsigned kSysResource = 24;  // CAP_SYS_RESOURCE
bool has_capability(unsigned capability) {
  const auto status = contents_of("/proc/self/status");
  const auto at = status.find("CapEff:");
  return (std::stoull(status.substr(at + 7), nullptr, 16) >> capability & 1) != 0;
}

// "ok", or the error's name.
std::string answer(long result) { return result >= 0 ? "ok" : ::strerrorname_np(errno); }

UniqueFd open_it(const fs::path& path) { return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

std::uint32_t flags_of(const fs::path& path) {
  unsigned flags = 0;
  EXPECT_EQ(::ioctl(open_it(path).get(), FS_IOC_GETFLAGS, &flags), 0) << path << std::strerror(errno);
  return flags;
}

std::string set_flags(const fs::path& path, unsigned flags) {
  return answer(::ioctl(open_it(path).get(), FS_IOC_SETFLAGS, &flags));
}

class Ioctls : public MountTest {
 protected:
  // Two images made alike, one served by us, one by the kernel's ext4.
  void mount_both(const Command& mkfs_arguments = {}, const std::string& size = "64M",
                  const std::string& options = "") {
    image_ = make_image(size, mkfs_arguments);
    kernel_image_ = make_image(size, mkfs_arguments, "kernel-image");
    mount_or_fail(image_, options);
    fs::create_directory(kernel_point());
    const Finished mounted = run({"mount", "-t", "ext4", "-o", "loop", kernel_image_, kernel_point()});
    ASSERT_EQ(mounted.status, 0) << mounted.output;
    kernel_mounted_ = true;
  }
  ~Ioctls() override {
    if (!kernel_mounted_) return;
    EXPECT_EQ(::umount2(kernel_point().c_str(), MNT_DETACH), 0);
  }
  [[nodiscard]] fs::path kernel_point() const { return scratch() / "kernel"; }

  // What `trial` says in a fresh directory of either mount.
  void expect_same(const std::string& what, const std::function<std::string(const fs::path&)>& trial) {
    std::string said[2];
    for (int side = 0; side < 2; ++side) {
      const fs::path directory = (side == 0 ? mount_point() : kernel_point()) / "trial";
      std::ignore =
          run({"sh", "-c", fmt::format("chattr -R -ia '{0}' 2>&1; rm -rf '{0}'", directory.string())});
      EXPECT_TRUE(fs::create_directory(directory)) << what;
      fs::permissions(directory, fs::perms(0777));
      said[side] = trial(directory);
    }
    EXPECT_EQ(said[0], said[1]) << what << ": here first, then the kernel's ext4";
  }

  fs::path image_, kernel_image_;

 private:
  bool kernel_mounted_ = false;
};

fs::path make_one(const fs::path& directory, mode_t type) {
  auto path = directory / "it";
  if (S_ISDIR(type))
    fs::create_directory(path);
  else
    write_file(path, "twelve bytes");
  EXPECT_EQ(::chown(path.c_str(), kOwner, kOwner), 0);
  return path;
}

TEST_F(Ioctls, EachFlagAloneIsSetAndClearedAsByTheKernel) {
  mount_both();
  for (const mode_t type : {S_IFREG, S_IFDIR}) {
    for (const uid_t user : {uid_t{0}, kOwner, kStranger}) {
      for (unsigned bit = 0; bit < 32; ++bit) {
        const unsigned flag = 1U << bit;
        // Moving a file's map between extents and indirect blocks is not offered: see the test below.
        if (flag == FS_EXTENT_FL) continue;
        if (flag == FS_JOURNAL_DATA_FL && user == 0 && !has_capability(kSysResource)) {
          std::cout
              << "SKIPPED journaled data by root: root lacks CAP_SYS_RESOURCE here, and the server asks "
                 "for user id 0\n";
          continue;
        }
        expect_same(
            fmt::format("flag {:#x} of a {} by user {}", flag, S_ISDIR(type) ? "directory" : "file", user),
            [&](const fs::path& directory) {
              const auto path = make_one(directory, type);
              const unsigned before = flags_of(path);
              std::string said;
              for (const unsigned wanted : {before ^ flag, before}) {
                {
                  const ActAs somebody(user);
                  said += set_flags(path, wanted);
                }
                said += fmt::format(" {:#x}; ", flags_of(path));
              }
              return said;
            });
      }
    }
  }
  unmount_and_check(image_);
}

TEST_F(Ioctls, EachXflagAloneIsSetAndClearedAsByTheKernel) {
  mount_both();
  for (const mode_t type : {S_IFREG, S_IFDIR}) {
    for (const uid_t user : {uid_t{0}, kOwner, kStranger}) {
      for (unsigned bit = 0; bit < 32; ++bit) {
        const unsigned flag = 1U << bit;
        expect_same(
            fmt::format("xflag {:#x} of a {} by user {}", flag, S_ISDIR(type) ? "directory" : "file", user),
            [&](const fs::path& directory) {
              const auto path = make_one(directory, type);
              const UniqueFd file = open_it(path);
              fsxattr before{};
              EXPECT_EQ(::ioctl(file.get(), FS_IOC_FSGETXATTR, &before), 0);
              std::string said;
              for (const unsigned wanted : {before.fsx_xflags ^ flag, before.fsx_xflags}) {
                fsxattr change = before;
                change.fsx_xflags = wanted;
                {
                  const ActAs somebody(user);
                  said += answer(::ioctl(file.get(), FS_IOC_FSSETXATTR, &change));
                }
                fsxattr after{};
                EXPECT_EQ(::ioctl(file.get(), FS_IOC_FSGETXATTR, &after), 0);
                said += fmt::format(" {:#x} {:#x}; ", after.fsx_xflags, flags_of(path));
              }
              return said;
            });
      }
    }
  }
  unmount_and_check(image_);
}

// What project ids a directory takes, and what it then does to what is made, linked and moved in it.
std::string try_project(const fs::path& directory, std::uint32_t project) {
  const auto path = make_one(directory, S_IFDIR);
  fsxattr change{};
  const UniqueFd it = open_it(path);
  EXPECT_EQ(::ioctl(it.get(), FS_IOC_FSGETXATTR, &change), 0);
  change.fsx_projid = project;
  change.fsx_xflags |= FS_XFLAG_PROJINHERIT;
  std::string said = answer(::ioctl(it.get(), FS_IOC_FSSETXATTR, &change));
  write_file(path / "child", "x");
  write_file(directory / "other", "x");
  for (const auto& one : {path, path / "child"}) {
    fsxattr after{};
    EXPECT_EQ(::ioctl(open_it(one).get(), FS_IOC_FSGETXATTR, &after), 0);
    said += fmt::format("; {} {:#x}", after.fsx_projid, after.fsx_xflags);
  }
  const auto other = directory / "other";
  said += "; link " + answer(::link(other.c_str(), (path / "linked").c_str()));
  const long exchanged =
      ::renameat2(AT_FDCWD, (path / "child").c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
  said += "; exchange " + answer(exchanged);
  said += "; in " + answer(::rename(other.c_str(), (path / "moved").c_str()));
  said += "; out " + answer(::rename((path / "child").c_str(), (directory / "out").c_str()));
  return said;
}

class WithoutProjects : public Ioctls, public ::testing::WithParamInterface<Command> {};
TEST_P(WithoutProjects, ProjectIdsAreRefusedAsByTheKernel) {
  mount_both(GetParam());
  for (const std::uint32_t project : {0U, 7U, 0xffff'fffeU, 0xffff'ffffU})
    expect_same(fmt::format("project {}", project),
                [&](const fs::path& directory) { return try_project(directory, project); });
  unmount_and_check(image_);
}
INSTANTIATE_TEST_SUITE_P(Volumes, WithoutProjects, ::testing::Values(Command{}, Command{"-I", "128"}));

// Not beside the kernel: one without CONFIG_QFMT_V2, as on the project's machines, does not mount such a
// volume for writing. What is expected is what fs/ext4 does where it can.
TEST_F(Ioctls, ProjectsAreInheritedAndKeptApart) {
  const auto image = make_image("64M", {"-O", "project"});
  mount_or_fail(image);
  const auto in = [&](const char* name) {
    fs::create_directory(mount_point() / name);
    return mount_point() / name;
  };
  EXPECT_EQ(try_project(in("a"), 7), "ok; 7 0x200; 7 0x0; link EXDEV; exchange EXDEV; in EXDEV; out ok");
  EXPECT_EQ(try_project(in("b"), 0), "ok; 0 0x200; 0 0x0; link ok; exchange ok; in ok; out ok");
  EXPECT_THAT(try_project(in("c"), 0xffff'ffff), ::testing::StartsWith("EINVAL; 0 0x"));
  const auto fixed = mount_point() / "fixed";
  write_file(fixed, "x");
  fsxattr change{};
  change.fsx_projid = 9;
  change.fsx_xflags = FS_XFLAG_IMMUTABLE;
  EXPECT_EQ(answer(::ioctl(open_it(fixed).get(), FS_IOC_FSSETXATTR, &change)), "ok");
  change.fsx_projid = 10;
  EXPECT_EQ(answer(::ioctl(open_it(fixed).get(), FS_IOC_FSSETXATTR, &change)), "EPERM");
  change.fsx_xflags = 0;
  EXPECT_EQ(answer(::ioctl(open_it(fixed).get(), FS_IOC_FSSETXATTR, &change)), "ok");
  fsxattr after{};
  EXPECT_EQ(::ioctl(open_it(fixed).get(), FS_IOC_FSGETXATTR, &after), 0);
  EXPECT_EQ(after.fsx_projid, 10U);
  unmount_and_check(image);
}

// chattr -i, change, and so on: what flags forbid, one call each.
TEST_F(Ioctls, ImmutableAndAppendOnlyForbidWhatTheKernelForbids) {
  mount_both();
  struct Trial {
    const char* name;
    std::function<long(const fs::path& it, const fs::path& beside)> call;
  };
  const auto open_close = [](const fs::path& path, int flags) {
    return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, 0644)) ? 0L : -1L;
  };
  const timespec explicit_times[2] = {{1, 2}, {3, 4}};
  const std::vector<Trial> of_files = {
      {"read", [&](const auto& it, const auto&) { return open_close(it, O_RDONLY); }},
      {"chmod", [](const auto& it, const auto&) { return ::chmod(it.c_str(), 0600); }},
      {"chown", [](const auto& it, const auto&) { return ::chown(it.c_str(), 1, 1); }},
      {"truncate", [](const auto& it, const auto&) { return ::truncate(it.c_str(), 3); }},
      {"utimes",
       [&](const auto& it, const auto&) { return ::utimensat(AT_FDCWD, it.c_str(), explicit_times, 0); }},
      {"unlink", [](const auto& it, const auto&) { return ::unlink(it.c_str()); }},
      {"rename",
       [](const auto& it, const auto& beside) { return ::rename(it.c_str(), (beside / "r").c_str()); }},
      {"rename over",
       [](const auto& it, const auto& beside) {
         write_file(beside / "o", "x");
         return ::rename((beside / "o").c_str(), it.c_str());
       }},
      {"link", [](const auto& it, const auto& beside) { return ::link(it.c_str(), (beside / "l").c_str()); }},
  };
  const std::vector<Trial> of_directories = {
      {"create",
       [&](const auto& it, const auto&) { return open_close(it / "new", O_WRONLY | O_CREAT | O_EXCL); }},
      {"mkdir", [](const auto& it, const auto&) { return ::mkdir((it / "new").c_str(), 0755); }},
      {"symlink", [](const auto& it, const auto&) { return ::symlink("x", (it / "new").c_str()); }},
      {"unlink in it", [](const auto& it, const auto&) { return ::unlink((it / "child").c_str()); }},
      {"unlink nothing in it", [](const auto& it, const auto&) { return ::unlink((it / "none").c_str()); }},
      {"rename in it",
       [](const auto& it, const auto&) { return ::rename((it / "child").c_str(), (it / "new").c_str()); }},
      {"rename out of it",
       [](const auto& it, const auto& beside) {
         return ::rename((it / "child").c_str(), (beside / "r").c_str());
       }},
      {"rename into it",
       [](const auto& it, const auto& beside) {
         write_file(beside / "o", "x");
         return ::rename((beside / "o").c_str(), (it / "new").c_str());
       }},
      {"exchange with it",
       [](const auto& it, const auto& beside) {
         write_file(beside / "o", "x");
         return ::renameat2(AT_FDCWD, (beside / "o").c_str(), AT_FDCWD, (it / "child").c_str(),
                            RENAME_EXCHANGE);
       }},
      {"link into it",
       [](const auto& it, const auto& beside) {
         write_file(beside / "o", "x");
         return ::link((beside / "o").c_str(), (it / "new").c_str());
       }},
      {"chmod", [](const auto& it, const auto&) { return ::chmod(it.c_str(), 0700); }},
      {"rmdir", [](const auto& it, const auto&) { return ::rmdir(it.c_str()); }},
  };
  for (const unsigned flag : {unsigned{FS_IMMUTABLE_FL}, unsigned{FS_APPEND_FL}}) {
    for (const mode_t type : {S_IFREG, S_IFDIR}) {
      for (const Trial& trial : S_ISDIR(type) ? of_directories : of_files) {
        // Explicit times of an append-only file: the kernel's own flush of times looks alike, and must pass.
        if (flag == FS_APPEND_FL && trial.name == std::string_view("utimes")) continue;
        expect_same(fmt::format("{} with flag {:#x}", trial.name, flag), [&](const fs::path& directory) {
          const auto path = make_one(directory, type);
          if (S_ISDIR(type)) write_file(path / "child", "x");
          EXPECT_EQ(set_flags(path, flags_of(path) | flag), "ok");
          return answer(trial.call(path, directory));
        });
      }
    }
  }
  unmount_and_check(image_);
}

// The kernel's FUSE does not know such a file, so that open(2) for writing succeeds. docs/differences.md.
TEST_F(Ioctls, WritingToAnImmutableFileFailsWhereTheServerIsAsked) {
  // What waits in the page cache: Linux 6.19 and later has that for whole pages only.
  const auto image = make_image("64M", {"-b", "4096"});
  mount_or_fail(image);
  const auto path = mount_point() / "file";
  write_file(path, "as it was");
  ASSERT_EQ(run({"chattr", "+i", path}).status, 0);
  {
    UniqueFd file(::open(path.c_str(), O_WRONLY));
    EXPECT_TRUE(file);
    EXPECT_EQ(::write(file.get(), "X", 1), 1);
    EXPECT_EQ(answer(::fsync(file.get())), "EPERM");
    EXPECT_EQ(answer(::close(file.release())), "ok") << "told already";
  }
  {
    UniqueFd file(::open(path.c_str(), O_WRONLY));
    EXPECT_EQ(::write(file.get(), "X", 1), 1);
    EXPECT_EQ(answer(::close(file.release())), "EIO");
  }
  {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_DIRECT));
    alignas(4096) static char page[4096] = {};
    EXPECT_EQ(answer(::write(file.get(), page, sizeof page)), "EPERM");
  }
  {
    const UniqueFd file(::open(path.c_str(), O_RDWR));
    auto* const map =
        static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
    ASSERT_NE(map, MAP_FAILED);
    map[0] = 'X';
    EXPECT_EQ(answer(::msync(map, 4096, MS_SYNC)), "EPERM");
    ::munmap(map, 4096);
  }
  EXPECT_EQ(answer(::truncate(path.c_str(), 0)), "EPERM");
  EXPECT_FALSE(UniqueFd(::open(path.c_str(), O_WRONLY | O_TRUNC)));
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(unmount().status, 0);
  mount_or_fail(image);
  EXPECT_EQ(contents_of(path), "as it was");
  unmount_and_check(image);
}

TEST_F(Ioctls, AppendOnlyFilesGrowAndDoNotChange) {
  // What waits in the page cache: Linux 6.19 and later has that for whole pages only.
  const auto image = make_image("64M", {"-b", "4096"});
  mount_or_fail(image);
  const auto path = mount_point() / "log";
  write_file(path, "first\n");
  ASSERT_EQ(run({"chattr", "+a", path}).status, 0);
  for (int i = 0; i < 3; ++i) {
    UniqueFd file(::open(path.c_str(), O_WRONLY | O_APPEND));
    EXPECT_EQ(::write(file.get(), "more\n", 5), 5);
    EXPECT_EQ(answer(::close(file.release())), "ok");
  }
  EXPECT_EQ(contents_of(path), "first\nmore\nmore\nmore\n");
  EXPECT_EQ(answer(::truncate(path.c_str(), 0)), "EPERM");
  {
    UniqueFd file(::open(path.c_str(), O_WRONLY));
    EXPECT_EQ(::write(file.get(), "X", 1), 1);
    EXPECT_EQ(answer(::close(file.release())), "EIO");
  }
  EXPECT_EQ(unmount().status, 0);
  mount_or_fail(image);
  EXPECT_EQ(contents_of(path), "first\nmore\nmore\nmore\n");
  unmount_and_check(image);
}

TEST_F(Ioctls, ChattrAndLsattrAgreeWithTheKernelAfterwards) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto path = mount_point() / "file";
  write_file(path, "x");
  const auto directory = mount_point() / "directory";
  fs::create_directory(directory);
  const auto changed_at = [](const fs::path& it) {
    struct stat status{};
    EXPECT_EQ(::stat(it.c_str(), &status), 0);
    return std::pair(status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
  };
  const auto file_before = changed_at(path), directory_before = changed_at(directory);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (const auto& [it, flags] : {std::pair(path, "+dAS"), std::pair(directory, "+dT")}) {
    const Finished changed = run({"chattr", flags, it});
    EXPECT_EQ(changed.status, 0) << changed.output;
  }
  EXPECT_GT(changed_at(directory), directory_before);
  // Of a file the kernel keeps the time itself while it knows the file (write-back cache).
  EXPECT_EQ(changed_at(path), file_before);
  write_file("/proc/sys/vm/drop_caches", "2");
  EXPECT_GT(changed_at(path), file_before);
  const auto listed = run({"lsattr", path}).output;
  EXPECT_THAT(listed, HasSubstr("--S---dA------e"));
  unmount_and_check(image);
  kernel_mount(image);
  EXPECT_EQ(run({"lsattr", path}).output, listed);
  EXPECT_EQ(unmount().status, 0);
}

TEST_F(Ioctls, BetweenExtentsAndIndirectBlocksIsRefused) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto path = mount_point() / "file";
  write_file(path, "x");
  EXPECT_EQ(set_flags(path, flags_of(path) & ~unsigned{FS_EXTENT_FL}), "EOPNOTSUPP");
  unmount_and_check(image);
}

TEST_F(Ioctls, TheVersionIsTheGenerationAndTheRestIsUnknown) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto path = mount_point() / "file";
  write_file(path, "x");
  unsigned long version[2] = {0, 0};
  ASSERT_EQ(::ioctl(open_it(path).get(), FS_IOC_GETVERSION, &version[0]), 0);
  unsigned old_version = 0;
  ASSERT_EQ(::ioctl(open_it(path).get(), _IOR('f', 3, int), &old_version), 0);
  EXPECT_EQ(old_version, version[0]);
  unsigned wanted = 1;
  EXPECT_EQ(answer(::ioctl(open_it(path).get(), FS_IOC_SETVERSION, &wanted)), "ENOTTY");
  {
    const ActAs somebody(kStranger);
    EXPECT_EQ(answer(::ioctl(open_it(path).get(), FS_IOC_SETVERSION, &wanted)), "EPERM");
  }
  EXPECT_EQ(answer(::ioctl(open_it(path).get(), _IO('f', 99))), "ENOTTY");
  EXPECT_EQ(answer(::ioctl(open_it(mount_point()).get(), _IO('f', 99))), "ENOTTY");
  unmount_and_check(image);
  kernel_mount(image);
  ASSERT_EQ(::ioctl(open_it(path).get(), FS_IOC_GETVERSION, &version[1]), 0);
  EXPECT_EQ(version[0], version[1]);
  EXPECT_EQ(unmount().status, 0);
}

// The bytes of the labels in the superblock and its backups.
std::string labels_in(const fs::path& image) {
  const auto bytes = contents_of(image);
  std::string found;
  // 1 KiB blocks: the groups begin at block 1, 8193, ...
  for (std::size_t group = 0; group < 10; ++group) {
    const std::size_t at = (1 + group * 8192) * 1024;
    if (at + 1024 > bytes.size() || bytes[at + 0x38] != '\x53' || bytes[at + 0x39] != '\xef') continue;
    found += fmt::format("{}:{} ", group, bytes.substr(at + 0x78, 16).c_str());
  }
  return found;
}

TEST_F(Ioctls, TheLabelIsSetInAllSuperblocks) {
  mount_both({"-b", "1024", "-L", "before"});
  std::string said[2];
  for (int side = 0; side < 2; ++side) {
    const fs::path point = side == 0 ? mount_point() : kernel_point();
    for (const char* const label : {"sixteen bytes ok", "seventeen bytes !", "", "after"}) {
      char buffer[FSLABEL_MAX] = {};
      std::strcpy(buffer, label);
      const UniqueFd root = open_it(point);
      {
        const ActAs somebody(kOwner);
        said[side] += answer(::ioctl(root.get(), FS_IOC_SETFSLABEL, buffer)) + " ";
      }
      said[side] += answer(::ioctl(root.get(), FS_IOC_SETFSLABEL, buffer)) + " ";
      std::memset(buffer, 0, sizeof buffer);
      said[side] += answer(::ioctl(root.get(), FS_IOC_GETFSLABEL, buffer)) + " " + buffer + "; ";
    }
  }
  EXPECT_EQ(said[0], said[1]);
  EXPECT_THAT(said[0], HasSubstr("EPERM EINVAL ok sixteen bytes ok"));
  unmount_and_check(image_);
  ASSERT_EQ(run({"umount", kernel_point()}).status, 0);
  ASSERT_EQ(run({"mount", "-t", "tmpfs", "none", kernel_point()}).status, 0);
  EXPECT_EQ(labels_in(image_), labels_in(kernel_image_));
  EXPECT_THAT(labels_in(image_), HasSubstr("1:after"));
  EXPECT_EQ(run({"blkid", "-p", "-s", "LABEL", "-o", "value", image_}).output, "after\n");
  // And with the tool, on the mounted volume.
  mount_or_fail(image_);
  const Finished labelled = run({"e2label", loop_devices_of(image_).at(0), "by-e2label"});
  EXPECT_EQ(labelled.status, 0) << labelled.output;
  unmount_and_check(image_);
  EXPECT_EQ(run({"blkid", "-p", "-s", "LABEL", "-o", "value", image_}).output, "by-e2label\n");
}

TEST_F(Ioctls, AfterAShutdownEverythingFailsAndWhatWasSyncedIsThere) {
  mount_both();
  const auto judge = [&](const fs::path& point) {
    write_file(point / "kept", "kept");
    const UniqueFd root = open_it(point);
    EXPECT_EQ(::syncfs(root.get()), 0);
    unsigned how = 0;
    std::string said;
    {
      const ActAs somebody(kOwner);
      said += answer(::ioctl(root.get(), kShutdown, &how)) + " ";
    }
    said += answer(::ioctl(root.get(), kShutdown, &how)) + " ";
    said += answer(UniqueFd(::open((point / "new").c_str(), O_WRONLY | O_CREAT, 0644)) ? 0 : -1) + " ";
    said += answer(::mkdir((point / "directory").c_str(), 0755)) + " ";
    said += answer(::unlink((point / "kept").c_str())) + " ";
    said += answer(::chmod((point / "kept").c_str(), 0600)) + " ";
    said += answer(::ioctl(root.get(), kShutdown, &how));
    return said;
  };
  EXPECT_EQ(judge(mount_point()), judge(kernel_point()));
  EXPECT_EQ(unmount().status, 0);
  EXPECT_THAT(log(), HasSubstr("shut down as asked"));
  const Finished judged = run({"e2fsck", "-fn", image_});
  EXPECT_EQ(judged.status, 0) << judged.output;
  // Not called clean, as after a crash.
  EXPECT_THAT(run({"dumpe2fs", "-h", image_}).output, HasSubstr("not clean"));
  EXPECT_LE(run({"e2fsck", "-p", image_}).status, 1);
  mount_or_fail(image_);
  EXPECT_EQ(contents_of(mount_point() / "kept"), "kept");
  unmount_and_check(image_);
}

TEST_F(Ioctls, ASwapFileIsRefusedInWords) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto path = mount_point() / "swap";
  write_file(path, std::string(2 << 20, '\0'));
  fs::permissions(path, fs::perms(0600));
  const Finished made = run({"mkswap", path});
  ASSERT_EQ(made.status, 0) << made.output;
  EXPECT_EQ(answer(::swapon(path.c_str(), 0)), "EINVAL");
  EXPECT_EQ(answer(::swapon(path.c_str(), 0)), "EINVAL");
  const auto words = log();
  const auto first = words.find("a swap file");
  ASSERT_NE(first, std::string::npos) << words;
  EXPECT_EQ(words.find("a swap file", first + 1), std::string::npos) << "said once is enough";
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
