// SPDX-License-Identifier: GPL-2.0-or-later
// O_DIRECT beside the kernel's ext4, on volumes whose free blocks hold something already: the same answers,
// the same bytes, and never what was there before.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>

#include "base/unique_fd.h"
#include "tests/mount/side_by_side.h"

namespace fuse4fs::test {
namespace {

constexpr std::size_t kLargest = 1 << 20;
// What O_DIRECT of the kernel's ext4 wants of offsets, lengths and memory: a sector of the loop device.
constexpr std::size_t kSector = 512;
constexpr std::string_view kOld = "SECRET";

struct Memory {
  std::unique_ptr<char, decltype(&std::free)> whole{
      static_cast<char*>(std::aligned_alloc(4096, 2 * kLargest)), &std::free};
  char* at(std::size_t offset) const { return whole.get() + offset; }
};

class DirectSideBySide : public SideBySide, public ::testing::WithParamInterface<Command> {
 protected:
  struct File {
    UniqueFd buffered, direct;
  };
  static File open(const std::filesystem::path& root) {
    const auto path = root / "file";
    return {UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT, 0644)),
            UniqueFd(::open(path.c_str(), O_RDWR | O_DIRECT))};
  }
  // Free blocks hold the old content from here on.
  void mount_used() {
    mount_both("48M", GetParam(),
               "yes SECRET | dd of=old bs=1M count=30 iflag=fullblock 2>/dev/null; sync -f .; rm old");
    ours_ = open(ours());
    kernels_ = open(kernels());
    ASSERT_TRUE(ours_.buffered && ours_.direct && kernels_.buffered && kernels_.direct);
  }
  static bool has_extents() { return std::ranges::find(GetParam(), "ext3") == GetParam().end(); }
  // An answer, or an errno below zero.
  template <class Call>
  static long answer(const Call& call) {
    const long returned = call();
    return returned < 0 ? -errno : returned;
  }
  void expect_same_content() {
    std::string mine(2 * kLargest, '?'), theirs(2 * kLargest, '?');
    const ssize_t size = ::pread(ours_.buffered.get(), mine.data(), mine.size(), 0);
    ASSERT_EQ(size, ::pread(kernels_.buffered.get(), theirs.data(), theirs.size(), 0));
    mine.resize(static_cast<std::size_t>(size));
    theirs.resize(mine.size());
    const auto [here, there] = std::mismatch(mine.begin(), mine.end(), theirs.begin());
    ASSERT_EQ(here, mine.end()) << "byte " << here - mine.begin() << " of " << size;
    ASSERT_EQ(mine.find(kOld), std::string::npos);
  }

  File ours_, kernels_;
};

TEST_P(DirectSideBySide, AlignedOrNotTheBytesAreTheSame) {
  mount_used();
  constexpr unsigned kSeed = 11;
  std::mt19937 random(kSeed);
  const Memory memory, other;
  const auto below = [&](std::size_t limit) { return random() % limit; };
  for (int step = 0; step < 400 && !HasFailure(); ++step) {
    SCOPED_TRACE(testing::Message() << "seed " << kSeed << ", step " << step);
    // To a block, a sector, or a byte.
    const std::size_t unit = std::array<std::size_t, 3>{4096, kSector, 1}[below(3)];
    const std::size_t offset = below(kLargest) / unit * unit;
    const std::size_t size = std::max(unit, below(below(6) == 0 ? 200'000 : 12'000) / unit * unit);
    const std::size_t skew = unit == 1 ? below(kSector) : unit == kSector ? kSector : 0;
    const bool is_aligned = offset % kSector == 0 && size % kSector == 0 && skew % kSector == 0;
    const auto at = static_cast<off_t>(offset);
    switch (below(10)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        std::memset(memory.at(skew), static_cast<int>('a' + below(26)), size);
        const auto write = [&](int file) { return ::pwrite(file, memory.at(skew), size, at); };
        ASSERT_EQ(answer([&] { return write(ours_.direct.get()); }), static_cast<long>(size));
        const long kernels = answer([&] { return write(kernels_.direct.get()); });
        if (is_aligned) {
          ASSERT_EQ(kernels, static_cast<long>(size));
        } else {
          // Here it is as good as any other; there it goes through the page cache, in a hole of a file
          // without extents.
          if (has_extents() || kernels < 0) {
            ASSERT_EQ(kernels, -EINVAL);
            ASSERT_EQ(write(kernels_.buffered.get()), static_cast<ssize_t>(size));
          }
        }
        break;
      }
      case 4: {
        const ssize_t got = ::pread(ours_.direct.get(), memory.at(skew), size, at);
        const int file = is_aligned ? kernels_.direct.get() : kernels_.buffered.get();
        ASSERT_EQ(got, ::pread(file, other.at(skew), size, at));
        ASSERT_EQ(
            std::memcmp(memory.at(skew), other.at(skew), static_cast<std::size_t>(std::max<ssize_t>(got, 0))),
            0);
        break;
      }
      case 5: {
        std::memset(memory.at(0), 'B', size);
        ASSERT_EQ(::pwrite(ours_.buffered.get(), memory.at(0), size, at),
                  ::pwrite(kernels_.buffered.get(), memory.at(0), size, at));
        break;
      }
      case 6: {
        const int mode = std::array{0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_ZERO_RANGE}[below(4)];
        const auto length = static_cast<off_t>(size);
        ASSERT_EQ(answer([&] { return ::fallocate(ours_.buffered.get(), mode, at, length); }),
                  answer([&] { return ::fallocate(kernels_.buffered.get(), mode, at, length); }));
        break;
      }
      case 7:
        if (below(3) != 0) break;
        ASSERT_EQ(::ftruncate(ours_.buffered.get(), at), 0);
        ASSERT_EQ(::ftruncate(kernels_.buffered.get(), at), 0);
        break;
      case 8:
        if (below(8) == 0) {
          ASSERT_EQ(::fsync(ours_.direct.get()), 0);
          write_file("/proc/sys/vm/drop_caches", "1");
        }
        break;
      default:
        expect_same_content();
    }
  }
  expect_same_content();
  write_file("/proc/sys/vm/drop_caches", "3");
  expect_same_content();
  ours_ = {};
  kernels_ = {};
  if (!HasFailure()) unmount_both();
}

// What its end, or the end of what is allocated, does to an answer.
TEST_P(DirectSideBySide, EndsAreAnsweredTheSame) {
  mount_used();
  const Memory memory;
  std::memset(memory.at(0), 'x', kLargest);
  const auto same = [&](const char* what, const auto& call) {
    EXPECT_EQ(answer([&] { return call(ours_.direct.get()); }),
              answer([&] { return call(kernels_.direct.get()); }))
        << what;
  };
  same("an empty file", [&](int file) { return ::pread(file, memory.at(0), 4096, 0); });
  same("one sector", [&](int file) { return ::pwrite(file, memory.at(0), kSector, 0); });
  same("a block with one sector in it", [&](int file) { return ::pread(file, memory.at(0), 4096, 0); });
  same("a write far behind", [&](int file) { return ::pwrite(file, memory.at(0), kSector, 100 * kSector); });
  same("over the end", [&](int file) { return ::pread(file, memory.at(0), 8192, 98 * kSector); });
  same("at the end", [&](int file) { return ::pread(file, memory.at(0), 4096, 101 * kSector); });
  same("behind it", [&](int file) { return ::pread(file, memory.at(0), 4096, kLargest); });
  same("nothing", [&](int file) { return ::pwrite(file, memory.at(0), 0, kLargest); });
  same("before the beginning", [&](int file) { return ::pwrite(file, memory.at(0), 4096, -4096); });
  same("beyond what a file can have", [&](int file) {
    return ::pwrite(file, memory.at(0), 4096, std::numeric_limits<off_t>::max() - 8191);
  });
  same("all that was said", [&](int file) { return static_cast<long>(::lseek(file, 0, SEEK_END)); });
  expect_same_content();
  same("an odd end", [&](int file) { return ::ftruncate(file, 99 * kSector + 7); });
  same("over an odd end", [&](int file) { return ::pread(file, memory.at(0), 8192, 96 * kSector); });
  std::memset(memory.at(0), 'y', kLargest);
  same("over an odd end", [&](int file) { return ::pwrite(file, memory.at(0), 8192, 96 * kSector); });
  expect_same_content();
  for (const auto& root : {ours(), kernels()}) {
    const UniqueFd appends(::open((root / "file").c_str(), O_WRONLY | O_DIRECT | O_APPEND));
    EXPECT_EQ(::write(appends.get(), memory.at(0), kSector), static_cast<ssize_t>(kSector));
  }
  expect_same_content();
  ours_ = {};
  kernels_ = {};
  unmount_both();
}

INSTANTIATE_TEST_SUITE_P(Formats, DirectSideBySide,
                         ::testing::Values(Command{"-b", "4096"}, Command{"-b", "1024"},
                                           Command{"-t", "ext3", "-b", "4096"},
                                           Command{"-O", "bigalloc", "-C", "16384"}));

}  // namespace
}  // namespace fuse4fs::test
