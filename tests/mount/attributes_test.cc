// SPDX-License-Identifier: GPL-2.0-or-later
// stat, statx and statfs, and what changes their figures, beside the kernel's ext4.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <ctime>
#include <thread>
#include <utility>

#include "base/unique_fd.h"
#include "tests/mount/side_by_side.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

using Attributes = SideBySide;

std::string text(const timespec& time) { return fmt::format("{}.{:09}", time.tv_sec, time.tv_nsec); }

struct stat status_of(const fs::path& path) {
  struct stat status{};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status;
}

bool is_recent(const timespec& time) { return std::abs(std::time(nullptr) - time.tv_sec) < 60; }

int set_times(const fs::path& path, timespec accessed, timespec modified) {
  const timespec times[2] = {accessed, modified};
  return ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

constexpr timespec kNow{.tv_sec = 0, .tv_nsec = UTIME_NOW};
constexpr timespec kOmit{.tv_sec = 0, .tv_nsec = UTIME_OMIT};

TEST_F(Attributes, TimesOfAllYears) {
  for (const Command& arguments : {Command{}, Command{"-I", "128"}}) {
    SCOPED_TRACE(arguments.size());
    mount_both("64M", arguments);
    const bool narrow = !arguments.empty();
    expect_same([narrow](const fs::path& root) {
      Observations seen;
      constexpr std::int64_t kRound = std::int64_t{1} << 32;
      const std::int64_t last = (narrow ? 0 : 3 * kRound) + INT32_MAX;
      // Beyond the ends the kernel itself keeps the mtime of a regular file: docs/differences.md.
      std::vector<std::int64_t> outside{INT32_MIN - std::int64_t{9}, INT32_MIN, last, last + 9, 9 * kRound};
      std::vector<std::int64_t> inside{INT32_MIN + 1, -1, 0, 1, INT32_MAX - 1, last - 1};
      if (!narrow)
        inside.insert(inside.end(), {INT32_MAX, kRound, kRound + INT32_MAX, 2 * kRound, 3 * kRound});
      const auto file = root / "file";
      const auto directory = root / "directory";
      write_file(file, "x");
      ::mkdir(directory.c_str(), 0755);
      const auto observe = [&](const fs::path& path, std::int64_t seconds) {
        const timespec time{.tv_sec = seconds, .tv_nsec = 123'456'789};
        seen.push_back(outcome(set_times(path, time, time)));
        const auto status = status_of(path);
        seen.push_back(fmt::format("{}: {} {}", seconds, text(status.st_atim), text(status.st_mtim)));
      };
      for (const auto seconds : inside) {
        observe(file, seconds);
        observe(directory, seconds);
      }
      for (const auto seconds : outside) observe(directory, seconds);
      return seen;
    });
    unmount_both();
    for (const char* name : {"image", "copy"}) fs::remove(scratch() / name);
  }
}

TEST_F(Attributes, TimesThatAreNowOrLeftOut) {
  mount_both();
  expect_same([](const fs::path& root) {
    Observations seen;
    const timespec past{.tv_sec = 1'000'000'000, .tv_nsec = 7};
    const timespec other{.tv_sec = 1'100'000'000, .tv_nsec = 8};
    write_file(root / "file", "x");
    ::mkdir((root / "directory").c_str(), 0755);
    EXPECT_EQ(::symlink("x", (root / "link").c_str()), 0);
    for (const char* name : {"file", "directory", "link"}) {
      const auto path = root / name;
      for (const auto& [accessed, modified] : {std::pair(past, past),
                                               {kOmit, other},
                                               {other, kOmit},
                                               {kNow, kOmit},
                                               {past, past},
                                               {kOmit, kNow},
                                               {kOmit, kOmit},
                                               {kNow, kNow}}) {
        seen.push_back(outcome(set_times(path, accessed, modified)));
        const auto status = status_of(path);
        const auto shown = [](const timespec& time) { return is_recent(time) ? "now" : text(time); };
        seen.push_back(fmt::format("{} {} {} {}", name, shown(status.st_atim), shown(status.st_mtim),
                                   shown(status.st_ctim)));
      }
    }
    return seen;
  });
  unmount_both();
}

TEST_F(Attributes, PrivilegesAreClearedAsExt4Does) {
  mount_both();
  expect_same(R"sh(
    as() { setpriv --reuid=1000 --regid=1000 $1 sh -c "$2"; }
    : > f; mkdir d
    for mode in 6755 6745 2755 2745 4755 7777 4644; do
      chown 0:0 f; chmod $mode f; chown 5:6 f; stat -c "$mode chown %a" f
      chmod $mode f; chgrp 7 f; stat -c "chgrp %a" f
      chmod $mode f; truncate -s 10 f; stat -c "truncated by root %a" f
      chmod $mode f; echo x >> f; stat -c "written by root %a" f
      chown 1000:1000 f; chmod $mode f; as --clear-groups "fallocate -l 9000 f"; stat -c "allocated %a" f
      chmod $mode f; as --clear-groups "fallocate -p -l 4096 f"; stat -c "punched %a" f
      chmod $mode f; as --clear-groups "dd if=f of=f bs=4096 count=1 oflag=direct conv=notrunc status=none"
      stat -c "written directly %a" f
      chmod $mode f; as --clear-groups "truncate -s 5 f"; stat -c "truncated by its owner %a" f
      chmod $mode f; as --clear-groups "echo x >> f"; stat -c "written by its owner %a" f
      chmod $mode f; as --clear-groups ": > f"; stat -c "emptied by its owner %a" f
      chmod $mode f; as --groups=2000 "chgrp 2000 f"; stat -c "given to a group %a %g" f
      chmod $mode d; chown 5:6 d; stat -c "directory %a" d
    done
    ln -s f l; chown -h 5:6 l; stat -c "%a %u %g" l
  )sh");
  unmount_both();
}

TEST_F(Attributes, FileCapabilitiesGoWithEachChange) {
  mount_both();
  expect_same(R"sh(
    as() { setpriv --reuid=1000 --regid=1000 --clear-groups sh -c "$1"; }
    give() { chown 1000:1000 f; setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 f; }
    has() { getfattr --only-values -n security.capability f 2>&1 | wc -c; }
    : > f; chmod 755 f; give; has
    for who in as "sh -c"; do
      for change in "echo x >> f" "truncate -s 3 f" ": > f" "dd if=/dev/zero of=f bs=4k count=1 conv=notrunc status=none"; do
        give; echo "$who $change"; $who "$change"; has
      done
    done
    give; chown 5 f; has; give; chgrp 5 f; has; give; chmod 700 f; has; give; touch f; has; give; mv f g; mv g f; has
  )sh");
  unmount_both();
}

TEST_F(Attributes, ImmutableAndAppendOnlyFiles) {
  mount_both("64M", {}, "for f in fixed log; do echo text > $f; done; chattr +i fixed; chattr +a log");
  expect_same([](const fs::path& root) {
    Observations seen;
    const timespec past{.tv_sec = 1'000'000'000, .tv_nsec = 7};
    for (const char* name : {"fixed", "log"}) {
      const auto path = root / name;
      const auto* const file = path.c_str();
      seen.push_back(name);
      seen.push_back(outcome(::chmod(file, 0600)));
      seen.push_back(outcome(::chown(file, 1, 1)));
      seen.push_back(outcome(::truncate(file, 0)));
      seen.push_back(outcome(::truncate(file, 100)));
      seen.push_back(outcome(set_times(path, past, past)));
      seen.push_back(outcome(set_times(path, kOmit, past)));
      seen.push_back(outcome(set_times(path, past, kOmit)));
      seen.push_back(outcome(set_times(path, kNow, kNow)));
      seen.push_back(outcome(::link(file, (root / "more").c_str())));
      seen.push_back(outcome(::rename(file, (root / "more").c_str())));
      seen.push_back(outcome(::unlink(file)));
    }
    return seen;
  });
  UniqueFd log(::open((ours() / "log").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  // Each brings its mtime back to the server.
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(::write(log.get(), "more\n", 5), 5);
    ASSERT_EQ(::fsync(log.get()), 0);
  }
  log.reset();
  EXPECT_EQ(contents_of(ours() / "log"), "text\nmore\nmore\nmore\n");
  unmount_both();
}

TEST_F(Attributes, SizesAndTheirLimits) {
  for (const Command& arguments : {Command{}, Command{"-t", "ext3", "-b", "1024"}, Command{"-b", "1024"}}) {
    SCOPED_TRACE(arguments.size());
    mount_both("64M", arguments);
    expect_same([](const fs::path& root) {
      Observations seen;
      const auto path = root / "file";
      write_file(path, "content");
      for (const off_t size :
           {off_t{-1}, off_t{0}, off_t{7}, off_t{4096}, off_t{1} << 31, (off_t{1} << 34) - 1, off_t{17} << 30,
            (off_t{1} << 42) - 1024, off_t{1} << 42, (off_t{1} << 44) - 4096, (off_t{1} << 44) - 1,
            off_t{1} << 44, off_t{1} << 62, INT64_MAX}) {
        seen.push_back(fmt::format("{} {}", size, outcome(::truncate(path.c_str(), size))));
        seen.push_back(fmt::format("{}", status_of(path).st_size));
      }
      ::mkdir((root / "directory").c_str(), 0755);
      ::mkfifo((root / "pipe").c_str(), 0600);
      for (const char* name : {"directory", "pipe", "none"})
        seen.push_back(outcome(::truncate((root / name).c_str(), 0)));
      return seen;
    });
    unmount_both();
    for (const char* name : {"image", "copy"}) fs::remove(scratch() / name);
  }
}

TEST_F(Attributes, BirthTimes) {
  for (const Command& arguments : {Command{}, Command{"-I", "128"}}) {
    mount_both("64M", arguments,
               "echo x > old; mkdir dir; ln -s x link; mkfifo pipe; mknod node c 300 70000");
    expect_same([](const fs::path& root) {
      Observations seen;
      for (const char* name : {"old", "dir", "link", "pipe", "node", "."}) {
        struct statx status{};
        const int flags = AT_SYMLINK_NOFOLLOW;
        // Twice: the second answer may be the kernel's own.
        for (int i = 0; i < 2; ++i) {
          seen.push_back(outcome(
              ::statx(AT_FDCWD, (root / name).c_str(), flags, STATX_BASIC_STATS | STATX_BTIME, &status)));
          seen.push_back(fmt::format(
              "{} {} {}.{:09} {:o} {} {} {} {}:{}", name, status.stx_mask & STATX_BTIME,
              status.stx_btime.tv_sec, status.stx_btime.tv_nsec, status.stx_mode, status.stx_nlink,
              status.stx_size, status.stx_ino, status.stx_rdev_major, status.stx_rdev_minor));
        }
      }
      return seen;
    });
    // It never changes.
    write_file(ours() / "new", "x");
    struct statx before{};
    struct statx after{};
    ASSERT_EQ(::statx(AT_FDCWD, (ours() / "new").c_str(), 0, STATX_BTIME, &before), 0);
    ASSERT_EQ(::chmod((ours() / "new").c_str(), 0600), 0);
    write_file(ours() / "new", "more");
    ASSERT_EQ(::statx(AT_FDCWD, (ours() / "new").c_str(), 0, STATX_BTIME, &after), 0);
    EXPECT_EQ(before.stx_btime.tv_sec, after.stx_btime.tv_sec);
    EXPECT_EQ(before.stx_btime.tv_nsec, after.stx_btime.tv_nsec);
    EXPECT_TRUE(!arguments.empty() || is_recent({.tv_sec = before.stx_btime.tv_sec, .tv_nsec = 0}));
    unmount_both();
    for (const char* name : {"image", "copy"}) fs::remove(scratch() / name);
  }
}

TEST_F(Attributes, StatfsIsExact) {
  const std::pair<const char*, Command> kinds[] = {
      {"64M", {}},
      {"64M", {"-b", "1024"}},
      {"64M", {"-b", "2048", "-m", "0"}},
      {"64M", {"-t", "ext2"}},
      {"64M", {"-t", "ext3", "-b", "1024"}},
      {"1G", {"-O", "meta_bg,^resize_inode"}},
      {"100M", {"-b", "1024", "-O", "meta_bg,^resize_inode"}},
      {"300M", {"-O", "^flex_bg"}},
      {"300M", {"-O", "bigalloc", "-C", "65536"}},
      {"300M", {"-O", "^has_journal,sparse_super2,^resize_inode"}},
      {"300M", {"-O", "^sparse_super,^resize_inode,^64bit", "-b", "1024"}},
      {"64M", {"-O", "orphan_file,inline_data"}},
  };
  const auto figures = [](const fs::path& root) -> Observations {
    struct statvfs status{};
    EXPECT_EQ(::statvfs(root.c_str(), &status), 0);
    return {
        fmt::format("bsize {} frsize {} blocks {} bfree {} bavail {} files {} ffree {} favail {} namemax {}",
                    status.f_bsize, status.f_frsize, status.f_blocks, status.f_bfree, status.f_bavail,
                    status.f_files, status.f_ffree, status.f_favail, status.f_namemax)};
  };
  for (const auto& [size, arguments] : kinds) {
    SCOPED_TRACE(fmt::format("{} {}", size, fmt::join(arguments, " ")));
    mount_both(size, arguments, "mkdir d; head -c 300000 /dev/zero > d/x; ln -s $(printf %0100d 1) l");
    expect_same(figures);
    if (HasFatalFailure()) return;
    unmount_both();
    // The superblock's own figure is absent or wrong. (bigalloc: absent or too large to be one.)
    for (const char* name : {"image", "copy"}) {
      const Finished set = run({"debugfs", "-w", "-R", "ssv overhead_blocks 999999999", scratch() / name});
      ASSERT_EQ(set.status, 0) << set.output;
    }
    mount_or_fail(scratch() / "image");
    ASSERT_EQ(run({"mount", "-t", "ext4", "-o", "loop", scratch() / "copy", kernels()}).status, 0);
    expect_same(figures);
    unmount_both();
    for (const char* name : {"image", "copy"}) fs::remove(scratch() / name);
  }
}

class AccessTimes : public MountTest {
 protected:
  // A file, a directory and a link that were read two days ago and changed since.
  void mount_with(const std::string& options) {
    if (image_.empty()) {
      image_ = make_image();
      kernel_mount(image_);
      const Finished made =
          run({"sh", "-ec",
               "cd " + mount_point().string() +
                   "; echo text > file; mkdir directory; : > directory/name; ln -s x link"});
      ASSERT_EQ(made.status, 0) << made.output;
      for (const char* name : {"file", "directory", "link"}) ASSERT_EQ(age(name), 0);
      ASSERT_EQ(unmount().status, 0);
    }
    mount_or_fail(image_, options);
  }
  [[nodiscard]] int age(const char* name) const {
    const timespec past{.tv_sec = std::time(nullptr) - 2 * 86400, .tv_nsec = 0};
    return set_times(mount_point() / name, past, kOmit);
  }
  // Whether this read reaches the server and sets the time; the kernel forgets what it has cached of it
  // first.
  bool reading_sets(const char* name, int flags = 0) {
    const auto path = mount_point() / name;
    write_file("/proc/sys/vm/drop_caches", "3");
    const auto before = status_of(path);
    // With iomap times are those of the kernel's clock, which has ticks.
    const auto is_past = [&] {
      timespec now{};
      ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
      return std::pair(now.tv_sec, now.tv_nsec) > std::pair(before.st_atim.tv_sec, before.st_atim.tv_nsec);
    };
    while (!is_past()) std::this_thread::yield();
    if (S_ISLNK(before.st_mode)) {
      std::array<char, 10> target{};
      EXPECT_GT(::readlink(path.c_str(), target.data(), target.size()), 0);
    } else {
      const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags));
      EXPECT_TRUE(file) << std::strerror(errno);
      std::array<char, 4096> bytes{};
      if (S_ISDIR(before.st_mode)) {
        EXPECT_GT(::getdents64(file.get(), bytes.data(), bytes.size()), 0);
      } else {
        EXPECT_EQ(::read(file.get(), bytes.data(), bytes.size()), 5);
      }
    }
    const auto after = status_of(path);
    EXPECT_EQ(text(after.st_mtim), text(before.st_mtim));
    EXPECT_EQ(text(after.st_ctim), text(before.st_ctim));
    return text(after.st_atim) != text(before.st_atim);
  }
  [[nodiscard]] std::string mount_line() const {
    return run({"findmnt", "-n", "-o", "OPTIONS", mount_point()}).output;
  }

  fs::path image_;
};

TEST_F(AccessTimes, AreSetOnceWithRelatime) {
  mount_with("");
  EXPECT_THAT(mount_line(), HasSubstr("relatime"));
  for (const char* name : {"file", "directory", "link"}) {
    EXPECT_TRUE(reading_sets(name)) << name;
    EXPECT_FALSE(reading_sets(name)) << name;
  }
  unmount_and_check(image_);
  kernel_mount(image_);
  EXPECT_TRUE(is_recent(status_of(mount_point() / "file").st_atim)) << "and are there for the kernel";
  EXPECT_EQ(unmount().status, 0);
}

TEST_F(AccessTimes, AreSetEachTimeWithStrictatime) {
  mount_with("strictatime");
  EXPECT_THAT(mount_line(), ::testing::Not(HasSubstr("atime")));
  for (const char* name : {"file", "directory", "link"}) {
    EXPECT_TRUE(reading_sets(name)) << name;
    EXPECT_TRUE(reading_sets(name)) << name;
  }
  unmount_and_check(image_);
}

TEST_F(AccessTimes, AreLeftAloneWithNoatime) {
  mount_with("noatime");
  EXPECT_THAT(mount_line(), HasSubstr("noatime"));
  for (const char* name : {"file", "directory", "link"}) EXPECT_FALSE(reading_sets(name)) << name;
  unmount_and_check(image_);
}

TEST_F(AccessTimes, OfDirectoriesAreLeftAloneWithNodiratime) {
  mount_with("nodiratime");
  EXPECT_THAT(mount_line(), HasSubstr("nodiratime"));
  EXPECT_TRUE(reading_sets("file"));
  EXPECT_FALSE(reading_sets("directory"));
  unmount_and_check(image_);
}

TEST_F(AccessTimes, AreLeftAloneForWhoeverOpensWithNoatime) {
  mount_with("strictatime");
  EXPECT_FALSE(reading_sets("file", O_NOATIME));
  EXPECT_FALSE(reading_sets("directory", O_NOATIME | O_DIRECTORY));
  EXPECT_TRUE(reading_sets("file"));
  unmount_and_check(image_);
}

TEST_F(AccessTimes, AreNotSetByTheReadThatAPartialWriteNeeds) {
  mount_with("strictatime");
  write_file("/proc/sys/vm/drop_caches", "3");
  const auto before = status_of(mount_point() / "file");
  {
    const UniqueFd file(::open((mount_point() / "file").c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(file.get(), "X", 1, 2), 1);
  }
  EXPECT_EQ(text(status_of(mount_point() / "file").st_atim), text(before.st_atim));
  EXPECT_EQ(contents_of(mount_point() / "file"), "teXt\n");
  unmount_and_check(image_);
}

TEST_F(AccessTimes, OfReadOnlyMountsStay) {
  mount_with("ro,strictatime");
  const std::string bytes = contents_of(image_);
  for (const char* name : {"file", "directory", "link"}) EXPECT_FALSE(reading_sets(name)) << name;
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(contents_of(image_) == bytes);
}

TEST_F(AccessTimes, AreFixedWhenItIsMounted) {
  mount_with("");
  const Finished changed = run({FUSE4FS_HELPER, image_, mount_point(), "-o", "remount,noatime"});
  EXPECT_EQ(changed.status, 0) << changed.output;
  EXPECT_THAT(changed.output, HasSubstr("as when it was mounted"));
  EXPECT_TRUE(reading_sets("file"));
  unmount_and_check(image_);
}

}  // namespace
}  // namespace fuse4fs::test
