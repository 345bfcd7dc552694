// SPDX-License-Identifier: GPL-2.0-or-later
// The classes below the inodes in memory, used by many threads at once: each changes only inodes that it has
// for itself, and all read what none changes. For the thread sanitizer, and for e2fsck.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr int kThreads = 4;
constexpr int kCommonNames = 600;

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

struct Form {
  const char* name;
  const char* options;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class ParallelTest : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    volume_.mount();
    const auto common = volume_.make_directory(kRootInode, "common");
    for (int i = 0; i < kCommonNames; ++i) volume_.make_file(common, common_name(i));
    for (int i = 0; i < kThreads; ++i) volume_.make_directory(kRootInode, fmt::format("directory {}", i));
    ASSERT_EQ(volume_.unmount_and_check(), "");
    open_.emplace(volume_);
    common_ = inode_of("common");
    for (int i = 0; i < kThreads; ++i) directories_.push_back(inode_of(fmt::format("directory {}", i)));
  }

  static std::string common_name(int i) { return fmt::format("a name that everybody looks up {}", i); }
  Metadata& metadata() { return open_->metadata(); }
  Inode inode_of(std::string_view name) {
    Inode root = *metadata().inodes.read(kRootInode);
    return *metadata().inodes.read(**metadata().directories.find(root, name));
  }
  template <class Work>
  void in_threads(Work work) {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([=, this] {
        const auto handle = open_->change(credits::of_replay);
        work(i);
      });
  }

  Inode make_file(Inode& directory, std::string_view name) {
    auto& lower = metadata();
    Inode file;
    const auto number = lower.inode_allocator.take(directory.number, S_IFREG);
    EXPECT_TRUE(number);
    file.number = *number;
    file.raw.i_mode = S_IFREG | 0644;
    file.raw.i_links_count = 1;
    if (EXT2_INODE_SIZE(&lower.volume.super()) > EXT2_GOOD_OLD_INODE_SIZE)
      file.raw.i_extra_isize = extra_size_of_new_inodes(*lower.volume.super_pointer());
    lower.extents.initialise(file);
    EXPECT_TRUE(lower.volume.write_new_inode(file));
    EXPECT_TRUE(lower.directories.insert(directory, name, file.number, S_IFREG));
    return file;
  }
  void remove_file(Inode& directory, std::string_view name, Inode& file) {
    auto& lower = metadata();
    EXPECT_TRUE(lower.directories.remove(directory, name));
    EXPECT_TRUE(lower.extents.check(file));
    EXPECT_TRUE(lower.extents.truncate(file, 0));
    EXPECT_TRUE(lower.xattrs.release_all(file));
    file.raw.i_links_count = 0;
    file.raw.i_dtime = static_cast<std::uint32_t>(now().seconds);
    file.set_size(0);
    EXPECT_TRUE(lower.volume.write_inode(file));
    lower.inode_allocator.give_back(file.number, file.mode());
    EXPECT_FALSE(lower.inode_allocator.in_use(file.number));
  }
  // In pieces of a block with holes between them, so that its map needs more than the inode has room for.
  void fill(Inode& file, std::uint64_t pieces) {
    auto& lower = metadata();
    for (std::uint64_t i = 0; i < pieces; ++i) {
      const std::uint64_t logical = i * 2 * lower.volume.cluster_blocks();
      const auto run = lower.blocks.take(lower.extents.goal_for(file, logical), 1);
      ASSERT_TRUE(run);
      ASSERT_TRUE(lower.extents.insert(file, logical, run->first, run->count));
      ASSERT_TRUE(lower.extents.add_blocks(file, run->count / lower.volume.cluster_blocks()));
      file.set_size((logical + run->count) << lower.volume.block_bits());
    }
    ASSERT_TRUE(lower.volume.write_inode(file));
  }
  // As many blocks as it was given, wherever they are.
  [[nodiscard]] std::uint64_t mapped(const Inode& file) {
    std::uint64_t count = 0;
    const auto parts = metadata().extents.map(file, 0, file.size() >> metadata().volume.block_bits());
    EXPECT_TRUE(parts);
    for (const auto& part : *parts) count += part.kind == Mapping::Kind::kHole ? 0 : part.count;
    return count;
  }

  TestVolume volume_{std::string("-b 1024 -q ") + GetParam().options};
  std::optional<OpenVolume> open_;
  Inode common_;
  std::vector<Inode> directories_;
};

TEST_P(ParallelTest, DirectoriesOfTheirOwnAndOneOfAll) {
  constexpr int kNames = 250;
  in_threads([this](int thread) {
    auto& lower = metadata();
    Inode& mine = directories_[thread];
    const auto name_of = [](int i) { return fmt::format("a name with some length to it {}", i); };
    std::set<std::string> expected{".", ".."};
    Inode file = make_file(mine, "the file");
    expected.insert("the file");
    for (int i = 0; i < kNames; ++i) {
      ASSERT_TRUE(lower.directories.insert(mine, name_of(i), file.number, S_IFREG));
      ++file.raw.i_links_count;
      const auto& common = common_name((i * 7 + thread) % kCommonNames);
      const auto found = lower.directories.find(common_, common);
      ASSERT_TRUE(found && *found) << common;
      ASSERT_TRUE(lower.inode_allocator.in_use(**found));
    }
    for (int i = 0; i < kNames; ++i) {
      if (i % 3 == 0) {
        expected.insert(name_of(i));
        continue;
      }
      ASSERT_TRUE(lower.directories.remove(mine, name_of(i)));
      --file.raw.i_links_count;
    }
    ASSERT_TRUE(lower.volume.write_inode(file));
    std::set<std::string> listed;
    ASSERT_TRUE(lower.directories.list(mine, 0, [&](const DirectoryEntry& entry) {
      listed.emplace(entry.name);
      return true;
    }));
    EXPECT_EQ(listed, expected);
    int count = 0;
    ASSERT_TRUE(lower.directories.list(common_, 0, [&](const DirectoryEntry&) {
      ++count;
      return true;
    }));
    EXPECT_EQ(count, kCommonNames + 2);
  });
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
}

TEST_P(ParallelTest, FilesAndTheirMaps) {
  constexpr std::uint64_t kPieces = 120;
  in_threads([this](int thread) {
    auto& lower = metadata();
    Inode& mine = directories_[thread];
    const std::uint64_t cluster = lower.volume.cluster_blocks();
    for (int round = 0; round < 3; ++round) {
      const auto name = fmt::format("file {}", round);
      Inode file = make_file(mine, name);
      fill(file, kPieces);
      EXPECT_EQ(mapped(file), kPieces * cluster);
      ASSERT_TRUE(lower.extents.remove(file, 0, kPieces * cluster));
      EXPECT_EQ(mapped(file), kPieces / 2 * cluster);
      const std::uint64_t kept = kPieces * 3 / 2 * cluster;
      ASSERT_TRUE(lower.extents.truncate(file, kept));
      file.set_size(kept << lower.volume.block_bits());
      ASSERT_TRUE(lower.volume.write_inode(file));
      EXPECT_EQ(mapped(file), kPieces / 4 * cluster);
      if (round != 0) remove_file(mine, name, file);
    }
  });
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
}

// Equal ones share blocks, and inodes of values.
TEST_P(ParallelTest, ExtendedAttributes) {
  constexpr int kFiles = 12;
  in_threads([this](int thread) {
    auto& lower = metadata();
    Inode& mine = directories_[thread];
    const bool has_value_inodes = ext2fs_has_feature_ea_inode(lower.volume.super_pointer()) != 0;
    for (int round = 0; round < kFiles; ++round) {
      const auto name = fmt::format("file {}", round);
      Inode file = make_file(mine, name);
      const auto set = [&](std::string_view suffix, const std::string& value) {
        const auto done =
            lower.xattrs.set(file, {XattrIndex::kUser, suffix}, bytes_of(value), XattrMode::kCreateOrReplace);
        ASSERT_TRUE(done) << done.error().message();
      };
      const auto get = [&](std::string_view suffix) -> std::optional<std::vector<std::byte>> {
        const auto value = lower.xattrs.get(file, {XattrIndex::kUser, suffix});
        EXPECT_TRUE(value);
        return value ? *value : std::nullopt;
      };
      const std::string common = fmt::format("of all {}", std::string(300, 'c'));
      const std::string own = fmt::format("of thread {}, round {}", thread, round);
      const std::string large(3000, static_cast<char>('a' + round % 3));
      set("common", common);
      if (has_value_inodes) set("large", large);
      if (round % 2 == 0) set("own", own);
      EXPECT_EQ(get("common"), bytes_of(common));
      if (has_value_inodes) {
        EXPECT_EQ(get("large"), bytes_of(large));
      }
      if (round % 2 == 0) {
        EXPECT_EQ(get("own"), bytes_of(own));
      }
      EXPECT_EQ(get("none"), std::nullopt);
      if (round % 3 == 0) {
        EXPECT_TRUE(lower.xattrs.remove(file, {XattrIndex::kUser, "common"}));
      }
      if (round % 4 == 1) remove_file(mine, name, file);
    }
  });
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, ParallelTest,
                         testing::Values(Form{"usual", "-t ext4 -I 256 -O ea_inode"},
                                         Form{"short_inodes", "-t ext4 -I 128"},
                                         Form{"no_index", "-t ext4 -O ^dir_index,^metadata_csum"},
                                         Form{"clusters", "-t ext4 -O bigalloc -C 4096"},
                                         Form{"ext2", "-t ext2"}),
                         [](const auto& of) { return std::string(of.param.name); });

// Both believe that it is theirs alone. For the thread sanitizer.
TEST(ParallelXattrs, ABlockThatIsInUseTwiceHoldsStillForItsReaders) {
  TestVolume volume("-t ext4 -b 1024 -q");
  volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  const auto value = [](int i) { return fmt::format("value {}{}", i, std::string(300, 'v')); };
  ASSERT_TRUE(
      volume.fs().set_xattr(file, "user.name", bytes_of(value(0)), XattrMode::kCreate, SetgidBit::kKeep));
  volume.make_file(kRootInode, "second");
  volume.unmount();
  const auto block = volume.image_bytes().find(value(0)) / 1024;
  ASSERT_EQ(
      run(fmt::format("debugfs -w -R 'sif second file_acl {}' {}", block, volume.image().string())).status,
      0);
  auto& fs = volume.mount();
  const auto first = fs.lookup(kRootInode, "file")->inode;
  const auto second = fs.lookup(kRootInode, "second")->inode;
  constexpr int kChanges = 300;
  std::jthread changes([&] {
    for (int i = 1; i <= kChanges; ++i)
      EXPECT_TRUE(
          fs.set_xattr(first, "user.name", bytes_of(value(i)), XattrMode::kReplace, SetgidBit::kKeep));
  });
  std::vector<std::byte> seen;
  while (seen != bytes_of(value(kChanges))) {
    const auto got = fs.xattr(second, "user.name");
    ASSERT_TRUE(got);
    const std::string text(reinterpret_cast<const char*>(got->data()), got->size());
    EXPECT_EQ(text, value(std::stoi(text.substr(6))));
    seen = *got;
  }
  changes.join();
  EXPECT_TRUE(volume.events.corruptions.empty());
}

TEST(ParallelErrors, AreAllCounted) {
  constexpr int kErrors = 200;
  TestVolume volume;
  volume.events.echo = false;
  {
    OpenVolume open(volume);
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&open, thread] {
        // Whatever it holds.
        auto group = open.volume().groups().lock(0);
        if (thread % 2 == 0) group.unlock();
        for (int i = 0; i < kErrors; ++i)
          EXPECT_EQ(open.volume().corrupted(100 + thread, 0, "this is a test"), kCorrupted);
      });
    }
    threads.clear();
    EXPECT_TRUE(open.volume().needs_write_back());
    open.finish();
  }
  EXPECT_EQ(volume.events.corruptions.size(), std::size_t{kThreads} * kErrors);
  const auto super = run("dumpe2fs -h " + volume.image().string()).output;
  EXPECT_NE(super.find(fmt::format("FS Error count:           {}\n", kThreads * kErrors)), std::string::npos)
      << super;
  EXPECT_NE(super.find("not clean with errors"), std::string::npos) << super;
}

// Whoever meets it may hold any lock, and be in the middle of a change: nothing of that is written.
TEST(ParallelErrors, AShutDownWritesNothingButTheError) {
  TestVolume volume;
  volume.events.echo = false;
  {
    OpenVolume open(volume, ErrorPolicy::kShutDown);
    auto& lower = open.metadata();
    ASSERT_TRUE(lower.volume.write_back());
    const auto free = lower.blocks.free_blocks();
    Inode root = *lower.inodes.read(kRootInode);
    root.set_modified({.seconds = 1, .nanoseconds = 0});
    std::optional handle(open.change());
    ASSERT_TRUE(lower.volume.write_inode(root));
    ASSERT_TRUE(lower.blocks.take(0, 100));
    ASSERT_LT(lower.blocks.free_blocks(), free);
    handle.reset();
    {
      Guarded<int, LockRank::kBlockCache> high{0};
      const auto group = lower.volume.groups().lock(0);
      const auto held = high.lock();
      EXPECT_EQ(lower.volume.corrupted(17, 1234, "this is a test"), kCorrupted);
    }
    EXPECT_EQ(lower.volume.check_alive().error(), Errno(EIO));
    EXPECT_TRUE(lower.volume.has_lost_writes());
    EXPECT_FALSE(lower.volume.needs_write_back());
    EXPECT_FALSE(lower.volume.write_out());
  }
  const auto super = run("dumpe2fs -h " + volume.image().string()).output;
  EXPECT_NE(super.find("FS Error count:           1\n"), std::string::npos) << super;
  EXPECT_NE(super.find("First error inode #:      17\n"), std::string::npos) << super;
  EXPECT_NE(super.find("First error block #:      1234\n"), std::string::npos) << super;
  EXPECT_NE(super.find("not clean with errors"), std::string::npos) << super;
  // What was changed is not there, neither of it.
  EXPECT_EQ(volume.debugfs("stat <2>").find("mtime: 0x00000001"), std::string::npos);
  EXPECT_EQ(volume.check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
