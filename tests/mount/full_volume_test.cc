// SPDX-License-Identifier: GPL-2.0-or-later
// A volume that many writers fill at once, each in its way: what was synced is there, nothing is lost or left
// over.
#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <thread>
#include <tuple>
#include <vector>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPiece = 64 << 10;
constexpr uid_t kUser = 1000;

enum class Way { kBuffered, kDirect, kFallocate, kSmallFiles };

// What a piece of a file holds: neither zeros nor another one's.
void fill(std::span<char> bytes, int writer, std::size_t number) {
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::uint32_t)) {
    const auto seed = static_cast<std::uint64_t>(writer) + 1;
    const auto word = static_cast<std::uint32_t>(seed * 0x9E37'79B9U + number * 0x85EB'CA6BU + i);
    std::memcpy(&bytes[i], &word, sizeof word);
  }
}

class FullVolume : public MountTest, public ::testing::WithParamInterface<Command> {
 protected:
  struct Writer {
    int number = 0;
    Way way = Way::kBuffered;
    std::vector<std::size_t> synced = {};  // pieces, or small files
    int error = 0;
  };
  static constexpr std::size_t kSmallSize = 3000;

  [[nodiscard]] fs::path path_of(const Writer& writer) const {
    return mount_point() / "all" / std::to_string(writer.number);
  }
  [[nodiscard]] fs::path small_file(const Writer& writer, std::size_t number) const {
    return path_of(writer) / std::to_string(number);
  }
  [[nodiscard]] struct statvfs room() const {
    struct statvfs status{};
    EXPECT_EQ(::statvfs(mount_point().c_str(), &status), 0);
    return status;
  }

  // Until there is no room.
  void write(Writer& writer) const {
    // Of this thread alone.
    ::setfsgid(kUser);
    ::setfsuid(kUser);
    const std::unique_ptr<char, decltype(&std::free)> memory(
        static_cast<char*>(std::aligned_alloc(4096, kPiece)), &std::free);
    const std::span piece(memory.get(), kPiece);
    const auto failed = [&] {
      writer.error = errno;
      return false;
    };
    const auto write_synced = [&](int file, std::span<const char> bytes, off_t offset) {
      if (::pwrite(file, bytes.data(), bytes.size(), offset) != static_cast<ssize_t>(bytes.size())) {
        // What came short says why the next time.
        if (::pwrite(file, bytes.data(), bytes.size(), offset) == static_cast<ssize_t>(bytes.size()))
          return true;
        return failed();
      }
      return ::fsync(file) == 0 || failed();
    };
    if (writer.way == Way::kSmallFiles) {
      if (::mkdir(path_of(writer).c_str(), 0755) != 0) return (void)failed();
      for (std::size_t number = 0;; ++number) {
        const UniqueFd file(::open(small_file(writer, number).c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600));
        if (!file) return (void)failed();
        fill(piece.first(kSmallSize), writer.number, number);
        if (!write_synced(file.get(), piece.first(kSmallSize), 0)) return;
        writer.synced.push_back(number);
      }
    }
    const int flags = writer.way == Way::kDirect ? O_DIRECT : 0;
    const UniqueFd file(::open(path_of(writer).c_str(), O_RDWR | O_CREAT | O_EXCL | flags, 0600));
    if (!file) return (void)failed();
    for (std::size_t number = 0;; ++number) {
      const auto offset = static_cast<off_t>(number * kPiece);
      if (writer.way == Way::kFallocate && ::fallocate(file.get(), 0, offset, kPiece) != 0)
        return (void)failed();
      fill(piece, writer.number, number);
      if (!write_synced(file.get(), piece, offset)) {
        // There was room for it already.
        EXPECT_NE(writer.way, Way::kFallocate) << "piece " << number << ", " << writer.error;
        return;
      }
      writer.synced.push_back(number);
    }
  }

  void check(const Writer& writer) const {
    std::vector<char> expected(kPiece), found(kPiece);
    UniqueFd file;
    const bool is_small = writer.way == Way::kSmallFiles;
    if (!is_small) file = UniqueFd(::open(path_of(writer).c_str(), O_RDONLY));
    const std::size_t size = is_small ? kSmallSize : kPiece;
    for (const std::size_t number : writer.synced) {
      if (is_small) file = UniqueFd(::open(small_file(writer, number).c_str(), O_RDONLY));
      fill(std::span(expected).first(size), writer.number, number);
      const auto offset = static_cast<off_t>(is_small ? 0 : number * kPiece);
      ASSERT_EQ(::pread(file.get(), found.data(), size, offset), static_cast<ssize_t>(size))
          << path_of(writer);
      ASSERT_TRUE(std::memcmp(found.data(), expected.data(), size) == 0) << path_of(writer) << ", " << number;
    }
  }
};

TEST_P(FullVolume, EightWritersGetAllOfItAndNoMore) {
  const auto image = make_image("40M", GetParam());
  mount_or_fail(image);
  const auto before = room();
  fs::create_directory(mount_point() / "all");
  fs::permissions(mount_point() / "all", fs::perms::all);
  std::vector<Writer> writers;
  for (int number = 0; number < 8; ++number)
    writers.push_back({.number = number, .way = static_cast<Way>(number % 4)});
  if (GetParam() == Command{"-t", "ext2"})
    std::erase_if(writers, [](auto& one) { return one.way == Way::kFallocate; });
  {
    std::vector<std::jthread> threads;
    for (Writer& writer : writers) threads.emplace_back([&] { write(writer); });
  }
  std::size_t bytes = 0;
  for (const Writer& writer : writers) {
    EXPECT_EQ(writer.error, ENOSPC) << writer.number;
    EXPECT_GT(writer.synced.size(), 0U) << writer.number;
    bytes += writer.synced.size() * (writer.way == Way::kSmallFiles ? kSmallSize : kPiece);
  }
  // One block at a time gets what pieces of many had no room in, and then there is none, whoever counts.
  // The first one tells once more of what had no room.
  std::ignore = run({"sync", "-f", mount_point()});
  ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
  const auto full = room();
  Writer last{.number = 100, .way = Way::kDirect};
  std::size_t rest = 0;
  std::jthread([&] {
    ::setfsgid(kUser);
    ::setfsuid(kUser);
    constexpr std::size_t kPage = 4096;
    const std::unique_ptr<char, decltype(&std::free)> memory(
        static_cast<char*>(std::aligned_alloc(kPage, std::max<std::size_t>(kPage, full.f_bsize))),
        &std::free);
    std::memset(memory.get(), 'r', full.f_bsize);
    const UniqueFd file(::open((mount_point() / "all/0").c_str(), O_WRONLY | O_DIRECT | O_APPEND));
    while (::write(file.get(), memory.get(), full.f_bsize) == static_cast<ssize_t>(full.f_bsize)) ++rest;
    EXPECT_EQ(errno, ENOSPC);
  }).join();
  ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
  const auto none = room();
  std::cout << bytes / full.f_bsize << " blocks of " << before.f_bavail << " by the eight, " << full.f_bavail
            << " left, " << rest << " of them to be had, " << none.f_bavail << " left\n";
  EXPECT_GE(full.f_bavail, rest);
  EXPECT_EQ(none.f_bavail, 0U);
  // The root's reserve, and what the engine keeps for maps: a node of one may come from there, when its
  // writer was given the last block for data. Without extents nothing is kept for them, and it is of the
  // root's.
  const std::size_t cluster = GetParam().back() == "16384" ? 16384 / full.f_bsize : 1;
  const std::size_t nodes = 3 * (writers.size() + 1) * cluster;
  EXPECT_GE(none.f_bfree + nodes, before.f_bfree - before.f_bavail);

  write_file("/proc/sys/vm/drop_caches", "3");
  for (const Writer& writer : writers) check(writer);
  unmount_and_check(image);
  mount_or_fail(image);
  for (const Writer& writer : writers) check(writer);

  fs::remove_all(mount_point() / "all");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  // The kernel forgets them one by one.
  while (room().f_bfree != before.f_bfree && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(room().f_bfree, before.f_bfree);
  EXPECT_EQ(room().f_bavail, before.f_bavail);
  unmount_and_check(image);
}

INSTANTIATE_TEST_SUITE_P(Formats, FullVolume,
                         ::testing::Values(Command{"-b", "4096", "-m", "5"},
                                           Command{"-b", "4096", "-m", "0", "-O", "^has_journal"},
                                           Command{"-b", "1024"}, Command{"-t", "ext2"},
                                           Command{"-O", "bigalloc", "-C", "16384"}));

}  // namespace
}  // namespace fuse4fs::test
