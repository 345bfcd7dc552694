// SPDX-License-Identifier: GPL-2.0-or-later
// Fast commits of records made by hand, on volumes of every form: what they leave behind, and what they may
// not.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/ext4/fast_commit_replay.h"
#include "server/ext4/orphans.h"
#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

using testing::HasSubstr;
using What = NameChange::What;
using Records = std::vector<FastCommitRecord>;

struct Form {
  const char* name;
  const char* options;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

// A file or directory that is new, or was there.
struct Look {
  mode_t mode = S_IFREG | 0640;
  std::uint64_t size = 0;
  std::uint16_t links = 1;
  std::uint32_t generation = 77;
};

class FastCommit : public testing::TestWithParam<Form> {
 protected:
  FastCommit() : volume_(GetParam().options, "12M") {
    volume_.mount();
    kept_ = volume_.make_file(kRootInode, "kept");
    volume_.write(kept_, 0, std::string(3 * 4096, 'k'));
    victim_ = volume_.make_file(kRootInode, "victim");
    volume_.write(victim_, 0, std::string(5000, 'v'));
    EXPECT_EQ(volume_.unmount_and_check(), "");
    open_.emplace(volume_);
    size_ = open_->volume().block_size();
    fresh_ = 100;
  }

  Metadata& metadata() { return open_->metadata(); }

  [[nodiscard]] InodeImage image(InodeNumber number, const Look& look) {
    Inode inode;
    inode.raw.i_mode = static_cast<std::uint16_t>(look.mode);
    inode.set_size(look.size);
    inode.raw.i_links_count = look.links;
    inode.raw.i_generation = look.generation;
    inode.raw.i_extra_isize = extra_size_of_new_inodes(*open_->volume().super_pointer());
    inode.raw.i_mtime = 1'000'000;
    // A map that must not be believed.
    std::memset(inode.raw.i_block, 0x55, sizeof inode.raw.i_block);
    if (open_->volume().has_extents()) inode.raw.i_flags = EXT4_EXTENTS_FL;
    std::vector<std::byte> bytes(EXT2_GOOD_OLD_INODE_SIZE + inode.raw.i_extra_isize);
    std::memcpy(bytes.data(), &inode.raw, std::min(bytes.size(), sizeof inode.raw));
    return {number, bytes};
  }
  // Of an inode that is there: as it is, but for what `change` does.
  [[nodiscard]] InodeImage image_of(InodeNumber number, const std::function<void(Inode&)>& change) {
    auto inode = *metadata().inodes.read_raw(number);
    change(inode);
    std::vector<std::byte> bytes(EXT2_GOOD_OLD_INODE_SIZE + inode.raw.i_extra_isize);
    std::memcpy(bytes.data(), &inode.raw, std::min(bytes.size(), sizeof inode.raw));
    return {number, bytes};
  }
  // Free blocks, filled with a letter as file data.
  [[nodiscard]] std::uint64_t data(std::uint64_t blocks, char letter, std::uint64_t goal = 0) {
    const auto handle = open_->change();
    const auto run = metadata().blocks.take(goal != 0 ? goal : open_->volume().blocks() / 2, blocks);
    EXPECT_TRUE(run && run->count >= blocks);
    EXPECT_TRUE(metadata().blocks.give_back(*run, 0));
    const std::string bytes(blocks * size_, letter);
    EXPECT_TRUE(open_->volume().device().write(run->first * size_, std::as_bytes(std::span(bytes))));
    return run->first;
  }

  Outcome<FastCommitSummary> replay(const Records& records) {
    auto all = records;
    all.emplace_back(CommitEnd{});
    return replay_fast_commits(metadata(), all);
  }
  // Replays, deletes orphans, unmounts; e2fsck must be content; and mounts again.
  FastCommitSummary replay_and_mount(const Records& records) {
    const auto done = replay(records);
    EXPECT_TRUE(done) << done.error().message;
    const auto cleaned = process_orphans(metadata());
    EXPECT_TRUE(cleaned) << cleaned.error().message;
    EXPECT_EQ(cleaned->damaged, 0U);
    deleted_ = cleaned->deleted;
    open_->finish();
    EXPECT_EQ(volume_.check(), "");
    volume_.mount();
    return done ? *done : FastCommitSummary{};
  }
  [[nodiscard]] std::optional<Attributes> look_up(std::string_view name, InodeNumber in = kRootInode) {
    const auto found = volume_.fs().lookup(in, name);
    if (!found) return std::nullopt;
    return *found;
  }

  TestVolume volume_;
  std::optional<OpenVolume> open_;
  std::uint32_t size_ = 0;
  InodeNumber kept_ = 0, victim_ = 0, fresh_ = 0;
  std::uint64_t deleted_ = 0;
};

TEST_P(FastCommit, ANewFileWithItsBlocks) {
  const auto first = data(4, 'a');
  const auto other = data(4, 'b', first + 16);
  replay_and_mount({image(fresh_, {.size = 8 * size_ - 10}), AddRange{fresh_, 0, first, 4},
                    AddRange{fresh_, 4, other, 4}, NameChange{What::kCreate, kRootInode, fresh_, "new"}});
  const auto found = look_up("new");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->inode, fresh_);
  EXPECT_EQ(found->mode, S_IFREG | 0640U);
  EXPECT_EQ(found->links, 1U);
  EXPECT_EQ(found->modified.seconds, 1'000'000);
  EXPECT_EQ(volume_.read(fresh_, 0, 9 * size_),
            std::string(4 * size_, 'a') + std::string(4 * size_ - 10, 'b'));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// O_TMPFILE and linkat(2): the name comes first.
TEST_P(FastCommit, ANameBeforeItsInode) {
  const auto first = data(4, 't');
  replay_and_mount({NameChange{What::kLink, kRootInode, fresh_, "linked"}, AddRange{fresh_, 0, first, 4},
                    image(fresh_, {.size = 4 * size_})});
  ASSERT_TRUE(look_up("linked"));
  EXPECT_EQ(volume_.read(fresh_, 0, 4 * size_), std::string(4 * size_, 't'));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(FastCommit, NewDirectoriesAndWhatIsInThem) {
  const InodeNumber deep = fresh_ + 1, file = fresh_ + 2;
  replay_and_mount({image(fresh_, {.mode = S_IFDIR | 0755, .size = size_, .links = 3}),
                    NameChange{What::kCreate, kRootInode, fresh_, "d"},
                    image(deep, {.mode = S_IFDIR | 0700, .size = size_, .links = 2}),
                    NameChange{What::kCreate, fresh_, deep, "e"}, image(file, {}),
                    NameChange{What::kCreate, deep, file, "f"},
                    NameChange{What::kLink, fresh_, file, "f again"},
                    image_of(kRootInode, [](Inode& root) { ++root.raw.i_links_count; })});
  const auto directory = look_up("d");
  ASSERT_TRUE(directory);
  EXPECT_EQ(directory->links, 3U);
  EXPECT_EQ(look_up("e", fresh_)->links, 2U);
  EXPECT_EQ(look_up("f", deep)->inode, file);
  EXPECT_EQ(look_up("f again", fresh_)->links, 2U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(FastCommit, ARenameOverAnotherFile) {
  replay_and_mount({NameChange{What::kUnlink, kRootInode, victim_, "victim"},
                    NameChange{What::kLink, kRootInode, kept_, "victim"},
                    NameChange{What::kUnlink, kRootInode, kept_, "kept"}});
  EXPECT_FALSE(look_up("kept"));
  EXPECT_EQ(look_up("victim")->inode, kept_);
  EXPECT_EQ(look_up("victim")->links, 1U);
  EXPECT_EQ(deleted_, 1U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// It was written to after its last name went; then the power.
TEST_P(FastCommit, BlocksForAFileWithoutAName) {
  const auto first = data(4, 'x');
  const auto free = metadata().blocks.free_blocks();
  const auto before = metadata().inodes.read_raw(victim_)->sectors(open_->volume().super(), size_);
  const auto summary = replay_and_mount({NameChange{What::kUnlink, kRootInode, victim_, "victim"},
                                         AddRange{victim_, 8, first, 4}, image_of(victim_, [&](Inode& inode) {
                                           inode.raw.i_links_count = 0;
                                           inode.set_size(12 * size_);
                                         })});
  EXPECT_EQ(summary.orphans, 1U);
  EXPECT_EQ(deleted_, 1U);
  EXPECT_EQ(volume_.fs().statistics()->free_blocks * size_, free * size_ + before * 512);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// An orphan of the last full commit stays one though a fast commit has its inode, with what its i_dtime was
// later; and those behind it are not lost.
TEST_P(FastCommit, OrphansThatWereThereStay) {
  std::optional handle(open_->change(credits::of_replay));
  for (const InodeNumber number : {victim_, kept_}) {
    auto root = *metadata().inodes.read_raw(kRootInode);
    ASSERT_TRUE(metadata().directories.remove(root, number == kept_ ? "kept" : "victim"));
    auto inode = *metadata().inodes.read_raw(number);
    inode.raw.i_links_count = 0;
    ASSERT_TRUE(metadata().inodes.write(inode));
  }
  ASSERT_TRUE(write_orphan_chain(metadata(), {{victim_, kept_}, 0}));
  handle.reset();
  replay_and_mount({image_of(victim_, [](Inode& inode) { inode.raw.i_dtime = 0; })});
  EXPECT_EQ(deleted_, 2U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(FastCommit, ANewInodeWithoutANameGoes) {
  const auto first = data(4, 'x');
  const auto inodes = open_->volume().groups().free_inodes();
  const auto summary = replay_and_mount({image(fresh_, {.size = 4 * size_}), AddRange{fresh_, 0, first, 4}});
  EXPECT_EQ(summary.orphans, 1U);
  EXPECT_EQ(deleted_, 1U);
  EXPECT_EQ(volume_.fs().statistics()->free_inodes, inodes);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// An fsync has its image, with the one name that it had; a later commit has the end of the name.
TEST_P(FastCommit, AFileThatGoesAfterItsImage) {
  replay_and_mount(
      {image_of(kept_, [](Inode&) {}), CommitEnd{}, NameChange{What::kUnlink, kRootInode, kept_, "kept"}});
  EXPECT_FALSE(look_up("kept"));
  EXPECT_EQ(deleted_, 1U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// One of its names had gone in a commit that wrote the image, the other one later, without one.
TEST_P(FastCommit, BothNamesGo) {
  std::optional handle(open_->change(credits::of_link));
  auto root = *metadata().inodes.read_raw(kRootInode);
  ASSERT_TRUE(metadata().directories.insert(root, "kept too", kept_, S_IFREG));
  auto inode = *metadata().inodes.read_raw(kept_);
  inode.raw.i_links_count = 2;
  ASSERT_TRUE(metadata().inodes.write(inode));
  handle.reset();
  replay_and_mount({NameChange{What::kUnlink, kRootInode, kept_, "kept"},
                    image_of(kept_, [](Inode& one) { one.raw.i_links_count = 1; }), CommitEnd{},
                    NameChange{What::kUnlink, kRootInode, kept_, "kept too"}});
  EXPECT_FALSE(look_up("kept"));
  EXPECT_FALSE(look_up("kept too"));
  EXPECT_EQ(deleted_, 1U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(FastCommit, WhatIsNotThereIsPassedOver) {
  const auto summary = replay_and_mount({NameChange{What::kLink, kRootInode, 200, "nothing"},
                                         NameChange{What::kUnlink, kRootInode, kept_, "no such name"},
                                         NameChange{What::kLink, 201, kept_, "nowhere"},
                                         AddRange{202, 0, data(4, 'x'), 4}, DeleteRange{202, 0, 100}});
  EXPECT_EQ(summary.dropped, 5U);
  EXPECT_FALSE(look_up("nothing"));
  EXPECT_EQ(look_up("kept")->links, 1U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// An append of which the fast commit has the blocks, but not the size.
TEST_P(FastCommit, BlocksBehindTheEndGo) {
  const auto first = data(8, 'x');
  const auto sectors = metadata().inodes.read_raw(kept_)->sectors(open_->volume().super(), size_);
  replay_and_mount({AddRange{kept_, 32, first, 8}, image_of(kept_, [](Inode&) {})});
  EXPECT_EQ(look_up("kept")->sectors, sectors);
  EXPECT_EQ(volume_.read(kept_, 0, 20'000), std::string(3 * 4096, 'k'));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(FastCommit, SaysHowFarItIs) {
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> last;
  const Records records = {image_of(kept_, [](Inode&) {}), image_of(victim_, [](Inode&) {}), CommitEnd{}};
  ASSERT_TRUE(replay_fast_commits(metadata(), records, [&](std::string_view doing, auto done, auto all) {
    EXPECT_LE(done, all);
    last[std::string(doing)] = {done, all};
  }));
  using Count = std::pair<std::uint64_t, std::uint64_t>;
  EXPECT_EQ(last["looking at the files of the fast commits"], Count(2, 2));
  EXPECT_EQ(last["replaying the fast commits"], Count(3, 3));
  EXPECT_EQ(last["settling the files of the fast commits"], Count(2, 2));
}

TEST_P(FastCommit, ATruncate) {
  replay_and_mount(
      {DeleteRange{kept_, 0, 0xffffffff}, image_of(kept_, [](Inode& inode) { inode.set_size(0); })});
  EXPECT_EQ(look_up("kept")->size, 0U);
  EXPECT_EQ(look_up("kept")->sectors, 0U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// In either order.
TEST_P(FastCommit, ABlockGoesFromOneFileToAnother) {
  const auto parts = *metadata().extents.map(*metadata().inodes.read_raw(victim_), 0, 4);
  const auto block = parts[0].physical;
  const std::uint64_t count = open_->volume().cluster_blocks();
  replay_and_mount({AddRange{kept_, 64, block, count}, DeleteRange{victim_, 0, 100},
                    image_of(victim_, [](Inode& inode) { inode.set_size(0); }),
                    image_of(kept_, [&](Inode& inode) { inode.set_size(64 * size_ + 100); })});
  EXPECT_EQ(volume_.read(kept_, 64 * size_, 200), std::string(100, 'v'));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// data=writeback: the file is gone, and the bitmap that says so was not committed yet.
TEST_P(FastCommit, ABlockOfAFileThatIsGone) {
  const auto parts = *metadata().extents.map(*metadata().inodes.read_raw(victim_), 0, 4);
  const std::uint64_t count = open_->volume().cluster_blocks();
  replay_and_mount({NameChange{What::kUnlink, kRootInode, victim_, "victim"},
                    AddRange{kept_, 64, parts[0].physical, count},
                    image_of(kept_, [&](Inode& inode) { inode.set_size(64 * size_ + 100); })});
  EXPECT_EQ(volume_.read(kept_, 64 * size_, 200), std::string(100, 'v'));
  EXPECT_EQ(deleted_, 1U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// The number of a file that is gone; its attributes do not come along.
TEST_P(FastCommit, ANumberThatGoesToAnotherFile) {
  auto inode = *metadata().inodes.read_raw(victim_);
  const std::string value(20, 'x');
  {
    const auto handle = open_->change();
    ASSERT_TRUE(metadata().xattrs.set(inode, {XattrIndex::kUser, "old"}, std::as_bytes(std::span(value)),
                                      XattrMode::kCreate));
  }
  replay_and_mount({NameChange{What::kUnlink, kRootInode, victim_, "victim"},
                    image(victim_, {.generation = 78}),
                    NameChange{What::kCreate, kRootInode, victim_, "another"}});
  ASSERT_TRUE(look_up("another"));
  EXPECT_EQ(look_up("another")->size, 0U);
  EXPECT_EQ(look_up("another")->sectors, 0U);
  EXPECT_EQ(*volume_.fs().xattr_names(victim_), "");
  EXPECT_EQ(deleted_, 0U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// As after a recovery that was cut short.
TEST_P(FastCommit, Twice) {
  const auto first = data(4, 'a');
  const Records records = {image(fresh_, {.size = 4 * size_}), AddRange{fresh_, 0, first, 4},
                           NameChange{What::kCreate, kRootInode, fresh_, "new"},
                           NameChange{What::kLink, kRootInode, kept_, "kept too"},
                           image_of(kept_, [](Inode& inode) { inode.raw.i_links_count = 2; })};
  ASSERT_TRUE(replay(records));
  replay_and_mount(records);
  EXPECT_EQ(look_up("new")->links, 1U);
  EXPECT_EQ(look_up("kept too")->links, 2U);
  EXPECT_EQ(volume_.read(fresh_, 0, 4 * size_), std::string(4 * size_, 'a'));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// The write-back of a replay was cut: inodes and directories reached the medium, the bitmaps did not; or the
// other way round.
class HalfWritten : public FastCommit {
 protected:
  [[nodiscard]] std::vector<std::pair<std::uint64_t, std::uint64_t>> bitmaps() {
    auto* const fs = open_->volume().fs();
    std::vector<std::pair<std::uint64_t, std::uint64_t>> runs{
        {fs->super->s_first_data_block * size_, (1 + fs->desc_blocks) * size_}};
    for (dgrp_t group = 0; group < fs->group_desc_count; ++group) {
      runs.emplace_back(ext2fs_block_bitmap_loc(fs, group) * size_, size_);
      runs.emplace_back(ext2fs_inode_bitmap_loc(fs, group) * size_, size_);
    }
    return runs;
  }
  void put(const std::string& bytes) {
    std::ofstream(volume_.image(), std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
};

TEST_P(HalfWritten, InodesWithoutBitmapsIsMended) {
  const auto first = data(4, 'a');
  const auto other = data(4, 'b', first + 16);
  const Records records = {AddRange{kept_, 64, first, 4}, AddRange{kept_, 80, other, 4},
                           image_of(kept_, [&](Inode& inode) { inode.set_size(84 * size_); }),
                           image(fresh_, {}), NameChange{What::kCreate, kRootInode, fresh_, "new"}};
  const auto before = volume_.image_bytes();
  const auto places = bitmaps();
  ASSERT_TRUE(replay(records));
  open_->finish();
  ASSERT_EQ(volume_.check(), "");
  auto mixed = volume_.image_bytes();
  for (const auto& [at, length] : places) mixed.replace(at, length, before, at, length);
  put(mixed);
  open_.emplace(volume_);
  replay_and_mount(records);
  EXPECT_EQ(volume_.read(kept_, 64 * size_, 4 * size_), std::string(4 * size_, 'a'));
  EXPECT_EQ(volume_.read(kept_, 80 * size_, 4 * size_), std::string(4 * size_, 'b'));
  EXPECT_TRUE(look_up("new"));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// The bitmaps and their summary, and no inode: whose the blocks are cannot be told from the bitmap, so the
// inodes are asked. In the places of new inodes is what former owners left: here a map of blocks that another
// file has by now.
TEST_P(HalfWritten, BitmapsWithoutInodesIsMended) {
  auto stale = *metadata().inodes.read_raw(kept_);
  stale.number = fresh_;
  stale.raw.i_links_count = 0;
  stale.raw.i_dtime = 1'000'000;
  stale.raw.i_generation = 5;
  {
    const auto handle = open_->change();
    ASSERT_TRUE(metadata().inodes.write(stale));
  }
  open_->finish();
  ASSERT_EQ(volume_.check(), "");
  open_.emplace(volume_);
  const auto first = data(4, 'a');
  const auto other = data(4, 'b', first + 16);
  const Records records = {AddRange{victim_, 8, first, 4},
                           image_of(victim_, [&](Inode& inode) { inode.set_size(12 * size_); }),
                           image(fresh_, {.size = 4 * size_}), AddRange{fresh_, 0, other, 4},
                           NameChange{What::kCreate, kRootInode, fresh_, "new"}};
  auto mixed = volume_.image_bytes();
  const auto places = bitmaps();
  ASSERT_TRUE(replay(records));
  open_->finish();
  const auto after = volume_.image_bytes();
  for (const auto& [at, length] : places) mixed.replace(at, length, after, at, length);
  put(mixed);
  open_.emplace(volume_);
  replay_and_mount(records);
  EXPECT_EQ(volume_.read(kept_, 0, 20'000), std::string(3 * 4096, 'k'));
  EXPECT_EQ(volume_.read(victim_, 8 * size_, 4 * size_), std::string(4 * size_, 'a'));
  EXPECT_EQ(volume_.read(fresh_, 0, 4 * size_), std::string(4 * size_, 'b'));
  EXPECT_EQ(look_up("new")->inode, fresh_);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

class HostileFastCommit : public FastCommit {};

TEST_P(HostileFastCommit, IsRefusedAndNothingIsWritten) {
  const auto bitmap = ext2fs_block_bitmap_loc(open_->volume().fs(), 0);
  const auto last = open_->volume().blocks() - 1;
  const auto free = data(8, 'x');
  const struct {
    const char* name;
    Records records;
    const char* words;
  } cases[] = {
      {"over a bitmap", {AddRange{kept_, 64, bitmap & ~15ULL, 16}}, "which no file may own"},
      {"outside", {AddRange{kept_, 64, last, 2}}, "which no file may own"},
      {"far outside", {AddRange{kept_, 64, (1ULL << 48) - 1, 1}}, "which no file may own"},
      {"of no length", {AddRange{kept_, 64, free, 0}}, "0 blocks"},
      {"behind the last block", {AddRange{kept_, 0xffffffff, free, 1}}, "at block 4294967295"},
      {"the root", {AddRange{kRootInode, 0, free, 1}}, "inode 2"},
      {"a reserved inode", {DeleteRange{7, 0, 1}}, "inode 7"},
      {"inode 0", {NameChange{What::kLink, kRootInode, 0, "x"}}, "inode 0"},
      {"an inode behind the last", {image(1U << 30, {})}, "no file can have"},
      {"two files",
       {AddRange{kept_, 64, free, 4}, AddRange{victim_, 64, free, 4},
        image_of(kept_, [&](Inode& inode) { inode.set_size(68 * size_); }),
        image_of(victim_, [&](Inode& inode) { inode.set_size(68 * size_); })},
       "would belong to"},
      {"a file that keeps them",
       {AddRange{kept_, 64,
                 metadata().extents.map(*metadata().inodes.read_raw(victim_), 0, 1)->front().physical,
                 open_->volume().cluster_blocks()},
        image_of(kept_, [&](Inode& inode) { inode.set_size(68 * size_); })},
       "would belong to 2"},
      {"a dot", {NameChange{What::kLink, kRootInode, kept_, ".."}}, "impossible name"},
      {"a slash", {NameChange{What::kLink, kRootInode, kept_, "a/b"}}, "impossible name"},
      {"itself", {NameChange{What::kCreate, fresh_, fresh_, "x"}}, "cannot be"},
      {"a file in a file", {NameChange{What::kLink, kept_, victim_, "x"}}, "no directory"},
      {"a directory twice",
       {image(fresh_, {.mode = S_IFDIR | 0755}), NameChange{What::kCreate, kRootInode, fresh_, "a"},
        NameChange{What::kLink, kRootInode, fresh_, "b"}},
       "two names"},
      {"a directory with files goes",
       {image(fresh_, {.mode = S_IFDIR | 0755}), NameChange{What::kCreate, kRootInode, fresh_, "a"},
        NameChange{What::kLink, fresh_, kept_, "b"}, NameChange{What::kUnlink, kRootInode, fresh_, "a"}},
       "goes with its files"},
      {"a target that becomes a map",
       {image(fresh_, {.mode = S_IFLNK | 0777, .size = 7}), CommitEnd{},
        image(fresh_, {.mode = S_IFLNK | 0777, .size = 131079})},
       "changes its length"},
      {"another kind", {image_of(kept_, [](Inode& inode) { inode.raw.i_mode = S_IFDIR; })}, "another kind"},
      {"no kind", {image(fresh_, {.mode = 0})}, "no known type"},
      {"an attribute's value",
       {image_of(kept_, [](Inode& inode) { inode.raw.i_flags |= EXT4_EA_INODE_FL; })},
       "flags"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.name);
    // Each on a volume as it was: what one of them left behind in memory goes.
    open_.reset();
    open_.emplace(volume_);
    const auto opened = volume_.image_bytes();
    const auto done = replay(one.records);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().error, kCorrupted);
    EXPECT_THAT(done.error().message, HasSubstr(one.words));
    EXPECT_TRUE(volume_.image_bytes() == opened) << "something was written";
  }
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
}

TEST_P(HostileFastCommit, ClustersAreForExtentsAlone) {
  auto mapped = image(fresh_, {.size = 4 * size_});
  std::memset(mapped.bytes.data() + offsetof(ext2_inode_large, i_flags), 0, sizeof(std::uint32_t));
  const auto done = replay(
      {mapped, AddRange{fresh_, 0, data(4, 'x'), 4}, NameChange{What::kCreate, kRootInode, fresh_, "new"}});
  ASSERT_EQ(done.has_value(), open_->volume().cluster_blocks() == 1);
  if (done) return;
  EXPECT_THAT(done.error().message, HasSubstr("has no extents"));
}

INSTANTIATE_TEST_SUITE_P(Forms, FastCommit,
                         testing::Values(Form{"4k", "-t ext4 -b 4096"}, Form{"1k", "-t ext4 -b 1024"},
                                         Form{"bigalloc", "-t ext4 -b 4096 -O bigalloc -C 16384"},
                                         Form{"inline_data", "-t ext4 -b 4096 -O inline_data"},
                                         Form{"old", "-t ext4 -b 4096 -O ^metadata_csum,^64bit -I 128"},
                                         Form{"ext3", "-t ext3 -b 1024"},
                                         Form{"orphan_file", "-t ext4 -b 2048 -O orphan_file"}),
                         [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(FastCommitForms, HalfWritten,
                         testing::Values(Form{"4k", "-t ext4 -b 4096"}, Form{"1k", "-t ext4 -b 1024"},
                                         Form{"bigalloc", "-t ext4 -b 4096 -O bigalloc -C 16384"},
                                         Form{"ext3", "-t ext3 -b 1024"}),
                         [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(Forms, HostileFastCommit,
                         testing::Values(Form{"4k", "-t ext4 -b 4096"},
                                         Form{"bigalloc", "-t ext4 -b 4096 -O bigalloc -C 16384"},
                                         Form{"ext3", "-t ext3 -b 1024"}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::ext4
