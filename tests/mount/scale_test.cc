// SPDX-License-Identifier: GPL-2.0-or-later
// Large files and large volumes, in memory: what takes long goes in steps that others come between.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <sstream>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

// Images that are mostly hole lie in memory: no disk has to keep up.
class Scale : public MountTest {
 protected:
  Scale() {
    std::string name = "/dev/shm/fuse4fs-test-XXXXXX";
    memory_ = ::mkdtemp(name.data());
  }
  ~Scale() override {
    while (::umount(mount_point().c_str()) == 0) {
    }
    std::ignore = server_ends();
    std::error_code ignored;
    fs::remove_all(memory_, ignored);
  }
  fs::path make_memory_image(const std::string& size, const Command& mkfs_arguments = {}) {
    return make_image(size, mkfs_arguments, memory_ / "image");
  }
  // The server's, at its highest since it began, in bytes.
  [[nodiscard]] std::size_t peak_memory() const {
    const auto pid = server();
    if (!pid) return 0;
    const std::string status = contents_of("/proc/" + std::to_string(*pid) + "/status");
    const auto line = status.find("VmHWM:");
    return line == std::string::npos ? 0 : std::stoul(status.substr(line + 6)) << 10;
  }

 private:
  fs::path memory_;
};

class HugeFile : public Scale {
 protected:
  static constexpr off_t kBlock = 4096;
  static constexpr off_t kSize = off_t{100} << 30;

  // Made by the kernel's ext4: so many extents, each of a block, all over a file of 100 GiB.
  void make_huge_file(int extents) {
    image_ = make_memory_image("160G", {"-m", "0", "-O", "^has_journal"});
    kernel_mount(image_, "loop");
    free_before_ = free_blocks();
    const UniqueFd file(::open(path().c_str(), O_RDWR | O_CREAT, 0600));
    const off_t stride = kSize / extents / kBlock * kBlock;
    for (off_t i = 0; i < extents; ++i) ASSERT_EQ(::fallocate(file.get(), 0, i * stride, kBlock), 0);
    ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
  }
  [[nodiscard]] fs::path path() const { return mount_point() / "huge"; }
  [[nodiscard]] fsblkcnt_t free_blocks() const {
    struct statvfs status{};
    EXPECT_EQ(::statvfs(mount_point().c_str(), &status), 0);
    return status.f_bfree;
  }
  void mount_ours() {
    ASSERT_EQ(unmount().status, 0);
    mount_or_fail(image_);
  }

  // What another client of the same directory waits for, while `work` is under way and until `is_over`.
  void with_a_neighbour(const char* what, const std::function<void()>& work,
                        const std::function<bool()>& is_over) {
    std::atomic<bool> over{false};
    Clock::duration longest{}, longest_sync{};
    int files = 0;
    std::jthread neighbour([&] {
      while (!over) {
        const auto name = mount_point() / ("small" + std::to_string(files));
        const auto begin = Clock::now();
        struct stat status{};
        EXPECT_EQ(::mknod(name.c_str(), S_IFREG | 0600, 0), 0);
        EXPECT_EQ(::stat(name.c_str(), &status), 0);
        longest = std::max(longest, Clock::now() - begin);
        ++files;
      }
    });
    std::jthread syncer([&] {
      while (!over) {
        const UniqueFd file(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY));
        const auto begin = Clock::now();
        EXPECT_EQ(::syncfs(file.get()), 0);
        longest_sync = std::max(longest_sync, Clock::now() - begin);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
    const auto begin = Clock::now();
    work();
    while (!is_over()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto took = Clock::now() - begin;
    over = true;
    neighbour.join();
    syncer.join();
    std::cout << what << ": " << milliseconds(took) << " ms; meanwhile " << files
              << " files made and looked at, the longest in " << milliseconds(longest) << " ms, a sync in "
              << milliseconds(longest_sync) << " ms\n";
    for (int i = 0; i < files; ++i)
      ASSERT_EQ(::unlink((mount_point() / ("small" + std::to_string(i))).c_str()), 0);
  }
  void idle() {
    const auto end = Clock::now() + std::chrono::seconds(1);
    with_a_neighbour("nothing else", [] {}, [&] { return Clock::now() > end; });
  }
  void cut() {
    with_a_neighbour(
        "a truncate", [&] { ASSERT_EQ(::truncate(path().c_str(), 10), 0); }, [] { return true; });
  }
  void remove() {
    with_a_neighbour(
        "an unlink", [&] { ASSERT_EQ(::unlink(path().c_str()), 0); },
        [&] { return free_blocks() + 100 >= free_before_; });
  }

  fs::path image_;
  fsblkcnt_t free_before_ = 0;
};

TEST_F(HugeFile, IsCutWhileOthersAreServed) {
  make_huge_file(20'000);
  mount_ours();
  idle();
  cut();
  unmount_and_check(image_);
}

TEST_F(HugeFile, IsRemovedWhileOthersAreServed) {
  make_huge_file(20'000);
  mount_ours();
  remove();
  unmount_and_check(image_);
}

using LongHugeFile = HugeFile;

TEST_F(LongHugeFile, IsCutWhileOthersAreServed) {
  make_huge_file(300'000);
  mount_ours();
  idle();
  cut();
  unmount_and_check(image_);
}

TEST_F(LongHugeFile, IsRemovedWhileOthersAreServed) {
  make_huge_file(300'000);
  mount_ours();
  remove();
  unmount_and_check(image_);
}

// Where the blocks of a volume's files lie, as debugfs says.
struct Layout {
  std::size_t extents = 0;
  std::uint64_t last_block = 0;
};
std::map<std::string, Layout> layouts_of(const fs::path& image, const std::vector<std::string>& paths) {
  std::string commands;
  for (const auto& path : paths) commands += "dump_extents -l " + path + "\n";
  const fs::path script = image.string() + ".commands";
  write_file(script, commands);
  // Level, entries, logical, physical, length, of the lines of leaves; "- 123" is the last block of a run.
  const Finished shown =
      run({"sh", "-c", "debugfs -f " + script.string() + " " + image.string() + R"( 2>/dev/null | awk '
              $1 == "debugfs:" { name = $4 }
              /^ *[0-9]+\// { gsub("/", " "); print name, $10 }')"});
  std::map<std::string, Layout> layouts;
  std::istringstream lines(shown.output);
  std::string path;
  for (std::uint64_t last = 0; lines >> path >> last;) {
    Layout& layout = layouts[path];
    ++layout.extents;
    layout.last_block = std::max(layout.last_block, last);
  }
  return layouts;
}

class LargeVolume : public Scale {
 protected:
  // Of a mount with a few files; and when the cache is full as well.
#ifdef FUSE4FS_SANITIZED
  // What the sanitizers use is not the server's.
  static constexpr std::size_t kMostMemory = SIZE_MAX, kMostWithCache = SIZE_MAX;
#else
  static constexpr std::size_t kMostMemory = 100 << 20, kMostWithCache = 128 << 20;
#endif
  static constexpr int kDirectories = 64, kFiles = 8;

  // Mounted, filled but for an eighth, so that files come to lie in the far groups, and mounted again.
  void use(const std::string& size, std::uint64_t blocks) {
    const fs::path image = make_memory_image(size, {"-O", "64bit,flex_bg", "-m", "0", "-J", "size=64"});
    const auto begin = Clock::now();
    mount_or_fail(image);
    std::cout << size << ": mounted in " << milliseconds(Clock::now() - begin) << " ms, "
              << (peak_memory() >> 10) << " KiB of memory\n";
    EXPECT_GT(peak_memory(), 0U);
    make_files("near");
    EXPECT_LT(peak_memory(), kMostMemory);
    {
      const UniqueFd file(::open((mount_point() / "long").c_str(), O_WRONLY | O_CREAT, 0600));
      ASSERT_EQ(::fallocate(file.get(), 0, 0, static_cast<off_t>(blocks / 8 * 7 * 4096)), 0);
    }
    make_files("far");
    EXPECT_LT(peak_memory(), kMostWithCache);
    const auto end = Clock::now();
    std::cout << size << ": filled, " << (peak_memory() >> 10) << " KiB of memory\n";
    ASSERT_EQ(unmount().status, 0);
    std::cout << size << ": unmounted in " << milliseconds(Clock::now() - end) << " ms\n";
    std::uint64_t farthest = 0;
    for (const auto& [path, layout] : layouts_of(image, names("far")))
      farthest = std::max(farthest, layout.last_block);
    EXPECT_GT(farthest, blocks / 2);
    mount_or_fail(image);
    check_and_remove("near");
    check_and_remove("far");
    const auto removal = Clock::now();
    ASSERT_TRUE(fs::remove(mount_point() / "long"));
    ASSERT_EQ(unmount().status, 0);
    std::cout << size << ": a file of all but an eighth removed in " << milliseconds(Clock::now() - removal)
              << " ms\n";
    ASSERT_TRUE(is_free(image));
    const auto check = Clock::now();
    expect_clean(image);
    std::cout << size << ": e2fsck took " << milliseconds(Clock::now() - check) << " ms\n";
    kernel_mount(image);
    EXPECT_EQ(contents_of(mount_point() / name("far", 3, 1)), content(3, 1));
    EXPECT_FALSE(fs::exists(mount_point() / name("far", 3, 0)));
  }

 private:
  static std::string name(const std::string& kind, int directory, int file) {
    return kind + std::to_string(directory) + "/f" + std::to_string(file);
  }
  static std::string content(int directory, int file) {
    const auto size = std::size_t{5'000} * static_cast<std::size_t>(file + 1);
    return std::string(size, static_cast<char>('a' + directory % 26));
  }
  static std::vector<std::string> names(const std::string& kind) {
    std::vector<std::string> all;
    for (int directory = 0; directory < kDirectories; ++directory) all.push_back(name(kind, directory, 1));
    return all;
  }
  void make_files(const std::string& kind) {
    for (int directory = 0; directory < kDirectories; ++directory) {
      fs::create_directory(mount_point() / (kind + std::to_string(directory)));
      for (int file = 0; file < kFiles; ++file)
        write_file(mount_point() / name(kind, directory, file), content(directory, file));
    }
  }
  // Every other one.
  void check_and_remove(const std::string& kind) {
    for (int directory = 0; directory < kDirectories; ++directory) {
      for (int file = 0; file < kFiles; ++file) {
        const auto path = mount_point() / name(kind, directory, file);
        ASSERT_TRUE(contents_of(path) == content(directory, file)) << path;
        if (file % 2 == 0) {
          ASSERT_TRUE(fs::remove(path)) << path;
        }
      }
    }
  }
};

TEST_F(LargeVolume, OfATebibyteFitsIntoMemory) { use("1T", std::uint64_t{1} << 28); }

using LongLargeVolume = LargeVolume;

TEST_F(LongLargeVolume, Of16TebibytesFitsIntoMemory) { use("16T", std::uint64_t{1} << 32); }

// Each its own file, written piece by piece beside the others.
TEST_F(Scale, SixtyFourStreamsSideBySide) {
  const fs::path image = make_memory_image("1G", {"-m", "0"});
  mount_or_fail(image);
  constexpr int kStreams = 64;
  constexpr std::size_t kPiece = 64 << 10, kPieces = 64;
  const auto name = [](int stream) { return "stream" + std::to_string(stream); };
  // Of its stream and its place.
  const auto fill = [](std::span<char> piece, int stream, std::size_t number) {
    std::mt19937 random(static_cast<unsigned>(stream * 1000 + static_cast<int>(number)));
    for (std::size_t i = 0; i < piece.size(); i += sizeof(std::uint32_t)) {
      const std::uint32_t word = random();
      std::memcpy(&piece[i], &word, sizeof word);
    }
  };
  const auto each = [&](int flags, const auto& transfer) {
    std::vector<std::jthread> threads;
    for (int stream = 0; stream < kStreams; ++stream) {
      threads.emplace_back([&, stream] {
        const std::unique_ptr<char, decltype(&std::free)> memory(
            static_cast<char*>(std::aligned_alloc(4096, 2 * kPiece)), &std::free);
        const int mode = stream % 2 == 0 ? flags | O_DIRECT : flags;
        const UniqueFd file(::open((mount_point() / name(stream)).c_str(), mode, 0600));
        ASSERT_TRUE(file);
        for (std::size_t number = 0; number < kPieces; ++number) {
          fill(std::span(memory.get(), kPiece), stream, number);
          transfer(file.get(), memory.get(), static_cast<off_t>(number * kPiece));
        }
        ASSERT_EQ(::fsync(file.get()), 0);
      });
    }
  };
  each(O_WRONLY | O_CREAT, [&](int file, char* memory, off_t offset) {
    ASSERT_EQ(::pwrite(file, memory, kPiece, offset), static_cast<ssize_t>(kPiece));
  });
  write_file("/proc/sys/vm/drop_caches", "3");
  each(O_RDWR, [&](int file, char* memory, off_t offset) {
    ASSERT_EQ(::pread(file, memory + kPiece, kPiece, offset), static_cast<ssize_t>(kPiece));
    ASSERT_TRUE(std::memcmp(memory, memory + kPiece, kPiece) == 0) << offset;
  });
  unmount_and_check(image);
  std::size_t extents[2] = {0, 0};
  for (int stream = 0; stream < kStreams; ++stream) {
    for (const auto& [path, layout] : layouts_of(image, {name(stream)}))
      extents[stream % 2] += layout.extents;
  }
  std::cout << "extents a file of 4 MiB: " << static_cast<double>(extents[0]) * 2 / kStreams << " direct, "
            << static_cast<double>(extents[1]) * 2 / kStreams << " buffered\n";
  EXPECT_GE(extents[0], static_cast<std::size_t>(kStreams / 2));
}

}  // namespace
}  // namespace fuse4fs::test
