// SPDX-License-Identifier: GPL-2.0-or-later
// File data through our mount, and again through the kernel's ext4.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPage = 4096;

void drop_caches() { write_file("/proc/sys/vm/drop_caches", "3"); }

std::string bytes_of(std::uint32_t seed, std::size_t size) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// Names, types, permissions, sizes and contents of everything below a directory.
std::map<std::string, std::string> tree(const fs::path& root) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    struct stat status{};
    if (::lstat(entry.path().c_str(), &status) != 0) continue;
    std::string value = std::to_string(status.st_mode) + " " + std::to_string(status.st_uid);
    if (S_ISREG(status.st_mode))
      value += " " + std::to_string(std::hash<std::string>()(contents_of(entry.path())));
    if (S_ISLNK(status.st_mode)) value += " " + fs::read_symlink(entry.path()).string();
    found[entry.path().lexically_relative(root)] = value;
  }
  return found;
}

// Says what differs first, rather than print 20,000 lines.
void expect_tree(const fs::path& root, const std::map<std::string, std::string>& wanted) {
  const auto found = tree(root);
  for (const auto& [path, value] : wanted) {
    const auto at = found.find(path);
    ASSERT_TRUE(at != found.end()) << path << " is missing";
    ASSERT_EQ(at->second, value) << path;
  }
  for (const auto& [path, value] : found) ASSERT_TRUE(wanted.contains(path)) << path << " is too much";
}

class Data : public MountTest {
 protected:
  void expect_tree_to_come_back(int files);
};

void Data::expect_tree_to_come_back(int files) {
  const auto source = scratch() / "source";
  std::mt19937 random(1);
  for (int i = 0; i < files; ++i) {
    // A quarter in one large directory, the rest spread.
    const auto directory =
        source / (i % 4 == 0 ? "large" : "d" + std::to_string(i % 97) + "/e" + std::to_string(i % 7));
    fs::create_directories(directory);
    const std::size_t size = i % 1000 == 0 ? random() % 300'000 : random() % 6000;
    write_file(directory / ("file-" + std::to_string(i)), bytes_of(static_cast<std::uint32_t>(i), size));
    if (i % 50 == 0)
      fs::create_symlink("file-" + std::to_string(i), directory / ("link-" + std::to_string(i)));
  }
  const auto wanted = tree(source);

  const auto image = make_image("400M", {"-N", "40000"});
  mount_or_fail(image);
  const auto copied = run({"cp", "-a", source.string() + "/.", mount_point()});
  ASSERT_EQ(copied.status, 0) << copied.output;
  fs::remove(mount_point() / "lost+found");
  {
    SCOPED_TRACE("as it was just written");
    expect_tree(mount_point(), wanted);
  }
  unmount_and_check(image);

  mount_or_fail(image);
  {
    SCOPED_TRACE("after a new mount");
    expect_tree(mount_point(), wanted);
  }
  EXPECT_EQ(unmount().status, 0);

  kernel_mount(image);
  {
    SCOPED_TRACE("through the kernel's ext4");
    expect_tree(mount_point(), wanted);
  }
  EXPECT_EQ(unmount().status, 0);

  mount_or_fail(image);
  const auto removed = run({"sh", "-c", "rm -r '" + mount_point().string() + "'/*"});
  EXPECT_EQ(removed.status, 0) << removed.output;
  EXPECT_TRUE(fs::is_empty(mount_point()));
  unmount_and_check(image);
}

TEST_F(Data, ATreeComesBackWhole) { expect_tree_to_come_back(4'000); }

using LongData = Data;

TEST_F(LongData, ALargeTreeComesBackWhole) { expect_tree_to_come_back(20'000); }

// Random writes, truncates and reads, buffered, direct and mapped, against a copy in memory.
class RandomData : public MountTest, public ::testing::WithParamInterface<Command> {};

TEST_P(RandomData, EqualsTheCopyInMemory) {
  const auto image = make_image("64M", GetParam());
  mount_or_fail(image);
  const auto path = mount_point() / "file";
  UniqueFd buffered(::open(path.c_str(), O_RDWR | O_CREAT, 0600));
  UniqueFd direct(::open(path.c_str(), O_RDWR | O_DIRECT));
  ASSERT_TRUE(buffered && direct);
  constexpr std::size_t kLargest = 2 << 20;
  std::string model;
  auto* const aligned = static_cast<char*>(std::aligned_alloc(kPage, kLargest));
  const std::unique_ptr<char, decltype(&std::free)> owner(aligned, &std::free);
  constexpr unsigned kSeed = 42;
  std::mt19937 random(kSeed);
  const auto grow = [&](std::size_t size) {
    if (model.size() < size) model.resize(size, '\0');
  };
  for (int step = 0; step < 1500; ++step) {
    SCOPED_TRACE("seed " + std::to_string(kSeed) + ", step " + std::to_string(step));
    std::size_t offset = random() % kLargest;
    std::size_t size = 1 + random() % (step % 10 == 0 ? 600'000 : 20'000);
    size = std::min(size, kLargest - offset);
    switch (random() % 7) {
      case 0:
      case 1: {
        const auto data = bytes_of(random(), size);
        ASSERT_EQ(::pwrite(buffered.get(), data.data(), size, static_cast<off_t>(offset)),
                  static_cast<ssize_t>(size));
        grow(offset + size);
        model.replace(offset, size, data);
        break;
      }
      case 2: {
        offset = offset / kPage * kPage;
        size = std::max(kPage, size / kPage * kPage);
        if (offset + size > kLargest) continue;
        const auto data = bytes_of(random(), size);
        std::memcpy(aligned, data.data(), size);
        ASSERT_EQ(::pwrite(direct.get(), aligned, size, static_cast<off_t>(offset)),
                  static_cast<ssize_t>(size));
        grow(offset + size);
        model.replace(offset, size, data);
        break;
      }
      case 3:
        if (random() % 4 != 0) continue;
        ASSERT_EQ(::ftruncate(buffered.get(), static_cast<off_t>(offset)), 0);
        model.resize(offset, '\0');
        break;
      case 4: {
        if (offset >= model.size()) continue;
        auto* const map = static_cast<char*>(
            ::mmap(nullptr, model.size(), PROT_READ | PROT_WRITE, MAP_SHARED, buffered.get(), 0));
        ASSERT_NE(map, MAP_FAILED);
        size = std::min(size, model.size() - offset);
        const auto data = bytes_of(random(), size);
        std::memcpy(map + offset, data.data(), size);
        ::munmap(map, model.size());
        model.replace(offset, size, data);
        break;
      }
      case 5:
        if (random() % 8 == 0) {
          ASSERT_EQ(::fsync(buffered.get()), 0);
        }
        if (random() % 16 == 0) drop_caches();
        break;
      default: {
        std::string read(size, '?');
        const ssize_t got = ::pread(buffered.get(), read.data(), size, static_cast<off_t>(offset));
        const std::size_t expected = offset >= model.size() ? 0 : std::min(size, model.size() - offset);
        ASSERT_EQ(got, static_cast<ssize_t>(expected));
        ASSERT_TRUE(std::equal(read.begin(), read.begin() + got, model.begin() + static_cast<long>(offset)));
      }
    }
  }
  EXPECT_TRUE(contents_of(path) == model);
  ASSERT_EQ(::fsync(buffered.get()), 0);
  drop_caches();
  EXPECT_TRUE(contents_of(path) == model) << "read again from the device";
  buffered.reset();
  direct.reset();
  unmount_and_check(image);
  kernel_mount(image);
  EXPECT_TRUE(contents_of(path) == model) << "through the kernel's ext4";
}

INSTANTIATE_TEST_SUITE_P(Formats, RandomData,
                         ::testing::Values(Command{}, Command{"-b", "1024"}, Command{"-t", "ext2"},
                                           Command{"-t", "ext3", "-b", "2048"},
                                           Command{"-O", "bigalloc", "-C", "16384"},
                                           Command{"-O", "inline_data"}));

TEST_F(Data, ParallelWritersAndReadersOfOneFile) {
  const auto image = make_image("128M");
  mount_or_fail(image);
  const auto path = mount_point() / "file";
  constexpr int kThreads = 8;
  constexpr std::size_t kPiece = 256 << 10;
  constexpr int kPieces = 16;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | (thread % 2 == 0 ? O_DIRECT : 0), 0600));
        auto* const buffer = static_cast<char*>(std::aligned_alloc(kPage, kPiece));
        for (int piece = 0; piece < kPieces; ++piece) {
          const auto offset = static_cast<off_t>((piece * kThreads + thread) * kPiece);
          std::memset(buffer, 'a' + thread, kPiece);
          EXPECT_EQ(::pwrite(file.get(), buffer, kPiece, offset), static_cast<ssize_t>(kPiece));
          // Nobody may ever see anything but zeros or the piece's own letter.
          const auto other = static_cast<off_t>(((piece * kThreads) + (thread + 1) % kThreads) * kPiece);
          const ssize_t got = ::pread(file.get(), buffer, kPiece, other);
          const char letter = static_cast<char>('a' + (thread + 1) % kThreads);
          EXPECT_TRUE(std::all_of(buffer, buffer + std::max<ssize_t>(got, 0),
                                  [&](char byte) { return byte == 0 || byte == letter; }));
        }
        std::free(buffer);
      });
    }
  }
  const auto read = contents_of(path);
  ASSERT_EQ(read.size(), kThreads * kPieces * kPiece);
  for (std::size_t i = 0; i < read.size(); i += 512)
    ASSERT_EQ(read[i], static_cast<char>('a' + i / kPiece % kThreads)) << i;
  unmount_and_check(image);
}

TEST_F(Data, AFullVolumeSaysSoAndStaysWhole) {
  const auto image = make_image("16M");
  mount_or_fail(image);
  const auto filled =
      run({"dd", "if=/dev/zero", "of=" + (mount_point() / "large").string(), "bs=1M", "oflag=direct"});
  EXPECT_NE(filled.status, 0);
  EXPECT_THAT(filled.output, ::testing::HasSubstr("No space left on device"));
  fs::remove(mount_point() / "large");
  write_file(mount_point() / "small", "fits again");
  EXPECT_EQ(contents_of(mount_point() / "small"), "fits again");
  unmount_and_check(image);
}

TEST_F(Data, OldContentsNeverShowThrough) {
  const auto image = make_image("32M");
  mount_or_fail(image);
  // Fill the volume with a mark, free it, and look for the mark in what is allocated again.
  run({"sh", "-c",
       "yes SECRET | dd of='" + (mount_point() / "mark").string() + "' bs=1M count=16 iflag=fullblock"});
  ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
  fs::remove(mount_point() / "mark");
  for (int i = 0; i < 200; ++i) {
    const auto path = mount_point() / ("file" + std::to_string(i));
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT, 0600));
    ASSERT_EQ(::pwrite(file.get(), "x", 1, 10'000 + i * 37), 1);
    ASSERT_EQ(::ftruncate(file.get(), 40'000), 0);
    ASSERT_EQ(::fsync(file.get()), 0);
  }
  drop_caches();
  for (int i = 0; i < 200; ++i) {
    const auto text = contents_of(mount_point() / ("file" + std::to_string(i)));
    ASSERT_EQ(text.size(), 40'000U);
    ASSERT_EQ(text.find("SECRET"), std::string::npos);
    ASSERT_EQ(std::count(text.begin(), text.end(), '\0'), 39'999);
  }
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
