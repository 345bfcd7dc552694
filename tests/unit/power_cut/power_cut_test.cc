// SPDX-License-Identifier: GPL-2.0-or-later
// The power fails in the middle of our own recovery, at each of its writes, and what was not flushed is lost
// in part: the next mount recovers all the same. The same where memory ends in the middle of it.
//
// A program of its own, since pwritev(), fdatasync() and operator new are its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "server/journal/checksum.h"
#include "server/journal/format.h"
#include "tests/unit/ext4/fast_commit_area.h"
#include "tests/unit/ext4/test_volume.h"
#include "tests/unit/power_cut/refused_memory.h"

namespace {

// A device that loses its power after so many writes.
struct Power {
  struct Undo {
    off_t offset;
    std::vector<char> before;
  };
  bool recording = false;
  std::size_t writes = 0;
  std::size_t writes_left = SIZE_MAX;
  std::vector<Undo> unflushed{};
};
Power power;

}  // namespace

extern "C" ssize_t pwritev(int fd, const iovec* pieces, int count, off_t offset) {
  if (power.recording) {
    if (power.writes_left == 0) {
      errno = EIO;
      return -1;
    }
    --power.writes_left;
    ++power.writes;
    std::size_t length = 0;
    for (const iovec& piece : std::span(pieces, static_cast<std::size_t>(count))) length += piece.iov_len;
    Power::Undo undo{offset, std::vector<char>(length)};
    if (::syscall(SYS_pread64, fd, undo.before.data(), length, offset) != static_cast<long>(length)) {
      errno = EIO;
      return -1;
    }
    power.unflushed.push_back(std::move(undo));
  }
  return ::syscall(SYS_pwritev, fd, pieces, static_cast<long>(count), offset, 0L);
}

extern "C" int fdatasync(int) {
  if (power.recording) {
    if (power.writes_left == 0) {
      errno = EIO;
      return -1;
    }
    power.unflushed.clear();
  }
  return 0;
}

namespace fuse4fs::ext4 {
namespace {

namespace fs = std::filesystem;

void write_bytes(const fs::path& image, const std::string& bytes) {
  std::ofstream(image, std::ios::binary | std::ios::trunc) << bytes;
}

constexpr std::size_t kBlock = 1024;

// An empty volume whose journal makes it one with files: what debugfs wrote into a copy goes into the log.
void make_dirty(const TestVolume& volume) {
  const fs::path& image = volume.image();
  const std::string empty = volume.image_bytes();
  const auto script = image.string() + ".script";
  const auto content = image.string() + ".content";
  write_bytes(content, std::string(20'000, 'c'));
  std::ofstream(script) << "mkdir one\nmkdir one/two\nwrite " << content << " one/file\nwrite " << content
                        << " other\nsymlink link one/file\n";
  ASSERT_EQ(run("debugfs -w -f " + script + " " + image.string()).status, 0);
  const std::string full = volume.image_bytes();
  std::string list;
  std::string changed;
  // Not the superblock: it says how the volume is.
  for (std::size_t block = 2; block * kBlock < full.size(); ++block) {
    if (full.compare(block * kBlock, kBlock, empty, block * kBlock, kBlock) == 0) continue;
    list += (list.empty() ? "" : ",") + std::to_string(block);
    changed += full.substr(block * kBlock, kBlock);
  }
  write_bytes(image, empty);
  write_bytes(content, changed);
  std::ofstream(script) << "jo\njw -b " << list << " " << content << "\njc\n";
  const auto written = run("debugfs -w -f " + script + " " + image.string());
  ASSERT_EQ(written.status, 0) << written.output;
  ASSERT_GT(changed.size() / kBlock, 20U) << written.output;
}

// All but the superblock, which holds times.
std::string without_superblock(std::string bytes) {
  std::fill_n(bytes.begin() + 1024, 1024, '\0');
  return bytes;
}

// Mounts until the power goes after so many writes; answers whether the mount came before that. Of what was
// not flushed any part may be gone: all, none, or what chance says.
bool cut_power(TestVolume& volume, std::size_t writes, int variant, std::mt19937& random) {
  power = {.recording = true, .writes_left = writes};
  const bool mounted = volume.try_mount().has_value();
  const auto lost = std::move(power.unflushed);
  power = {};
  const UniqueFd file(::open(volume.image().c_str(), O_WRONLY | O_CLOEXEC));
  for (auto write = lost.rbegin(); write != lost.rend(); ++write) {
    if (variant == 0 || (variant > 1 && random() % 2 == 0)) continue;
    EXPECT_EQ(::pwrite(file.get(), write->before.data(), write->before.size(), write->offset),
              static_cast<ssize_t>(write->before.size()));
  }
  return mounted;
}

TEST(PowerCut, AtAnyWriteOfARecoveryIsRecoveredFrom) {
  TestVolume volume("-t ext4 -b 1024 -N 256", "8M");
  make_dirty(volume);
  const fs::path& image = volume.image();
  const std::string dirty = volume.image_bytes();

  // Undisturbed, up to the moment when it serves.
  power = {.recording = true};
  ASSERT_TRUE(volume.try_mount());
  const std::size_t all = power.writes;
  power = {};
  ASSERT_GE(all, 4U);
  const std::string whole = without_superblock(volume.image_bytes());
  ASSERT_EQ(run("debugfs -R 'cat one/file' " + image.string() + " 2>/dev/null").output,
            std::string(20'000, 'c'));

  std::mt19937 random(1);
  for (std::size_t cut = 0; cut <= all; ++cut) {
    for (int variant = 0; variant < 4; ++variant) {
      SCOPED_TRACE("cut after write " + std::to_string(cut) + ", variant " + std::to_string(variant));
      write_bytes(image, dirty);
      EXPECT_EQ(cut_power(volume, cut == all ? SIZE_MAX : cut, variant, random), cut == all);
      volume.mount();
      EXPECT_EQ(volume.unmount_and_check(), "");
      ASSERT_EQ(without_superblock(volume.image_bytes()), whole);
    }
  }
}

// A log of one transaction with a fast commit behind it: a new file, one in a new directory, and one that
// grew.
void make_fast_commit(const TestVolume& volume) {
  const fs::path& image = volume.image();
  const auto script = image.string() + ".script";
  const auto content = image.string() + ".content";
  write_bytes(content, std::string(3 * kBlock, 'o'));
  std::ofstream(script) << "write " << content << " grows\njo\njw -b 7000-7002 " << content << "\njc\n";
  const auto made = run("debugfs -w -f " + script + " " + image.string());
  ASSERT_EQ(made.status, 0) << made.output;

  std::string bytes = volume.image_bytes();
  const auto log_block = [&](std::uint32_t block) {
    const auto at = std::stoull(volume.debugfs("bmap <8> " + std::to_string(block))) * kBlock;
    return std::as_writable_bytes(std::span(bytes)).subspan(at, kBlock);
  };
  namespace at = journal::superblock_at;
  const auto raw = log_block(0).first(at::kSize);
  journal::store_big_endian<std::uint32_t>(
      raw, at::kIncompatible, journal::load32(raw, at::kIncompatible) | journal::kFeatureFastCommit);
  journal::store_big_endian<std::uint32_t>(raw, at::kChecksum, 0);
  journal::store_big_endian(raw, at::kChecksum, journal::crc32c(~0U, raw));

  const auto inode = [](mode_t mode, std::uint32_t blocks, std::uint16_t links) {
    ext2_inode_large fields{};
    fields.i_mode = static_cast<std::uint16_t>(mode);
    fields.i_size = blocks * kBlock;
    fields.i_links_count = links;
    fields.i_flags = EXT4_EXTENTS_FL;
    fields.i_generation = 77;
    fields.i_extra_isize = 32;
    return std::string(reinterpret_cast<const char*>(&fields), sizeof fields);
  };
  std::fill_n(bytes.begin() + 6000 * kBlock, 4 * kBlock, 'n');
  std::fill_n(bytes.begin() + 6010 * kBlock, 4 * kBlock, 'g');
  std::fill_n(bytes.begin() + 6020 * kBlock, kBlock, 'i');
  const std::uint32_t tid = journal::load32(raw, at::kSequence) + 1;
  FastCommitArea area(kBlock);
  area.head(tid);
  area.inode(30, inode(S_IFREG | 0644, 4, 1));
  area.add_range(30, 0, 6000, 4);
  area.name(FastCommitArea::kCreate, 2, 30, "new");
  area.inode(31, inode(S_IFDIR | 0755, 1, 2));
  area.name(FastCommitArea::kCreate, 2, 31, "d");
  area.inode(32, inode(S_IFREG | 0644, 1, 1));
  area.add_range(32, 0, 6020, 1);
  area.name(FastCommitArea::kCreate, 31, 32, "in");
  area.add_range(12, 3, 6010, 4);
  area.inode(12, inode(S_IFREG | 0644, 7, 1));
  area.inode(2, inode(S_IFDIR | 0755, 1, 4));
  area.tail(tid);
  const auto chosen = journal::load32(raw, at::kFastCommitBlocks);
  const std::uint32_t blocks = chosen != 0 ? chosen : journal::kDefaultFastCommitBlocks;
  const std::uint32_t first = journal::load32(raw, at::kMaxLength) - blocks + 1;
  for (std::size_t done = 0; done < area.bytes().size(); done += kBlock)
    std::ranges::copy(area.bytes().subspan(done, kBlock),
                      log_block(first + static_cast<std::uint32_t>(done / kBlock)).begin());
  write_bytes(image, bytes);
}

TEST(PowerCut, AtAnyWriteOfAFastCommitIsRecoveredFrom) {
  TestVolume volume("-t ext4 -b 1024 -N 256 -J size=2 -O fast_commit", "8M");
  make_fast_commit(volume);
  const std::string dirty = volume.image_bytes();
  power = {.recording = true};
  ASSERT_TRUE(volume.try_mount());
  const std::size_t all = power.writes;
  power = {};
  ASSERT_GE(all, 6U) << testing::PrintToString(volume.events.notices);
  std::mt19937 random(1);
  for (std::size_t cut = 0; cut <= all; ++cut) {
    for (int variant = 0; variant < 8; ++variant) {
      SCOPED_TRACE("cut after write " + std::to_string(cut) + ", variant " + std::to_string(variant));
      write_bytes(volume.image(), dirty);
      cut_power(volume, cut == all ? SIZE_MAX : cut, variant, random);
      auto mounted = volume.try_mount();
      EXPECT_TRUE(mounted) << mounted.error().message;
      if (!mounted) continue;
      mounted = {};
      volume.mount();
      EXPECT_EQ(volume.unmount_and_check(), "");
      EXPECT_EQ(volume.debugfs("cat new"), std::string(4 * kBlock, 'n'));
      EXPECT_EQ(volume.debugfs("cat grows"), std::string(3 * kBlock, 'o') + std::string(4 * kBlock, 'g'));
      EXPECT_EQ(volume.debugfs("cat d/in"), std::string(kBlock, 'i'));
    }
  }
}

// There is no memory for one allocation, each in its turn. Whatever that is for the mount either does without
// it or says why it fails; and what it left behind is recovered from.
TEST(PowerCut, MemoryThatEndsInARecoveryIsTold) {
  TestVolume volume("-t ext4 -b 1024 -N 256 -J size=2 -O fast_commit", "8M");
  volume.events.echo = false;
  make_fast_commit(volume);
  const std::string dirty = volume.image_bytes();
  for (const auto access : {cache::Access::kReadWrite, cache::Access::kReadOnly}) {
    const MountOptions options{.access = access};
    std::size_t allocations = 0;
    const auto mount = [&](std::size_t refused) {
      write_bytes(volume.image(), dirty);
      auto device =
          cache::BlockDevice::adopt(UniqueFd(::open(volume.image().c_str(), O_RDWR | O_CLOEXEC)), {}, access);
      refused_memory = {.counting = true, .refused = refused};
      auto mounted = FileSystem::mount(std::move(*device), options, volume.events);
      allocations = refused_memory.allocations;
      refused_memory = {};
      return mounted;
    };
    ASSERT_TRUE(mount(SIZE_MAX));
    const std::size_t all = allocations;
    ASSERT_GE(all, 100U);
    std::size_t failed = 0;
    for (std::size_t refused = 0; refused < all; ++refused) {
      SCOPED_TRACE(refused);
      if (const auto mounted = mount(refused); !mounted) {
        ++failed;
        // libext2fs says of a bitmap only that it could not be read.
        const auto error = mounted.error().error;
        EXPECT_TRUE(error == Errno(ENOMEM) || error == Errno(EIO)) << mounted.error().message;
        EXPECT_NE(mounted.error().message, "");
      }
      // e2fsck takes its time.
      if (refused % 8 != 0) continue;
      volume.mount();
      EXPECT_EQ(volume.unmount_and_check(), "");
    }
    EXPECT_GT(failed, all / 2);
  }
}

TEST(PowerCut, NothingIsWrittenWhereAMountOnlyReads) {
  TestVolume volume("-t ext4 -b 1024 -N 256", "8M");
  make_dirty(volume);
  const std::string dirty = volume.image_bytes();
  auto& files = volume.mount({.access = cache::Access::kReadOnly});
  const auto found = files.lookup(kRootInode, "other");
  ASSERT_TRUE(found);
  std::vector<std::byte> content(30'000);
  EXPECT_EQ(files.read(found->inode, 0, content), std::size_t{20'000});
  EXPECT_EQ(content[19'999], std::byte{'c'});
  volume.unmount();
  EXPECT_EQ(volume.image_bytes(), dirty);
}

// Files that a crash left without a name.
void make_orphans(const TestVolume& volume) {
  const auto script = volume.image().string() + ".script";
  const auto content = volume.image().string() + ".content";
  write_bytes(content, "content");
  std::ofstream commands(script);
  constexpr int kFirst = 12;
  constexpr int kLast = 19;
  for (int inode = kFirst; inode <= kLast; ++inode)
    commands << "write " << content << " f" << inode << "\nunlink f" << inode << "\nsif <" << inode
             << "> links_count 0\nsif <" << inode << "> dtime @" << (inode == kLast ? 0 : inode + 1) << "\n";
  commands << "ssv last_orphan " << kFirst << "\n";
  commands.close();
  const auto made = run("debugfs -w -f " + script + " " + volume.image().string());
  ASSERT_EQ(made.status, 0) << made.output;
}

// A clock that runs fast: each look at it is 400 ms later.
TEST(PowerCut, ALongRecoverySaysHowFarItIs) {
  const struct {
    const char* options;
    void (*make)(const TestVolume&);
    const char* words;
  } cases[] = {
      {"", make_dirty, "reading the journal: "},
      {"-J size=2 -O fast_commit", make_fast_commit, "replaying the fast commits: "},
      {"", make_orphans, "deleting files without a name: "},
  };
  for (const auto& [more, make, words] : cases) {
    SCOPED_TRACE(words);
    TestVolume volume(std::string("-t ext4 -b 1024 -N 256 ") + more, "8M");
    make(volume);
    MountOptions options;
    auto now = std::chrono::steady_clock::time_point();
    options.clock = [&now] { return now += std::chrono::milliseconds(400); };
    volume.mount(options);
    const auto& notices = volume.events.notices;
    const auto said =
        std::ranges::count_if(notices, [&](const std::string& line) { return line.starts_with(words); });
    EXPECT_GE(said, 1) << testing::PrintToString(notices);
    EXPECT_LE(said, static_cast<std::ptrdiff_t>(now.time_since_epoch() / std::chrono::seconds(5)) + 1);
    EXPECT_EQ(volume.unmount_and_check(), "");
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
