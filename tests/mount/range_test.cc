// SPDX-License-Identifier: GPL-2.0-or-later
// fallocate, SEEK_DATA and SEEK_HOLE and copy_file_range through our mount, beside the kernel's ext4.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

// What a call returned: a value, or an errno below zero.
template <class Value>
long outcome(Value returned) {
  return returned < 0 ? -errno : static_cast<long>(returned);
}

class Range : public MountTest {
 protected:
  fs::path kernel_point() const { return scratch() / "kernel"; }

  // Our mount and the kernel's, of two images made alike.
  void mount_both(const Command& mkfs_arguments) {
    ours_ = make_image("64M", mkfs_arguments, "ours");
    kernels_ = make_image("64M", mkfs_arguments, "kernels");
    mount_or_fail(ours_);
    fs::create_directory(kernel_point());
    const auto mounted = run({"mount", "-t", "ext4", "-o", "loop", kernels_, kernel_point()});
    ASSERT_EQ(mounted.status, 0) << mounted.output;
  }

  void unmount_both() {
    unmount_and_check(ours_);
    EXPECT_EQ(run({"umount", kernel_point()}).status, 0);
  }

  fs::path ours_, kernels_;
};

struct Pair {
  UniqueFd ours, kernels;
};

class RangeSideBySide : public Range, public ::testing::WithParamInterface<Command> {
 protected:
  Pair open_both(const char* name) {
    return {UniqueFd(::open((mount_point() / name).c_str(), O_RDWR | O_CREAT, 0644)),
            UniqueFd(::open((kernel_point() / name).c_str(), O_RDWR | O_CREAT, 0644))};
  }

  // Not compared: over allocated blocks without data the kernel's ext4 answers by what happens to be in its
  // page cache, and of an indirect map it does not see what a mapping has changed.
  void check_seek(int fd, off_t offset) {
    const long data = outcome(::lseek(fd, offset, SEEK_DATA));
    const long hole = outcome(::lseek(fd, offset, SEEK_HOLE));
    struct stat status{};
    ::fstat(fd, &status);
    if (offset >= status.st_size) {
      ASSERT_EQ(data, -ENXIO);
      ASSERT_EQ(hole, -ENXIO);
      return;
    }
    const long next = data == -ENXIO ? status.st_size : data;
    ASSERT_GE(next, offset);
    ASSERT_LE(hole, status.st_size);
    if (next == offset) {
      ASSERT_GT(hole, offset);
    } else {
      ASSERT_EQ(hole, offset);
    }
    std::string between(static_cast<std::size_t>(next - offset), '?');
    ASSERT_EQ(::pread(fd, between.data(), between.size(), offset), next - offset);
    ASSERT_EQ(between.find_first_not_of('\0'), std::string::npos) << "data from " << offset << " to " << next;
  }

  template <class Call>
  void expect_same(const Pair& file, const char* what, Call call) {
    const long ours = outcome(call(file.ours.get()));
    const long kernels = outcome(call(file.kernels.get()));
    ASSERT_EQ(ours, kernels) << what;
    struct stat mine{}, theirs{};
    ::fstat(file.ours.get(), &mine);
    ::fstat(file.kernels.get(), &theirs);
    ASSERT_EQ(mine.st_size, theirs.st_size) << what;
    ASSERT_EQ(mine.st_mode, theirs.st_mode) << what;
  }
};

TEST_P(RangeSideBySide, OddArgumentsGetTheSameErrors) {
  mount_both(GetParam());
  Pair file = open_both("file");
  ASSERT_TRUE(file.ours && file.kernels);
  expect_same(file, "write", [](int fd) { return ::pwrite(fd, "0123456789", 10, 0); });
  struct Span {
    off_t offset, length;
  };
  constexpr std::array kSpans{Span{0, 4096},      Span{4096, 8192},     Span{100, 5000},
                              Span{0, 0},         Span{-1, 5},          Span{0, -1},
                              Span{2 << 20, 100}, Span{1L << 50, 4096}, Span{1L << 62, 1L << 62}};
  // Neither 0x80 (write zeros, new) nor the two that FUSE never passes on: COLLAPSE and INSERT.
  for (const int mode :
       {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE, FALLOC_FL_UNSHARE_RANGE}) {
    for (const Span& span : kSpans) {
      SCOPED_TRACE(testing::Message() << "mode " << mode << ", " << span.offset << " + " << span.length);
      // The kernel's FUSE looks at the mode first, ext4 at the end.
      if ((mode & FALLOC_FL_UNSHARE_RANGE) != 0 && span.offset > 1L << 40) continue;
      expect_same(file, "fallocate", [&](int fd) { return ::fallocate(fd, mode, span.offset, span.length); });
    }
  }
  for (const int whence : {SEEK_DATA, SEEK_HOLE}) {
    for (const off_t offset : {off_t{-1}, off_t{0}, off_t{1 << 20}, off_t{1} << 40})
      expect_same(file, "lseek", [&](int fd) { return ::lseek(fd, offset, whence); });
  }
  const auto copy = [&](off_t from, off_t to, std::size_t length) {
    SCOPED_TRACE(testing::Message() << from << " to " << to << ", " << length);
    expect_same(file, "copy_file_range", [&](int fd) {
      off_t in = from, out = to;
      return ::copy_file_range(fd, &in, fd, &out, length, 0);
    });
  };
  copy(0, 100, 200);
  copy(0, 4096, 4096);
  copy(1L << 30, 0, 100);
  copy(0, -1, 100);
  copy(0, 1L << 50, 100);
  {
    const UniqueFd read_only(::open((mount_point() / "file").c_str(), O_RDONLY));
    EXPECT_EQ(outcome(::fallocate(read_only.get(), 0, 0, 4096)), -EBADF);
  }
  file = {};
  unmount_both();
}

TEST_P(RangeSideBySide, RandomOperationsHaveTheSameEffects) {
  mount_both(GetParam());
  std::array files{open_both("one"), open_both("two")};
  constexpr unsigned kSeed = 7;
  std::mt19937 random(kSeed);
  constexpr std::size_t kLargest = 1 << 20;
  std::string text(100'000, '\0');
  std::vector<char> mine(kLargest * 2), theirs(kLargest * 2);
  for (int step = 0; step < 1200; ++step) {
    SCOPED_TRACE(testing::Message() << "seed " << kSeed << ", step " << step);
    const Pair& file = files[random() % 2];
    const Pair& other = files[random() % 2];
    const auto offset =
        static_cast<off_t>(random() % kLargest / (step % 2 == 0 ? 1 : 4096) * (step % 2 == 0 ? 1 : 4096));
    const std::size_t size = 1 + random() % (random() % 8 == 0 ? 300'000 : 20'000);
    switch (random() % 9) {
      case 0:
      case 1:
        std::fill(text.begin(), text.end(), static_cast<char>('a' + random() % 26));
        expect_same(file, "write",
                    [&](int fd) { return ::pwrite(fd, text.data(), std::min(size, text.size()), offset); });
        break;
      case 2: {
        constexpr std::array kModes{0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
        const int mode = kModes[random() % kModes.size()];
        expect_same(file, "fallocate",
                    [&](int fd) { return ::fallocate(fd, mode, offset, static_cast<off_t>(size)); });
        break;
      }
      case 3:
        if (random() % 3 == 0)
          expect_same(file, "ftruncate", [&](int fd) { return ::ftruncate(fd, offset); });
        break;
      case 4: {
        const auto from = static_cast<off_t>(random() % kLargest);
        off_t in = from, out = offset;
        const long ours = outcome(::copy_file_range(other.ours.get(), &in, file.ours.get(), &out, size, 0));
        in = from, out = offset;
        ASSERT_EQ(ours,
                  outcome(::copy_file_range(other.kernels.get(), &in, file.kernels.get(), &out, size, 0)));
        break;
      }
      case 5:
        if (random() % 4 == 0) expect_same(file, "fsync", [](int fd) { return ::fsync(fd); });
        break;
      case 6:
        check_seek(file.ours.get(), offset);
        break;
      case 7: {
        // Through a mapping, where the file has bytes.
        struct stat status{};
        ::fstat(file.ours.get(), &status);
        if (offset + 2000 > status.st_size) break;
        expect_same(file, "mmap", [&](int fd) {
          auto* const map = static_cast<char*>(::mmap(nullptr, static_cast<std::size_t>(status.st_size),
                                                      PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
          if (map == MAP_FAILED) return -1;
          std::memset(map + offset, 'M', 2000);
          return ::munmap(map, static_cast<std::size_t>(status.st_size));
        });
        break;
      }
      default: {
        const ssize_t got = ::pread(file.ours.get(), mine.data(), size, offset);
        ASSERT_EQ(got, ::pread(file.kernels.get(), theirs.data(), size, offset));
        ASSERT_TRUE(got <= 0 || std::equal(mine.begin(), mine.begin() + got, theirs.begin()));
      }
    }
    if (HasFailure()) break;
  }
  for (const Pair& file : files) {
    ASSERT_EQ(::fsync(file.ours.get()), 0);
    ASSERT_EQ(::fsync(file.kernels.get()), 0);
    const ssize_t got = ::pread(file.ours.get(), mine.data(), mine.size(), 0);
    ASSERT_EQ(got, ::pread(file.kernels.get(), theirs.data(), theirs.size(), 0));
    EXPECT_TRUE(std::equal(mine.begin(), mine.begin() + got, theirs.begin()));
    struct stat ours{}, kernels{};
    ::fstat(file.ours.get(), &ours);
    ::fstat(file.kernels.get(), &kernels);
    // The data takes the same room; the trees may differ by a node.
    EXPECT_LE(std::abs(ours.st_blocks - kernels.st_blocks), 2 * 4096 / 512);
  }
  files = {};
  if (!HasFailure()) unmount_both();
}

INSTANTIATE_TEST_SUITE_P(Formats, RangeSideBySide,
                         ::testing::Values(Command{"-b", "4096"}, Command{"-t", "ext2", "-b", "4096"},
                                           Command{"-b", "4096", "-O", "bigalloc", "-C", "16384"}));

TEST_F(Range, WhatIsNotWrittenYetIsDataAllTheSame) {
  const auto image = make_image();
  mount_or_fail(image);
  UniqueFd file(::open((mount_point() / "file").c_str(), O_RDWR | O_CREAT, 0600));
  const std::string text(100'000, 'x');
  ASSERT_EQ(::pwrite(file.get(), text.data(), text.size(), 1 << 20), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(outcome(::lseek(file.get(), 0, SEEK_DATA)), 1 << 20);
  EXPECT_EQ(outcome(::lseek(file.get(), 1 << 20, SEEK_HOLE)), (1 << 20) + 100'000);
  ASSERT_EQ(::pwrite(file.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  // Also for many at once, more than there are workers.
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 40; ++thread) {
    threads.emplace_back([&, thread] {
      const auto path = mount_point() / ("file" + std::to_string(thread));
      const UniqueFd mine(::open(path.c_str(), O_RDWR | O_CREAT, 0600));
      for (int i = 0; i < 8; ++i) {
        const off_t offset = i * 300'000;
        EXPECT_EQ(::pwrite(mine.get(), text.data(), text.size(), offset), static_cast<ssize_t>(text.size()));
        EXPECT_EQ(outcome(::lseek(mine.get(), offset, SEEK_HOLE)), offset + 100'000);
        EXPECT_EQ(outcome(::lseek(mine.get(), offset, SEEK_DATA)), offset);
      }
    });
  }
  threads.clear();
  file.reset();
  unmount_and_check(image);
}

TEST_F(Range, HolesOfFilesThatTheKernelWroteAreFound) {
  const auto image = make_image("64M", {"-b", "1024"});
  kernel_mount(image);
  {
    const UniqueFd file(::open((mount_point() / "file").c_str(), O_RDWR | O_CREAT, 0600));
    for (int i = 0; i < 500; ++i) ASSERT_EQ(::pwrite(file.get(), "here", 4, i * 10'240), 4);
    ASSERT_EQ(::ftruncate(file.get(), 6 << 20), 0);
    ASSERT_EQ(::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 5'500'000, 100'000), 0);
  }
  ASSERT_EQ(unmount().status, 0);
  mount_or_fail(image);
  {
    const UniqueFd file(::open((mount_point() / "file").c_str(), O_RDWR));
    for (off_t i = 0; i < 500; ++i) {
      ASSERT_EQ(outcome(::lseek(file.get(), i * 10'240, SEEK_HOLE)), i * 10'240 + 1024);
      ASSERT_EQ(outcome(::lseek(file.get(), i * 10'240 + 1024, SEEK_DATA)),
                i < 499 ? (i + 1) * 10'240 : -ENXIO);
    }
    EXPECT_EQ(outcome(::lseek(file.get(), 6 << 20, SEEK_HOLE)), -ENXIO);
    EXPECT_EQ(outcome(::lseek(file.get(), (6 << 20) - 1, SEEK_HOLE)), (6 << 20) - 1);
  }
  const auto copied = run({"cp", "--sparse=auto", mount_point() / "file", mount_point() / "copy"});
  EXPECT_EQ(copied.status, 0) << copied.output;
  EXPECT_TRUE(contents_of(mount_point() / "copy") == contents_of(mount_point() / "file"));
  unmount_and_check(image);
}

// A block that was written in small pieces, freed, and is another file's now: nothing of the old content may
// come over the new, however it was written.
TEST_F(Range, FreedBlocksNeverComeBack) {
  const auto image = make_image("24M", {"-b", "1024"});
  mount_or_fail(image);
  auto* const aligned = static_cast<char*>(std::aligned_alloc(4096, 1 << 20));
  const std::unique_ptr<char, decltype(&std::free)> owner(aligned, &std::free);
  std::mt19937 random(5);
  constexpr std::size_t kSize = 6 << 20;
  for (int round = 0; round < 6; ++round) {
    {
      const UniqueFd old(::open((mount_point() / "old").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_SYNC, 0600));
      ASSERT_EQ(::fallocate(old.get(), 0, 0, kSize), 0);
      for (int i = 0; i < 300; ++i) {
        const std::string piece(1 + random() % 3000, 'o');
        ASSERT_GT(::pwrite(old.get(), piece.data(), piece.size(), static_cast<off_t>(random() % kSize)), 0);
      }
    }
    if (round % 2 == 0)
      fs::remove(mount_point() / "old");
    else
      ASSERT_EQ(::truncate((mount_point() / "old").c_str(), 0), 0);
    const char letter = static_cast<char>('a' + round);
    const auto path = mount_point() / "new";
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600));
    std::memset(aligned, letter, 1 << 20);
    for (std::size_t at = 0; at < kSize; at += 1 << 20)
      ASSERT_EQ(::pwrite(file.get(), aligned, 1 << 20, static_cast<off_t>(at)), 1 << 20);
    for (int i = 0; i < 50; ++i) fs::create_directory(mount_point() / ("d" + std::to_string(round * 50 + i)));
    ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
    write_file("/proc/sys/vm/drop_caches", "3");
    ASSERT_EQ(contents_of(path), std::string(kSize, letter)) << "round " << round;
  }
  unmount_and_check(image);
  kernel_mount(image);
  EXPECT_EQ(contents_of(mount_point() / "new"), std::string(kSize, 'f'));
}

// Bytes of the disk.
off_t room_of(const fs::path& image) {
  struct stat status{};
  return ::stat(image.c_str(), &status) == 0 ? status.st_blocks * 512 : 0;
}

// A file that stays, and one of 30 MiB that is written and then removed. The room that the image had with
// both.
class RemovedFile : public Range {
 protected:
  off_t write_and_remove(const fs::path& image) {
    run({"sh", "-c",
         "yes | dd of='" + (mount_point() / "file").string() + "' bs=1M count=30 iflag=fullblock"});
    write_file(mount_point() / "kept", std::string(300'000, 'k'));
    EXPECT_EQ(run({"sync", "-f", mount_point()}).status, 0);
    const off_t full = room_of(image);
    EXPECT_GT(full, 30 << 20);
    fs::remove(mount_point() / "file");
    return full;
  }
};

TEST_F(RemovedFile, FstrimGivesRoomBackToTheImage) {
  const auto image = make_image("64M");
  mount_or_fail(image);
  const auto room = [&] { return room_of(image); };
  const auto full = write_and_remove(image);
  const auto trimmed = run({"fstrim", "-v", mount_point()});
  ASSERT_EQ(trimmed.status, 0) << trimmed.output;
  EXPECT_LT(room(), full - (29 << 20));
  // Nothing is left to do.
  EXPECT_THAT(run({"fstrim", "-v", mount_point()}).output, ::testing::HasSubstr("0 B (0 bytes)"));
  write_file("/proc/sys/vm/drop_caches", "3");
  EXPECT_EQ(contents_of(mount_point() / "kept"), std::string(300'000, 'k'));
  unmount_and_check(image);
}

TEST_F(RemovedFile, WithDiscardWhatIsRemovedGoesFromTheImage) {
  const auto image = make_image("64M");
  mount_or_fail(image, "discard");
  const auto room = [&] { return room_of(image); };
  const auto full = write_and_remove(image);
  // The kernel forgets the inode when it likes, but soon.
  for (int tried = 0; tried < 200 && room() >= full - (29 << 20); ++tried) {
    ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_LT(room(), full - (29 << 20));
  unmount_and_check(image);
  mount_or_fail(image);
  EXPECT_EQ(contents_of(mount_point() / "kept"), std::string(300'000, 'k'));
  unmount_and_check(image);
}

TEST_F(Range, SetuidGoesWhenAnotherUserAllocates) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto path = mount_point() / "file";
  write_file(path, "text");
  for (const bool as_root : {true, false}) {
    ASSERT_EQ(::chmod(path.c_str(), 04777), 0);
    const auto done =
        as_root ? run({"fallocate", "-l", "10000", path})
                : run({"setpriv", "--reuid=65534", "--clear-groups", "fallocate", "-l", "20000", path});
    ASSERT_EQ(done.status, 0) << done.output;
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, as_root ? 04777U : 0777U);
  }
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
