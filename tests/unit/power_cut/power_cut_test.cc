// SPDX-License-Identifier: GPL-2.0-or-later
// The power fails in the middle of our own recovery, at each of its writes, and what was not flushed is lost
// in part: the next mount recovers all the same.
//
// A program of its own, since pwritev() and fdatasync() are this file's.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/unit/ext4/test_volume.h"

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
      power = {.recording = true, .writes_left = cut == all ? SIZE_MAX : cut};
      const bool mounted = volume.try_mount().has_value();
      EXPECT_EQ(mounted, cut == all);
      const auto lost = std::move(power.unflushed);
      power = {};
      // Of what was not flushed any part may be gone: all, none, or what chance says.
      {
        const UniqueFd file(::open(image.c_str(), O_WRONLY | O_CLOEXEC));
        for (auto write = lost.rbegin(); write != lost.rend(); ++write) {
          if (variant == 0 || (variant > 1 && random() % 2 == 0)) continue;
          ASSERT_EQ(::pwrite(file.get(), write->before.data(), write->before.size(), write->offset),
                    static_cast<ssize_t>(write->before.size()));
        }
      }
      volume.mount();
      EXPECT_EQ(volume.unmount_and_check(), "");
      ASSERT_EQ(without_superblock(volume.image_bytes()), whole);
    }
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

// A clock that runs fast: each look at it is 400 ms later.
TEST(PowerCut, ALongRecoverySaysHowFarItIs) {
  TestVolume volume("-t ext4 -b 1024 -N 256", "8M");
  make_dirty(volume);
  MountOptions options;
  auto now = std::chrono::steady_clock::time_point();
  options.clock = [&now] { return now += std::chrono::milliseconds(400); };
  volume.mount(options);
  const auto& notices = volume.events.notices;
  const auto said = std::ranges::count_if(notices, [](const std::string& words) {
    return words.starts_with("reading the journal: ") && words.ends_with("%");
  });
  EXPECT_GE(said, 1);
  EXPECT_LE(said, static_cast<std::ptrdiff_t>(now.time_since_epoch() / std::chrono::seconds(5)) + 1);
  volume.unmount();
}

}  // namespace
}  // namespace fuse4fs::ext4
