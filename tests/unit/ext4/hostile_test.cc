// SPDX-License-Identifier: GPL-2.0-or-later
// Volumes with random damage in their metadata: any error is right, a crash, a hang or a sanitizer's finding
// is not. FUSE4FS_HOSTILE_SEEDS=FIRST-LAST runs others than the usual ones.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <random>
#include <set>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

struct Form {
  const char* name;
  const char* options;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class Hostile : public testing::TestWithParam<Form> {};

void spill(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Everything that a user could do, whatever it answers.
void exercise(FileSystem& fs) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::deque<InodeNumber> queue{kRootInode};
  std::set<InodeNumber> seen;
  std::vector<std::byte> buffer(100'000, std::byte{42});
  int turn = 0;
  while (!queue.empty() && seen.size() < 500) {
    const InodeNumber directory = queue.front();
    queue.pop_front();
    if (!seen.insert(directory).second) continue;
    std::vector<std::string> names;
    (void)fs.read_directory(directory, 0, [&](const DirectoryEntry& entry) {
      names.emplace_back(entry.name);
      return names.size() < 2000;
    });
    for (const auto& name : names) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      const auto found = fs.lookup(directory, name);
      if (!found || name == "." || name == "..") continue;
      const InodeNumber inode = found->inode;
      if (S_ISDIR(found->mode)) queue.push_back(inode);
      if (S_ISLNK(found->mode)) (void)fs.symlink_target(inode);
      if (S_ISREG(found->mode)) {
        (void)fs.read(inode, 0, buffer);
        if (found->size > buffer.size()) (void)fs.read(inode, found->size - buffer.size(), buffer);
      }
      switch (++turn % 9) {
        case 0:
          (void)fs.unlink(directory, name);
          break;
        case 1:
          (void)fs.write(inode, 3000, buffer, AttributeChanges::Privileges::kClear);
          break;
        case 2:
          (void)fs.rename(directory, name, kRootInode, name + "x", {.mode = RenameMode::kReplace});
          break;
        case 3:
          for (const auto change : {RangeChange::kInsert, RangeChange::kCollapse})
            (void)fs.change_range(inode, change, {0, 65536}, EndOfFile::kKeep,
                                  AttributeChanges::Privileges::kKeep);
          (void)fs.set_attributes(inode, {.size = 10});
          (void)fs.set_attributes(inode, {.size = 1'000'000});
          break;
        case 4:
          (void)fs.remove_directory(directory, name);
          break;
        case 5:
          (void)fs.link(inode, directory, name + "l");
          break;
        case 6:
          (void)fs.write(inode, found->size, std::span(buffer).first(10),
                         AttributeChanges::Privileges::kKeep);
          break;
        default:
          break;
      }
      if (turn % 4 == 0) fs.forget(inode, 1);
    }
    for (int i = 0; i < 20; ++i) {
      const auto made =
          fs.make(directory, fmt::format("new {}", i), {.mode = (i % 4 == 0 ? S_IFDIR : S_IFREG) | 0755U});
      if (made && i % 4 != 0) (void)fs.write(made->inode, 0, buffer, AttributeChanges::Privileges::kKeep);
    }
    (void)fs.make_symlink(directory, "link", std::string(500, 'y'), {});
    if (turn % 50 == 0) (void)fs.sync();
  }
  (void)fs.statistics();
  (void)fs.sync();
}

TEST_P(Hostile, DamagedVolumesDoNoHarm) {
  unsigned first = 0;
  unsigned last = 39;
  if (const char* const seeds = std::getenv("FUSE4FS_HOSTILE_SEEDS")) {
    ASSERT_EQ(std::sscanf(seeds, "%u-%u", &first, &last), 2);
  }
  const auto tree = std::filesystem::path(testing::TempDir()) / fmt::format("hostile-tree-{}", ::getpid());
  std::filesystem::create_directories(tree / "many");
  std::filesystem::create_directories(tree / "deep/er/still");
  for (int i = 0; i < 200; ++i)
    std::ofstream(tree / "many" / fmt::format("a name of some length {}", i)) << i;
  for (int i = 0; i < 10; ++i) {
    // Every other block is a hole, so that the maps need blocks of their own.
    std::ofstream out(tree / "deep" / fmt::format("sparse{}", i), std::ios::binary);
    for (int j = 0; j < 60; ++j) {
      out.seekp(j * 2048);
      out << "block";
    }
  }
  std::filesystem::create_symlink(std::string(100, 't'), tree / "deep/link");
  std::filesystem::create_symlink("short", tree / "link");
  (void)run("setfattr -n user.one -v two " + (tree / "link").parent_path().string() + "/deep/sparse1");

  TestVolume volume(fmt::format("{} -O ^has_journal -b 1024 -N 512 -d {}", GetParam().options, tree.string()),
                    "4M");
  volume.events.echo = false;
  std::filesystem::remove_all(tree);
  ASSERT_EQ(volume.check(), "");
  const auto good = volume.image_bytes();
  std::vector<std::size_t> used;
  for (std::size_t i = 1024; i < good.size(); ++i) {
    if (good[i] != 0) used.push_back(i);
  }
  unsigned mounted = 0;
  for (unsigned seed = first; seed <= last; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937 random(seed);
    auto bytes = good;
    for (unsigned flips = 1 + random() % 30; flips > 0; --flips) {
      // Mostly where something is, or beside it; the superblock's geometry seldom, or nothing would mount.
      const std::size_t place = used[random() % used.size()] + random() % 3;
      if (place >= bytes.size() || (place < 2048 && random() % 8 != 0)) continue;
      switch (random() % 4) {
        case 0:
          bytes[place] = 0;
          break;
        case 1:
          bytes[place] = static_cast<char>(0xff);
          break;
        default:
          bytes[place] = static_cast<char>(random());
      }
    }
    spill(volume.image(), bytes);
    MountOptions options;
    options.errors = ErrorPolicy::kContinue;
    auto fs = volume.try_mount(options);
    if (!fs) {
      options.access = cache::Access::kReadOnly;
      fs = volume.try_mount(options);
    }
    if (!fs) {
      EXPECT_FALSE(fs.error().message.empty());
      continue;
    }
    ++mounted;
    ASSERT_NO_FATAL_FAILURE(exercise(**fs));
    (void)(*fs)->unmount();
  }
  // Else this tests nothing.
  EXPECT_GT(mounted, (last - first + 1) / 4);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, Hostile,
    testing::Values(Form{"plain", "-t ext4 -O ^metadata_csum"}, Form{"checksums", "-t ext4"},
                    Form{"inline_data", "-t ext4 -O ^metadata_csum,inline_data"},
                    Form{"ext2", "-t ext2 -O ^dir_index"},
                    Form{"bigalloc", "-t ext4 -O ^metadata_csum,bigalloc,^resize_inode -C 4096"},
                    Form{"ea_inode", "-t ext4 -O ^metadata_csum,ea_inode"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::ext4
