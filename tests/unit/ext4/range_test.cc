// SPDX-License-Identifier: GPL-2.0-or-later
// fallocate, SEEK_DATA and SEEK_HOLE, copy_range and trim, against copies in memory and e2fsck.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <random>
#include <thread>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr auto kKeepPrivileges = AttributeChanges::Privileges::kKeep;
constexpr auto kMove = EndOfFile::kMayMove;
constexpr auto kStay = EndOfFile::kKeep;

Result<void> change(TestVolume& volume, InodeNumber file, RangeChange change, std::uint64_t offset,
                    std::uint64_t length, EndOfFile end = kStay) {
  return volume.fs().change_range(file, change, {offset, length}, end, kKeepPrivileges);
}

struct Form {
  const char* name;
  const char* options;
  bool extents;
  std::size_t unit;  // a cluster, in bytes
};

class RangeModel : public testing::TestWithParam<Form> {
 public:
  static constexpr std::size_t kLargest = 600'000;

  struct File {
    InodeNumber inode;
    std::string bytes;
  };

  void check_seek(const File& file, std::uint64_t offset) {
    const auto& bytes = file.bytes;
    const auto data = volume_.fs().seek(file.inode, offset, SeekTarget::kData);
    const auto hole = volume_.fs().seek(file.inode, offset, SeekTarget::kHole);
    if (offset >= bytes.size()) {
      EXPECT_EQ(data.error(), Errno(ENXIO));
      EXPECT_EQ(hole.error(), Errno(ENXIO));
      return;
    }
    ASSERT_TRUE(hole);
    EXPECT_GE(*hole, offset);
    EXPECT_LE(*hole, bytes.size());
    // Data is where it is said to be, or was never anything but zeros.
    const std::uint64_t next = data ? *data : bytes.size();
    if (!data) {
      EXPECT_EQ(data.error(), Errno(ENXIO));
    }
    ASSERT_LE(next, bytes.size());
    EXPECT_EQ(bytes.find_first_not_of('\0', offset), bytes.find_first_not_of('\0', next));
    if (next == offset)
      EXPECT_GT(*hole, offset);
    else
      EXPECT_EQ(*hole, offset);
  }

  void change_model(File& file, RangeChange what, std::size_t offset, std::size_t size, EndOfFile end) {
    if (end == kMove && file.bytes.size() < offset + size) file.bytes.resize(offset + size, '\0');
    if (what == RangeChange::kAllocate || offset >= file.bytes.size()) return;
    size = std::min(size, file.bytes.size() - offset);
    file.bytes.replace(offset, size, size, '\0');
  }

  // Of any length and place: most of them are refused.
  void shift(File& file, RangeChange what, std::size_t offset, std::size_t size) {
    auto& bytes = file.bytes;
    const bool is_insert = what == RangeChange::kInsert;
    if (is_insert && bytes.size() + size > kLargest) return;
    const auto done = change(volume_, file.inode, what, offset, size);
    const bool is_aligned = offset % GetParam().unit == 0 && size % GetParam().unit == 0;
    const bool is_inside = is_insert ? offset < bytes.size() : offset + size < bytes.size();
    if (!GetParam().extents) {
      ASSERT_EQ(done.error(), Errno(EOPNOTSUPP));
    } else if (!is_aligned || !is_inside) {
      ASSERT_EQ(done.error(), Errno(EINVAL));
    } else {
      ASSERT_TRUE(done) << done.error().message();
      ++shifts_;
      if (is_insert)
        bytes.insert(offset, size, '\0');
      else
        bytes.erase(offset, size);
    }
  }

  void step(std::mt19937& random) {
    File& file = files_[random() % files_.size()];
    const unsigned unit = random() % 3 == 0 ? 1024U << (random() % 4) : 1U;
    const std::size_t offset = random() % kLargest / unit * unit;
    std::size_t size = 1 + random() % (random() % 8 == 0 ? kLargest : 12'000);
    size = std::min(std::max<std::size_t>(size / unit * unit, 1), kLargest - offset);
    switch (random() % 12) {
      case 10:
      case 11: {
        const std::size_t cluster = random() % 4 == 0 ? unit : GetParam().unit;
        shift(file, random() % 2 == 0 ? RangeChange::kCollapse : RangeChange::kInsert,
              offset / cluster * cluster, std::max<std::size_t>(size / cluster * cluster, cluster));
        break;
      }
      case 0:
      case 1:
      case 2: {
        const std::string text(std::min<std::size_t>(size, 50'000), static_cast<char>('a' + random() % 26));
        volume_.write(file.inode, offset, text);
        if (file.bytes.size() < offset + text.size()) file.bytes.resize(offset + text.size(), '\0');
        file.bytes.replace(offset, text.size(), text);
        break;
      }
      case 3: {
        const std::size_t length = random() % 4 == 0 ? file.bytes.size() : offset;
        ASSERT_TRUE(volume_.fs().set_attributes(file.inode, {.size = length}));
        file.bytes.resize(length, '\0');
        break;
      }
      case 4:
      case 5:
      case 6: {
        static constexpr std::array kChanges{RangeChange::kAllocate, RangeChange::kPunchHole,
                                             RangeChange::kZero};
        const auto what = kChanges[random() % kChanges.size()];
        const auto end = what == RangeChange::kPunchHole || random() % 2 == 0 ? kStay : kMove;
        const auto done = change(volume_, file.inode, what, offset, size, end);
        if (what != RangeChange::kPunchHole && !GetParam().extents) {
          ASSERT_EQ(done.error(), Errno(EOPNOTSUPP));
          break;
        }
        ASSERT_TRUE(done) << done.error().message();
        change_model(file, what, offset, size, end);
        break;
      }
      case 7: {
        File& source = files_[random() % files_.size()];
        const std::size_t from = random() % kLargest;
        size = std::min(size, kLargest - from);
        const auto copied =
            volume_.fs().copy_range(source.inode, from, file.inode, offset, size, kKeepPrivileges);
        if (source.inode == file.inode && from < offset + size && offset < from + size) {
          ASSERT_EQ(copied.error(), Errno(EINVAL));
          break;
        }
        ASSERT_TRUE(copied) << copied.error().message();
        const std::size_t there = from < source.bytes.size() ? source.bytes.size() - from : 0;
        ASSERT_EQ(*copied, std::min(size, there));
        if (*copied == 0) break;
        const std::string text = source.bytes.substr(from, *copied);
        if (file.bytes.size() < offset + text.size()) file.bytes.resize(offset + text.size(), '\0');
        file.bytes.replace(offset, text.size(), text);
        break;
      }
      case 8:
        check_seek(file, offset);
        break;
      default: {
        const std::string wanted = offset < file.bytes.size() ? file.bytes.substr(offset, size) : "";
        ASSERT_TRUE(volume_.read(file.inode, offset, size) == wanted) << "offset " << offset;
      }
    }
    ASSERT_EQ(volume_.fs().attributes(file.inode)->size, file.bytes.size());
  }

  void expect_contents() {
    for (const File& file : files_) {
      ASSERT_TRUE(volume_.read(file.inode, 0, kLargest + 1) == file.bytes);
      for (std::uint64_t offset = 0; offset < file.bytes.size() + 5000; offset += 1000) {
        check_seek(file, offset);
        if (HasFatalFailure()) return;
      }
    }
  }

  TestVolume volume_{GetParam().options, "24M"};
  std::vector<File> files_;
  int shifts_ = 0;
};

TEST_P(RangeModel, EqualsTheCopyInMemory) {
  volume_.mount();
  const auto before = volume_.fs().statistics()->free_blocks;
  for (int i = 0; i < 3; ++i)
    files_.push_back({volume_.make_file(kRootInode, fmt::format("file {}", i)), std::string()});
  for (unsigned seed = 1; seed <= 6; ++seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 250; ++i) {
      step(random);
      ASSERT_FALSE(HasFailure()) << "seed " << seed << ", step " << i;
    }
    expect_contents();
    volume_.unmount();
    ASSERT_EQ(volume_.check(), "") << "seed " << seed;
    volume_.mount();
    expect_contents();
    ASSERT_FALSE(HasFailure()) << "after a new mount, seed " << seed;
  }
  EXPECT_EQ(shifts_ > 20, GetParam().extents) << shifts_;
  for (const File& file : files_) ASSERT_TRUE(volume_.fs().set_attributes(file.inode, {.size = 0}));
  EXPECT_EQ(volume_.fs().statistics()->free_blocks, before);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Forms, RangeModel,
    testing::Values(Form{"Blocks4k", "-t ext4 -b 4096", true, 4096},
                    Form{"Blocks1k", "-t ext4 -b 1024", true, 1024},
                    Form{"NoChecksums", "-t ext4 -b 2048 -O ^metadata_csum,^64bit", true, 2048},
                    Form{"Bigalloc", "-t ext4 -b 1024 -O bigalloc,^resize_inode -C 16384", true, 16384},
                    Form{"Bigalloc4k", "-t ext4 -b 4096 -O bigalloc,^resize_inode -C 65536", true, 65536},
                    Form{"Ext2", "-t ext2 -b 1024", false, 1024},
                    Form{"Ext3", "-t ext3 -b 4096", false, 4096},
                    Form{"InlineData", "-t ext4 -b 1024 -I 256 -O inline_data", true, 1024}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Range, AllocationTakesRoomAndReadsAsZeros) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  ASSERT_TRUE(change(volume, file, RangeChange::kAllocate, 0, 20 << 20, kStay));
  EXPECT_EQ(fs.attributes(file)->size, 0U);
  EXPECT_EQ(fs.attributes(file)->sectors, (20U << 20) / 512);
  ASSERT_TRUE(change(volume, file, RangeChange::kAllocate, 0, (20 << 20) - 100, kMove));
  EXPECT_EQ(fs.attributes(file)->size, (20U << 20) - 100);
  EXPECT_EQ(fs.attributes(file)->sectors, (20U << 20) / 512);
  EXPECT_EQ(volume.read(file, 1'000'000, 5000), std::string(5000, '\0'));
  EXPECT_EQ(fs.seek(file, 0, SeekTarget::kData).error(), Errno(ENXIO));
  EXPECT_EQ(fs.seek(file, 0, SeekTarget::kHole).value(), 0U);
  volume.write(file, 10'000'100, "here");
  EXPECT_EQ(fs.seek(file, 0, SeekTarget::kData).value(), 10'000'100U / 4096 * 4096);
  EXPECT_EQ(volume.read(file, 10'000'098, 8), std::string("\0\0here\0\0", 8));
  EXPECT_EQ(fs.attributes(file)->sectors, (20U << 20) / 512);
  volume.unmount();
  EXPECT_EQ(volume.check(), "");
  const auto extents = volume.debugfs("dump_extents /file");
  EXPECT_NE(extents.find("Uninit"), std::string::npos) << extents;
}

// What becomes written joins what was written before it: no extent for each write.
TEST(Range, SequentialWritesIntoAllocatedRoomLeaveFewExtents) {
  TestVolume volume;
  volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  ASSERT_TRUE(change(volume, file, RangeChange::kAllocate, 0, 8 << 20, kStay));
  for (std::uint64_t offset = 0; offset < 4 << 20; offset += 8192)
    volume.write(file, offset, std::string(8192, 'x'));
  for (std::uint64_t offset = 8 << 20; offset > (6 << 20); offset -= 8192)
    volume.write(file, offset - 8192, std::string(8192, 'y'));
  EXPECT_EQ(volume.unmount_and_check(), "");
  const auto extents = volume.debugfs("dump_extents -n /file");
  EXPECT_LE(std::count(extents.begin(), extents.end(), '\n'), 6) << extents;
}

TEST(Range, ManyHolesMakeADeepTreeAndFillingThemShrinksIt) {
  for (const char* options : {"-t ext4 -b 1024", "-t ext3 -b 1024", "-t ext4 -b 4096"}) {
    TestVolume volume(options);
    auto& fs = volume.mount();
    const auto before = fs.statistics()->free_blocks;
    const auto file = volume.make_file(kRootInode, "file");
    const std::string content(12 << 20, 'c');
    volume.write(file, 0, content);
    std::vector<std::uint64_t> places;
    for (std::uint64_t place = 0; place < content.size(); place += 8192) places.push_back(place);
    std::mt19937 random(3);
    std::shuffle(places.begin(), places.end(), random);
    for (const auto place : places) ASSERT_TRUE(change(volume, file, RangeChange::kPunchHole, place, 4096));
    for (const auto place : places) {
      ASSERT_EQ(fs.seek(file, place, SeekTarget::kHole).value(), place);
      ASSERT_EQ(fs.seek(file, place, SeekTarget::kData).value(), place + 4096);
    }
    volume.unmount();
    ASSERT_EQ(volume.check(), "") << options;
    volume.mount();
    ASSERT_TRUE(change(volume, file, RangeChange::kPunchHole, 0, content.size()));
    EXPECT_EQ(volume.fs().attributes(file)->sectors, 0U) << options;
    EXPECT_EQ(volume.fs().statistics()->free_blocks, before) << options;
    EXPECT_EQ(volume.unmount_and_check(), "") << options;
  }
}

TEST(Range, AFullVolumeKeepsWhatItAllocatedAndStaysWhole) {
  TestVolume volume("-t ext4 -b 1024", "16M");
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  EXPECT_EQ(change(volume, file, RangeChange::kAllocate, 0, 1 << 30, kMove).error(), Errno(ENOSPC));
  EXPECT_EQ(fs.attributes(file)->size, 0U);
  EXPECT_GT(fs.attributes(file)->sectors, 8192U);
  // A write into what is allocated needs no room but for the tree, and that is kept back.
  for (std::uint64_t place = 0; place < 6 << 20; place += 5000) volume.write(file, place, "x");
  // So does a hole in what is full.
  const auto other = volume.make_file(kRootInode, "other");
  EXPECT_EQ(fs.write(other, 0, std::as_bytes(std::span("x")), kKeepPrivileges).error(), Errno(ENOSPC));
  for (std::uint64_t place = 1 << 20; place < 5 << 20; place += 10'000)
    ASSERT_TRUE(change(volume, file, RangeChange::kPunchHole, place, 4096));
  EXPECT_TRUE(fs.write(other, 0, std::as_bytes(std::span("x")), kKeepPrivileges));
  // A truncate to its own size gives back what lies behind it.
  const auto size = fs.attributes(file)->size;
  const auto full = fs.statistics()->free_blocks;
  ASSERT_TRUE(fs.set_attributes(file, {.size = size}));
  EXPECT_GT(fs.statistics()->free_blocks, full + 4000);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Range, OddRequestsAreRefused) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  volume.write(file, 0, std::string(10'000, 'x'));
  EXPECT_EQ(change(volume, file, RangeChange::kAllocate, 0, 0).error(), Errno(EINVAL));
  EXPECT_EQ(change(volume, file, RangeChange::kAllocate, INT64_MAX, 1).error(), Errno(EFBIG));
  EXPECT_EQ(change(volume, file, RangeChange::kAllocate, std::uint64_t{1} << 44, 1).error(), Errno(EFBIG));
  EXPECT_EQ(change(volume, kRootInode, RangeChange::kAllocate, 0, 4096).error(), Errno(EISDIR));
  EXPECT_EQ(fs.copy_range(file, 0, file, 100, 5000, kKeepPrivileges).error(), Errno(EINVAL));
  EXPECT_EQ(fs.copy_range(file, 20'000, file, 0, 5000, kKeepPrivileges).value(), 0U);
  EXPECT_EQ(fs.copy_range(kRootInode, 0, file, 0, 5000, kKeepPrivileges).error(), Errno(EISDIR));
  EXPECT_EQ(volume.read(file, 0, 10'000), std::string(10'000, 'x'));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Range, ProtectedFilesAreNotChanged) {
  TestVolume volume;
  volume.mount();
  for (const char* name : {"immutable", "append", "source"})
    volume.write(volume.make_file(kRootInode, name), 0, std::string(9000, 'x'));
  volume.unmount();
  ASSERT_EQ(run("debugfs -w -R 'set_inode_field immutable flags 0x80010' " + volume.image().string()).status,
            0);
  ASSERT_EQ(run("debugfs -w -R 'set_inode_field append flags 0x80020' " + volume.image().string()).status, 0);
  auto& fs = volume.mount();
  const auto immutable = fs.lookup(kRootInode, "immutable")->inode;
  const auto append = fs.lookup(kRootInode, "append")->inode;
  const auto source = fs.lookup(kRootInode, "source")->inode;
  for (const auto what : {RangeChange::kAllocate, RangeChange::kPunchHole, RangeChange::kZero})
    EXPECT_EQ(change(volume, immutable, what, 0, 4096).error(), Errno(EPERM));
  EXPECT_TRUE(change(volume, append, RangeChange::kAllocate, 0, 100'000));
  for (const auto what : {RangeChange::kPunchHole, RangeChange::kZero})
    EXPECT_EQ(change(volume, append, what, 0, 4096).error(), Errno(EPERM));
  for (const auto target : {immutable, append})
    EXPECT_EQ(fs.copy_range(source, 0, target, 0, 100, kKeepPrivileges).error(), Errno(EPERM));
  EXPECT_EQ(fs.copy_range(immutable, 0, source, 100, 100, kKeepPrivileges).value(), 100U);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Range, PrivilegesGoWhereTheCallerSaysSo) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto source = volume.make_file(kRootInode, "source");
  volume.write(source, 0, "text");
  const auto file = volume.make_file(kRootInode, "file", S_IFREG | 06755);
  ASSERT_TRUE(fs.set_attributes(file, {.modified = Timestamp{1, 0}}));
  ASSERT_TRUE(change(volume, file, RangeChange::kAllocate, 0, 4096));
  EXPECT_EQ(fs.attributes(file)->mode, S_IFREG | 06755U);
  EXPECT_GT(fs.attributes(file)->modified.seconds, 1);
  ASSERT_TRUE(
      fs.change_range(file, RangeChange::kAllocate, {0, 4096}, kStay, AttributeChanges::Privileges::kClear));
  EXPECT_EQ(fs.attributes(file)->mode, S_IFREG | 0755U);
  ASSERT_TRUE(fs.set_attributes(file, {.permissions = 06755}));
  ASSERT_TRUE(fs.copy_range(source, 0, file, 0, 4, AttributeChanges::Privileges::kClear));
  EXPECT_EQ(fs.attributes(file)->mode, S_IFREG | 0755U);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Range, CopiesInOppositeDirectionsGoOn) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto one = volume.make_file(kRootInode, "one");
  const auto two = volume.make_file(kRootInode, "two");
  constexpr std::size_t kSize = 3 << 20;
  volume.write(one, 0, std::string(kSize, '1'));
  volume.write(two, 0, std::string(kSize, '2'));
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < 10; ++i) {
          const auto copied = thread % 2 == 0 ? fs.copy_range(one, 0, two, 0, kSize, kKeepPrivileges)
                                              : fs.copy_range(two, 0, one, 0, kSize, kKeepPrivileges);
          ASSERT_TRUE(copied);
          EXPECT_EQ(*copied, kSize);
          if (thread == 3) {
            ASSERT_TRUE(change(volume, one, RangeChange::kZero, kSize, 100'000));
          }
        }
      });
    }
  }
  EXPECT_EQ(volume.read(one, 0, kSize).find_first_not_of("12"), std::string::npos);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Range, ManyThreadsAllocatePunchAndWriteSideBySide) {
  TestVolume volume("-t ext4 -b 1024", "64M");
  auto& fs = volume.mount();
  std::vector<InodeNumber> files;
  for (int i = 0; i < 3; ++i) files.push_back(volume.make_file(kRootInode, fmt::format("file {}", i)));
  {
    std::vector<std::jthread> threads;
    for (unsigned thread = 0; thread < 6; ++thread) {
      threads.emplace_back([&, thread] {
        std::mt19937 random(thread);
        const std::string text(30'000, static_cast<char>('a' + thread));
        for (int i = 0; i < 150; ++i) {
          const auto file = files[random() % files.size()];
          const std::uint64_t offset = random() % 2'000'000;
          Result<void> done;
          switch (random() % 5) {
            case 0:
              done = change(volume, file, RangeChange::kAllocate, offset, 100'000);
              break;
            case 1:
              done = change(volume, file, RangeChange::kPunchHole, offset, 60'000);
              break;
            case 2:
              done = change(volume, file, RangeChange::kZero, offset, 60'000, kMove);
              break;
            case 3:
              EXPECT_TRUE(fs.trim({0, UINT64_MAX}, 0));
              break;
            default:
              if (const auto written =
                      fs.write(file, offset, std::as_bytes(std::span(text)), kKeepPrivileges);
                  !written)
                done = fail(written.error());
          }
          EXPECT_TRUE(done) << done.error().message();
        }
      });
    }
  }
  EXPECT_EQ(volume.unmount_and_check(), "");
}

std::uint64_t room_of(const std::filesystem::path& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
}

TEST(Trim, GivesFreedRoomBackOnceAndKeepsWhatIsInUse) {
  for (const char* options : {"-t ext4 -b 4096", "-t ext4 -b 1024",
                              "-t ext4 -b 1024 -O bigalloc,^resize_inode -C 16384", "-t ext2"}) {
    TestVolume volume(options);
    auto& fs = volume.mount();
    const auto kept = volume.make_file(kRootInode, "kept");
    const auto gone = volume.make_file(kRootInode, "gone");
    const std::string mark(64 << 10, 'k');
    for (std::uint64_t i = 0; i < 160; ++i) {
      volume.write(kept, i * mark.size() / 4, mark.substr(0, mark.size() / 4));
      volume.write(gone, i * mark.size(), mark);
    }
    ASSERT_TRUE(fs.trim({0, UINT64_MAX}, 0));
    ASSERT_TRUE(fs.sync());
    const auto full = room_of(volume.image());
    EXPECT_EQ(fs.trim({0, UINT64_MAX}, 0).value(), 0U) << options;
    ASSERT_TRUE(fs.unlink(kRootInode, "gone"));
    fs.forget(gone, 1);
    const auto trimmed = fs.trim({0, UINT64_MAX}, 0);
    ASSERT_TRUE(trimmed);
    // Whole groups, so all that is free in them; no more than there is.
    EXPECT_GE(*trimmed, 10U << 20) << options;
    EXPECT_LE(*trimmed, fs.statistics()->free_blocks * fs.block_size()) << options;
    EXPECT_LE(room_of(volume.image()) + (9U << 20), full) << options;
    EXPECT_EQ(fs.trim({0, UINT64_MAX}, 0).value(), 0U) << options;
    for (std::uint64_t i = 0; i < 160; ++i)
      ASSERT_EQ(volume.read(kept, i * mark.size() / 4, 100), mark.substr(0, 100));
    EXPECT_EQ(volume.unmount_and_check(), "") << options;
  }
}

// Through BLKDISCARD, where the others punch holes into their image.
TEST(Trim, ReachesALoopDevicesFile) {
  if (::geteuid() != 0) GTEST_SKIP() << "loop devices need root";
  TestVolume volume("-t ext4 -b 1024", "64M");
  const auto attached = run("losetup -f --show " + volume.image().string());
  if (attached.status != 0) GTEST_SKIP() << "no loop device: " << attached.output;
  const auto name = attached.output.substr(0, attached.output.find('\n'));
  {
    UniqueFd fd(::open(name.c_str(), O_RDWR | O_CLOEXEC));
    UniqueFd direct(::open(name.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT));
    auto device = cache::BlockDevice::adopt(std::move(fd), std::move(direct), cache::Access::kReadWrite);
    ASSERT_TRUE(device);
    auto mounted = FileSystem::mount(std::move(*device), {}, volume.events);
    ASSERT_TRUE(mounted) << mounted.error().message;
    auto& fs = **mounted;
    const auto file = fs.make(kRootInode, "file", {.mode = S_IFREG | 0644})->inode;
    const std::string text(20 << 20, 't');
    ASSERT_TRUE(fs.write(file, 0, std::as_bytes(std::span(text)), kKeepPrivileges));
    ASSERT_TRUE(fs.sync());
    const auto full = room_of(volume.image());
    ASSERT_TRUE(fs.unlink(kRootInode, "file"));
    fs.forget(file, 1);
    EXPECT_GE(fs.trim({0, UINT64_MAX}, 0).value(), text.size());
    EXPECT_LE(room_of(volume.image()) + (19 << 20), full);
    EXPECT_TRUE(fs.unmount());
  }
  EXPECT_EQ(run("losetup -d " + name).status, 0);
  EXPECT_EQ(volume.check(), "");
}

TEST(Trim, RefusesRangesThatAreNone) {
  TestVolume volume;
  auto& fs = volume.mount();
  EXPECT_EQ(fs.trim({0, 100}, 0).error(), Errno(EINVAL));
  EXPECT_EQ(fs.trim({std::uint64_t{1} << 40, 1 << 20}, 0).error(), Errno(EINVAL));
  EXPECT_EQ(fs.trim({0, UINT64_MAX}, std::uint64_t{1} << 40).error(), Errno(EINVAL));
  // A part only: the group is not done with.
  const auto part = fs.trim({8 << 20, 1 << 20}, 0).value();
  EXPECT_GT(part, 0U);
  EXPECT_LE(part, 1U << 20);
  EXPECT_EQ(fs.trim({8 << 20, 1 << 20}, 0).value(), part);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Trim, AReadOnlyVolumeIsLeftAlone) {
  TestVolume volume;
  auto& fs = volume.mount({.access = cache::Access::kReadOnly});
  EXPECT_EQ(fs.trim({0, UINT64_MAX}, 0).error(), Errno(EROFS));
}

}  // namespace
}  // namespace fuse4fs::ext4
