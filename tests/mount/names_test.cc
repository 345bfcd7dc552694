// SPDX-License-Identifier: GPL-2.0-or-later
// Names and what is behind them: files without one, whiteouts, links, device nodes, locks, deleted files.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "tests/mount/side_by_side.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

using Names = SideBySide;

std::string shape(const struct stat& status) {
  return fmt::format("{:o} links {} owner {}:{} size {}", status.st_mode, status.st_nlink, status.st_uid,
                     status.st_gid, status.st_size);
}
std::string shape(const fs::path& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return outcome(-1);
  return shape(status);
}
std::string shape(const UniqueFd& file) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return outcome(-1);
  return shape(status);
}

UniqueFd temporary(const fs::path& directory, int flags = 0, mode_t mode = 0640) {
  return UniqueFd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | flags, mode));
}
int give_name(const UniqueFd& file, const fs::path& name) {
  const std::string path = fmt::format("/proc/self/fd/{}", file.get());
  return ::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW);
}

TEST_F(Names, TemporaryFilesGetANameOrVanish) {
  mount_both("64M", {}, "mkdir closed && chattr +i closed");
  expect_same([](const fs::path& root) {
    Observations seen;
    struct statvfs before{};
    ::statvfs(root.c_str(), &before);
    {
      const UniqueFd file = temporary(root);
      seen.push_back(outcome(file.get()));
      seen.push_back(shape(file));
      seen.push_back(outcome(::pwrite(file.get(), "content", 7, 0)));
      seen.push_back(outcome(::fchmod(file.get(), 0604)));
      seen.push_back(outcome(::linkat(file.get(), "", AT_FDCWD, (root / "one").c_str(), AT_EMPTY_PATH)));
      seen.push_back(shape(root / "one"));
      seen.push_back(shape(file));
      seen.push_back(contents_of(root / "one"));
      seen.push_back(outcome(give_name(file, root / "two")));
      seen.push_back(shape(file));
      seen.push_back(outcome(give_name(file, root / "two")));
      seen.push_back(outcome(::unlink((root / "one").c_str())));
      seen.push_back(outcome(::unlink((root / "two").c_str())));
      seen.push_back(outcome(give_name(file, root / "three")));
    }
    {
      const UniqueFd exclusive = temporary(root, O_EXCL);
      seen.push_back(outcome(give_name(exclusive, root / "four")));
      const UniqueFd large = temporary(root);
      const std::string megabyte(1 << 20, 'x');
      seen.push_back(outcome(::pwrite(large.get(), megabyte.data(), megabyte.size(), 0)));
      seen.push_back(outcome(::fsync(large.get())));
    }
    const fs::path shared = root / "shared";
    ::mkdir(shared.c_str(), 0755);
    EXPECT_EQ(::chown(shared.c_str(), 0, 4321), 0);
    ::chmod(shared.c_str(), 02775);
    const UniqueFd inside = temporary(shared, 0, 02777);
    seen.push_back(shape(inside));
    seen.push_back(outcome(temporary(root / "closed").get()));
    const fs::path gone = root / "gone";
    ::mkdir(gone.c_str(), 0755);
    const UniqueFd removed(::open(gone.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ::rmdir(gone.c_str());
    seen.push_back(outcome(::openat(removed.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)));
    return seen;
  });
  expect_same("ls -la --time-style=+; stat -f -c '%d' .");
  // One that is open to the end.
  {
    const UniqueFd last = temporary(ours());
    ASSERT_EQ(::pwrite(last.get(), "open", 4, 0), 4);
  }
  expect_same("chattr -i closed 2>/dev/null; true");
  unmount_both();
}

TEST_F(Names, RemovedDirectoriesThatAreOpen) {
  for (const std::string features : {"^inline_data", "inline_data"}) {
    SCOPED_TRACE(features);
    mount_both("64M", {"-b", "1024", "-O", features});
    expect_same([](const fs::path& root) {
      Observations seen;
      for (const int files : {0, 3, 200}) {
        for (const bool replaced : {false, true}) {
          const auto path = root / fmt::format("{}-{}", files, replaced);
          const auto other = root / "other";
          ::mkdir(path.c_str(), 0755);
          ::mkdir(other.c_str(), 0755);
          const auto name = [&](int i) { return path / fmt::format("a file with a long name {}", i); };
          for (int i = 0; i < files; ++i) write_file(name(i), "x");
          for (int i = 0; i < files; ++i) ::unlink(name(i).c_str());
          const UniqueFd open(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
          const int gone = replaced ? ::rename(other.c_str(), path.c_str()) : ::rmdir(path.c_str());
          // How long it was is not the same where it has an index.
          struct stat status{};
          EXPECT_EQ(::fstat(open.get(), &status), 0);
          seen.push_back(fmt::format("{} {}: {} links, empty {}", path.filename().string(), outcome(gone),
                                     status.st_nlink, status.st_size == 0));
        }
      }
      return seen;
    });
    unmount_both();
    for (const char* const image : {"image", "copy"}) fs::remove(scratch() / image);
  }
}

TEST_F(Names, TemporaryFilesInheritAcls) {
  mount_both("64M", {}, "mkdir d; chmod 777 d; setfacl -d -m u:1234:rwx,g::r-x,m::rw d");
  const auto make = [](const fs::path& root) {
    ::umask(027);
    const UniqueFd file = temporary(root / "d", 0, 0666);
    Observations seen{outcome(give_name(file, root / "d/named")), shape(root / "d/named")};
    ::umask(022);
    return seen;
  };
  expect_same(make);
  expect_same("getfacl -n d/named");
  unmount_both();
}

TEST_F(Names, WhiteoutsStandInForWhatMoved) {
  mount_both();
  expect_same([](const fs::path& root) {
    Observations seen;
    const auto move = [&](const char* from, const char* to, unsigned flags) {
      seen.push_back(
          outcome(::renameat2(AT_FDCWD, (root / from).c_str(), AT_FDCWD, (root / to).c_str(), flags)));
    };
    ::mkdir((root / "d").c_str(), 0755);
    ::mkdir((root / "d/sub").c_str(), 0755);
    ::mkdir((root / "e").c_str(), 0755);
    for (const char* name : {"a", "b", "c"}) write_file(root / name, name);
    move("a", "moved", RENAME_WHITEOUT);
    move("b", "c", RENAME_WHITEOUT);
    move("c", "moved", RENAME_WHITEOUT | RENAME_NOREPLACE);
    move("c", "new", RENAME_WHITEOUT | RENAME_NOREPLACE);
    move("new", "moved", RENAME_WHITEOUT | RENAME_EXCHANGE);
    move("d/sub", "e/sub", RENAME_WHITEOUT);
    move("none", "some", RENAME_WHITEOUT);
    move("moved", "again", 8);
    for (const char* name : {"a", "b", "c", "moved", "new", "d", "e", "d/sub", "e/sub"}) {
      struct stat status{};
      const int found = ::lstat((root / name).c_str(), &status);
      seen.push_back(fmt::format("{} {} {} device {}", name, outcome(found), shape(status), status.st_rdev));
    }
    return seen;
  });
  // By somebody who may not make device nodes, as overlayfs does it for its users.
  expect_same(
      "mkdir -m 777 open; cd open; echo x > x; chmod 666 x; cat > /dev/null < x; chown 1000:1000 x\n"
      "setpriv --reuid=1000 --regid=1001 --clear-groups mv x y; stat -c '%A %u %g' y");
  unmount_both();
}

TEST_F(Names, SymbolicLinksOfAllLengths) {
  for (const std::string block_size : {"1024", "4096"}) {
    SCOPED_TRACE(block_size);
    mount_both("64M", {"-b", block_size});
    expect_same([](const fs::path& root) {
      Observations seen;
      for (const std::size_t length : {1, 58, 59, 60, 61, 255, 1022, 1023, 1024, 2000, 4094, 4095}) {
        const std::string target(length, 't');
        const auto name = root / fmt::format("link{}", length);
        seen.push_back(outcome(::symlink(target.c_str(), name.c_str())));
        struct stat status{};
        if (::lstat(name.c_str(), &status) != 0) continue;
        std::string read(5000, '\0');
        read.resize(static_cast<std::size_t>(
            std::max<ssize_t>(0, ::readlink(name.c_str(), read.data(), read.size()))));
        seen.push_back(fmt::format("{} {} blocks {}", shape(status), read == target, status.st_blocks));
      }
      return seen;
    });
    unmount_both();
    fs::remove(scratch() / "image");
    fs::remove(scratch() / "copy");
  }
}

TEST_F(Names, DeviceNodesOfAllNumbers) {
  mount_both();
  const auto numbers = [](const fs::path& root) {
    Observations seen;
    for (const auto& [major, minor] : {std::pair(0U, 0U),
                                       {0U, 1U},
                                       {1U, 3U},
                                       {255U, 255U},
                                       {256U, 0U},
                                       {0U, 256U},
                                       {255U, 256U},
                                       {300U, 70000U},
                                       {4095U, 1048575U}}) {
      for (const mode_t type : {S_IFCHR, S_IFBLK}) {
        const auto name = root / fmt::format("{:o}-{}-{}", type, major, minor);
        // The second time it is there already.
        seen.push_back(outcome(::mknod(name.c_str(), type | 0600, makedev(major, minor))));
        struct stat status{};
        ::lstat(name.c_str(), &status);
        seen.push_back(fmt::format("{} {}:{}", shape(status), major(status.st_rdev), minor(status.st_rdev)));
      }
    }
    for (const mode_t type : {S_IFIFO, S_IFSOCK, S_IFREG}) {
      const auto name = root / fmt::format("{:o}", type);
      seen.push_back(outcome(::mknod(name.c_str(), type | 0640, 0)));
      seen.push_back(shape(name));
    }
    return seen;
  };
  expect_same(numbers);
  ASSERT_EQ(unmount().status, 0);
  mount_or_fail(scratch() / "image");
  const auto again = numbers(ours());
  const auto kernels_again = numbers(kernels());
  EXPECT_EQ(again, kernels_again);
  unmount_both();
}

TEST_F(Names, StickyAndSetgidDirectories) {
  mount_both();
  expect_same(R"sh(
    as() { setpriv --reuid=$1 --regid=$1 $2 sh -c "umask 0; $3" 2>&1 | sed 's/^sh: //'; }
    mkdir -m 1777 sticky; echo x > sticky/root; mkdir sticky/rootdir
    as 1000 --clear-groups "rm -f sticky/root; mv sticky/root sticky/x; rmdir sticky/rootdir; : > sticky/mine"
    as 1000 --clear-groups "mv -f sticky/mine sticky/root; rm sticky/mine; echo y >> sticky/root"
    as 1001 --clear-groups ": > sticky/theirs"; as 1000 --clear-groups "mv -T sticky/theirs sticky/taken"
    mkdir shared; chown 0:2000 shared; chmod 2777 shared
    make="mkdir -m 755 d; mkdir -m 2750 d2; : > f; chmod 2775 f; mkfifo -m 2770 p; ln -s x l; cp -p f g"
    for who in 1000/--clear-groups 1001/--groups=2000 0/--clear-groups; do
      mkdir shared/$who -p; chmod 2777 shared/${who%/*} shared/$who
      as ${who%/*} ${who#*/} "cd shared/$who; $make"
    done
    mkdir own; chown 1000:2000 own; : > own/file; chown 1000:2000 own/file
    as 1000 --clear-groups "chmod 2755 own/file; stat -c %A own/file; chgrp 1000 own/file; chown 1001 own/file"
    as 1000 --groups=2000 "chmod 2755 own/file; stat -c %A own/file; chgrp 1000 own/file; stat -c %A own/file"
    as 1001 --clear-groups "chmod 600 own/file; touch own/file; touch -d @5 own/file"
    mkdir -m 555 closed; as 1000 --clear-groups ": > closed/x; mkdir closed/d; ln own/file closed/l"
    ls -lanR --time-style=+
  )sh");
  unmount_both();
}

TEST_F(Names, LocksHoldBetweenProcesses) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto path = mount_point() / "file";
  write_file(path, std::string(100, 'x'));
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  // Whether another process gets this lock, of a description of its own.
  const auto another_gets = [&](const std::function<bool(int)>& lock) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(lock(::open(path.c_str(), O_RDWR | O_CLOEXEC)) ? 0 : 1);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  };
  const auto flocks = [](int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0; };
  ASSERT_EQ(::flock(file.get(), LOCK_EX), 0);
  EXPECT_FALSE(another_gets(flocks));
  ASSERT_EQ(::flock(file.get(), LOCK_UN), 0);
  EXPECT_TRUE(another_gets(flocks));
  for (const auto& [set, get] : {std::pair(F_SETLK, F_GETLK), std::pair(F_OFD_SETLK, F_OFD_GETLK)}) {
    struct flock range{.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20, .l_pid = 0};
    ASSERT_EQ(::fcntl(file.get(), set, &range), 0);
    const auto locks_at = [set = set](off_t start) {
      return [=](int fd) {
        struct flock other{.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 5, .l_pid = 0};
        return ::fcntl(fd, set, &other) == 0;
      };
    };
    EXPECT_FALSE(another_gets(locks_at(25)));
    EXPECT_TRUE(another_gets(locks_at(30)));
    EXPECT_FALSE(another_gets([get = get](int fd) {
      struct flock other{.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0, .l_pid = 0};
      return ::fcntl(fd, get, &other) == 0 && other.l_type == F_UNLCK;
    }));
    range.l_type = F_UNLCK;
    ASSERT_EQ(::fcntl(file.get(), set, &range), 0);
    EXPECT_TRUE(another_gets(locks_at(25)));
  }
  file.reset();
  unmount_and_check(image);
}

TEST_F(Names, DirectoriesCanBeSynced) {
  const auto image = make_image();
  mount_or_fail(image);
  const UniqueFd directory(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::mkdirat(directory.get(), "new", 0755), 0);
  EXPECT_EQ(::fsync(directory.get()), 0);
  EXPECT_EQ(::fdatasync(directory.get()), 0);
  // It is on the device before the unmount.
  EXPECT_THAT(run({"debugfs", "-R", "stat /new", image}).output, ::testing::HasSubstr("Type: directory"));
}

// Another process, which makes files and deletes them while they are open, until it is told to go.
class Holder {
 public:
  Holder(const fs::path& directory, int first, int count) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    ready_ = UniqueFd(ends[0]);
    UniqueFd ready(ends[1]);
    process_ = ::fork();
    if (process_ != 0) return;
    for (int i = first; i < first + count; ++i) {
      const auto name = directory / fmt::format("file{}", i);
      const int file = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
      if (file < 0 || ::unlink(name.c_str()) != 0) ::_exit(1);
      if (i % 10 == 0 && ::pwrite(file, "content", 7, 0) != 7) ::_exit(2);
    }
    if (::write(ready.get(), "x", 1) != 1) ::_exit(3);
    while (true) ::pause();
  }
  ~Holder() { go(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  [[nodiscard]] bool is_ready() const {
    char byte = 0;
    return ::read(ready_.get(), &byte, 1) == 1;
  }
  void go() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = 0;
  }

 private:
  UniqueFd ready_;
  pid_t process_ = 0;
};

class DeletedFiles : public MountTest {
 protected:
  // 20,000 files; one process may not have so many open everywhere.
  static constexpr int kHolders = 4;
  static constexpr int kEach = 5'000;

  void mount_and_hold() {
    image_ = make_image("64M", {"-b", "1024", "-N", "24000"});
    at_first_ = inodes_in_use();
    mount_or_fail(image_);
    for (int i = 0; i < kHolders; ++i)
      holders_.push_back(std::make_unique<Holder>(mount_point(), i * kEach, kEach));
    for (const auto& holder : holders_) ASSERT_TRUE(holder->is_ready());
    struct statvfs status{};
    ASSERT_EQ(::statvfs(mount_point().c_str(), &status), 0);
    EXPECT_EQ(status.f_files - status.f_ffree, static_cast<unsigned>(at_first_ + kHolders * kEach));
  }
  void let_go() {
    for (const auto& holder : holders_) holder->go();
  }
  void expect_all_gone() {
    expect_clean(image_);
    EXPECT_EQ(inodes_in_use(), at_first_);
  }
  // Reserved ones, lost+found, and what mke2fs of this release makes besides.
  [[nodiscard]] int inodes_in_use() const {
    const std::string summary = run({"dumpe2fs", "-h", image_}).output;
    const auto figure = [&](std::string_view label) {
      const auto at = summary.find(label);
      return at == std::string::npos ? -1 : std::atoi(summary.c_str() + at + label.size());
    };
    return figure("Inode count:") - figure("Free inodes:");
  }

  fs::path image_;
  int at_first_ = 0;
  std::vector<std::unique_ptr<Holder>> holders_;
};

TEST_F(DeletedFiles, AreGoneAfterAnUnmountAtOnce) {
  mount_and_hold();
  let_go();
  ASSERT_EQ(unmount().status, 0);
  expect_all_gone();
}

TEST_F(DeletedFiles, AreGoneAfterTheLastOneOfALazyUnmountIsClosed) {
  mount_and_hold();
  ASSERT_EQ(::umount2(mount_point().c_str(), MNT_DETACH), 0);
  EXPECT_FALSE(server_ends(1)) << "the files are still open";
  let_go();
  ASSERT_TRUE(server_ends(60));
  expect_all_gone();
}

}  // namespace
}  // namespace fuse4fs::test
