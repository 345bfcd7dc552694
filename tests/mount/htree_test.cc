// SPDX-License-Identifier: GPL-2.0-or-later
// Directories with an index: the kernel extends what we wrote and the reverse, and listings under load.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Listing = std::unique_ptr<DIR, CloseDirectory>;

class HTree : public MountTest {
 protected:
  using Names = std::set<std::string>;

  // All names lead to a few files: what is tried is the directory.
  void make_files(std::size_t count) {
    ASSERT_EQ(::mkdir((mount_point() / "d").c_str(), 0755), 0);
    for (std::size_t i = 0; i < count; ++i) write_file(mount_point() / fmt::format("file{}", i), "");
    files_ = count;
  }
  // Takes every third name of what is there, and brings `count` others.
  void change(std::string_view who, std::size_t count, std::size_t length) {
    const UniqueFd root(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const UniqueFd directory(::openat(root.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::size_t turn = 0;
    for (auto name = names_.begin(); name != names_.end();) {
      if (++turn % 3 != 0) {
        ++name;
        continue;
      }
      ASSERT_EQ(::unlinkat(directory.get(), name->c_str(), 0), 0) << *name << ": " << std::strerror(errno);
      name = names_.erase(name);
    }
    for (std::size_t i = 0; i < count; ++i) {
      auto name = fmt::format("{} {}", who, i);
      name.resize(std::max(name.size(), length), '.');
      const auto file = fmt::format("file{}", i % files_);
      ASSERT_EQ(::linkat(root.get(), file.c_str(), directory.get(), name.c_str(), 0), 0)
          << name << ": " << std::strerror(errno);
      names_.insert(name);
    }
  }
  void expect_names() {
    const Listing listing(::opendir((mount_point() / "d").c_str()));
    ASSERT_TRUE(listing);
    Names listed;
    std::size_t count = 0;
    while (const dirent* const entry = ::readdir(listing.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      ++count;
      listed.insert(std::string(name));
      ASSERT_EQ(entry->d_type, DT_REG) << name;
    }
    EXPECT_EQ(count, listed.size());
    ASSERT_TRUE(listed == names_) << listed.size() << " for " << names_.size();
    struct stat status{};
    for (const auto& name : names_)
      ASSERT_EQ(::fstatat(::dirfd(listing.get()), name.c_str(), &status, 0), 0) << name;
    EXPECT_NE(::fstatat(::dirfd(listing.get()), "another", &status, 0), 0);
  }
  void both_ways(const fs::path& image, std::size_t count, std::size_t length, std::size_t files) {
    names_.clear();
    kernel_mount(image);
    ASSERT_NO_FATAL_FAILURE(make_files(files));
    for (const int round : {1, 2}) {
      SCOPED_TRACE(round);
      ASSERT_NO_FATAL_FAILURE(change(fmt::format("kernel's {}", round), count, length));
      ASSERT_EQ(unmount().status, 0);
      expect_clean(image);
      mount_or_fail(image);
      ASSERT_NO_FATAL_FAILURE(expect_names());
      ASSERT_NO_FATAL_FAILURE(change(fmt::format("ours {}", round), count, length));
      ASSERT_NO_FATAL_FAILURE(expect_names());
      unmount_and_check(image);
      kernel_mount(image);
      ASSERT_NO_FATAL_FAILURE(expect_names());
    }
    ASSERT_EQ(unmount().status, 0);
    EXPECT_THAT(run({"debugfs", "-R", "htree_dump /d", image}).output,
                ::testing::HasSubstr("Indirect levels: 1"));
  }

  // Each with an inode of its own: made, read by us and by the kernel, taken away.
  void made_read_and_removed(const fs::path& image, std::size_t count) {
    names_.clear();
    const auto path = mount_point() / "d";
    const auto open_directory = [&] {
      return UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    };
    mount_or_fail(image);
    ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
    {
      const UniqueFd directory = open_directory();
      for (std::size_t i = 0; i < count; ++i) {
        const auto name = fmt::format("file {}", i);
        ASSERT_EQ(::mknodat(directory.get(), name.c_str(), S_IFREG | 0644, 0), 0)
            << name << ": " << std::strerror(errno);
        names_.insert(names_.end(), name);
      }
    }
    unmount_and_check(image);
    kernel_mount(image, "loop,ro");
    ASSERT_NO_FATAL_FAILURE(expect_names());
    ASSERT_EQ(unmount().status, 0);
    mount_or_fail(image);
    ASSERT_NO_FATAL_FAILURE(expect_names());
    {
      const UniqueFd directory = open_directory();
      for (const auto& name : names_)
        ASSERT_EQ(::unlinkat(directory.get(), name.c_str(), 0), 0) << name << ": " << std::strerror(errno);
    }
    ASSERT_EQ(::rmdir(path.c_str()), 0) << std::strerror(errno);
    unmount_and_check(image);
  }

  Names names_;
  std::size_t files_ = 0;
};

TEST_F(HTree, OneDirectoryOfManyFiles) { made_read_and_removed(make_image("64M", {"-N", "11000"}), 10'000); }

TEST_F(HTree, BothWaysWithTheKernel) {
  both_ways(make_image("32M", {"-b", "1024"}), 1000, 90, 1);
  both_ways(make_image("32M", {"-b", "1024", "-O", "^metadata_csum"}, "bare"), 1000, 90, 1);
}

// With half a million names: label "long".
using LongHTree = HTree;

TEST_F(LongHTree, BothWaysWithHalfAMillion) {
  both_ways(make_image("512M", {}), 200'000, 20, 10);
  both_ways(make_image("512M", {"-O", "^metadata_csum"}, "bare"), 200'000, 20, 10);
}

TEST_F(LongHTree, OneDirectoryOfAMillionFiles) {
  made_read_and_removed(make_image("1G", {"-N", "1010000", "-O", "^has_journal"}), 1'000'000);
}

// Few names fill a leaf, so that so many of them need a third level.
TEST_F(LongHTree, TheKernelReadsAndExtendsThreeLevels) {
  const auto image = make_image("256M", {"-b", "1024", "-N", "64", "-O", "large_dir"});
  const auto expect_levels = [&] {
    EXPECT_THAT(run({"debugfs", "-R", "htree_dump /d", image}).output,
                ::testing::HasSubstr("Indirect levels: 2"));
  };
  mount_or_fail(image);
  ASSERT_NO_FATAL_FAILURE(make_files(2));
  ASSERT_NO_FATAL_FAILURE(change("ours", 45'000, 250));
  unmount_and_check(image);
  expect_levels();
  kernel_mount(image);
  ASSERT_NO_FATAL_FAILURE(expect_names());
  ASSERT_NO_FATAL_FAILURE(change("kernel's", 20'000, 250));
  ASSERT_EQ(unmount().status, 0);
  expect_clean(image);
  expect_levels();
  mount_or_fail(image);
  ASSERT_NO_FATAL_FAILURE(expect_names());
  ASSERT_NO_FATAL_FAILURE(change("ours again", 20'000, 250));
  ASSERT_NO_FATAL_FAILURE(expect_names());
  unmount_and_check(image);
  kernel_mount(image, "loop,ro");
  ASSERT_NO_FATAL_FAILURE(expect_names());
  ASSERT_EQ(unmount().status, 0);
}

TEST_F(HTree, SeekdirUnderLoad) {
  constexpr int kListings = 10;
  const auto image = make_image("32M", {"-b", "1024", "-N", "8192"});
  mount_or_fail(image);
  const auto path = mount_point() / "d";
  ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
  Names staying;
  for (int i = 0; i < 300; ++i) {
    write_file(path / fmt::format("stays {}", i), "");
    staying.insert(fmt::format("stays {}", i));
  }
  std::atomic<bool> end = false;
  std::thread load([&] {
    const UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::mt19937 random(1);
    while (!end) {
      const auto name = fmt::format("{:x<{}}", random() % 2000, 10 + random() % 90);
      const UniqueFd file(
          ::openat(directory.get(), name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
      if (!file) (void)::unlinkat(directory.get(), name.c_str(), 0);
    }
  });
  std::mt19937 random(2);
  for (int turn = 0; turn < kListings; ++turn) {
    const Listing listing(::opendir(path.c_str()));
    std::vector<std::string> seen;
    std::vector<std::pair<long, std::size_t>> places;  // of the listing, and how many had been seen there
    int jumps = 0;
    while (const dirent* const entry = ::readdir(listing.get())) {
      if (staying.contains(entry->d_name)) seen.emplace_back(entry->d_name);
      places.emplace_back(::telldir(listing.get()), seen.size());
      if (random() % 40 != 0 || jumps == 10) continue;
      ++jumps;
      const std::size_t back = random() % places.size();
      ::seekdir(listing.get(), places[back].first);
      seen.resize(places[back].second);
      places.resize(back + 1);
    }
    EXPECT_EQ(seen.size(), staying.size()) << turn;
    EXPECT_EQ(Names(seen.begin(), seen.end()), staying) << turn;
  }
  end = true;
  load.join();
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
