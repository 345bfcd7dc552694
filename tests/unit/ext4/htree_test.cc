// SPDX-License-Identifier: GPL-2.0-or-later
// Hashed directories: all hashes and forms against a model, e2fsck as the judge; listings while names come
// and go; what an index can hold; indexes that lie.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>

#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

struct Form {
  const char* name;
  const char* options;
  const char* hash = "half_md4";
  const char* flags = "1";  // of the superblock: characters are signed
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class HTreeForms : public testing::TestWithParam<Form> {
 protected:
  HTreeForms() : volume_(fmt::format("-N 8192 {}", GetParam().options), "32M") {
    const auto image = volume_.image().string();
    EXPECT_EQ(run(fmt::format("tune2fs -E hash_alg={} {}", GetParam().hash, image)).status, 0);
    EXPECT_EQ(run(fmt::format("debugfs -w -R 'ssv flags {}' {}", GetParam().flags, image)).status, 0);
  }
  [[nodiscard]] std::uint32_t flags_of(InodeNumber inode) { return volume_.fs().attributes(inode)->flags; }
  TestVolume volume_;
};

// Lengths from 1 to 255, and bytes above 127, which the hashes take as signed or not.
std::string random_name(std::mt19937& random) {
  std::string name = fmt::format("{:x}", random() % 6000);
  if (random() % 3 == 0) name += std::string(1 + random() % 60, static_cast<char>(0xc3 + random() % 8));
  if (random() % 20 == 0) name.resize(255, 'z');
  return name;
}

std::optional<Errno> listing_error(FileSystem& fs, InodeNumber directory) {
  const auto listed = fs.read_directory(directory, 0, [](const DirectoryEntry&) { return true; });
  if (listed) return std::nullopt;
  return listed.error();
}

using Model = std::map<std::string, InodeNumber>;

// All of the model is listed once, and nothing else.
void expect_listing(TestVolume& volume, InodeNumber directory, const Model& model) {
  auto names = volume.list(directory);
  ASSERT_GE(names.size(), 2U);
  EXPECT_EQ(names[0], ".");
  EXPECT_EQ(names[1], "..");
  std::sort(names.begin() + 2, names.end());
  std::vector<std::string> wanted{".", ".."};
  for (const auto& [name, inode] : model) wanted.push_back(name);
  ASSERT_EQ(names, wanted);
}

TEST_P(HTreeForms, AreAsTheModel) {
  auto& fs = volume_.mount();
  const auto directory = volume_.make_directory(kRootInode, "directory");
  const auto other = volume_.make_directory(kRootInode, "other");
  std::mt19937 random(1);
  Model model;
  const auto some = [&] {
    return model.lower_bound(random_name(random)) == model.end() ? model.begin()
                                                                 : model.lower_bound(random_name(random));
  };
  for (int i = 0; i < 6000; ++i) {
    const std::string name = random_name(random);
    const bool known = model.contains(name);
    switch (random() % 8) {
      case 0: {
        ASSERT_EQ(fs.unlink(directory, name).has_value(), known) << name;
        model.erase(name);
        break;
      }
      case 1: {
        auto from = model.empty() ? model.end() : some();
        if (from == model.end() || known) break;
        const auto [old_name, inode] = *from;
        ASSERT_TRUE(fs.rename(directory, old_name, directory, name, {.mode = RenameMode::kNoReplace}));
        model.erase(old_name);
        model[name] = inode;
        break;
      }
      case 2: {
        auto from = model.empty() ? model.end() : some();
        if (from == model.end() || !known || from->first == name) break;
        const auto [old_name, inode] = *from;
        ASSERT_TRUE(fs.rename(directory, old_name, directory, name, {.mode = RenameMode::kReplace}));
        model.erase(old_name);
        model[name] = inode;
        break;
      }
      default: {
        const auto made = fs.make(directory, name, {.mode = S_IFREG | 0644});
        ASSERT_EQ(made.has_value(), !known) << name;
        if (!made) break;
        fs.forget(made->inode, 1);
        model[name] = made->inode;
      }
    }
    if (i == 40 || random() % 1500 == 0) expect_listing(volume_, directory, model);
  }
  expect_listing(volume_, directory, model);
  for (const auto& [name, inode] : model) ASSERT_EQ(fs.lookup(directory, name)->inode, inode) << name;
  EXPECT_NE(flags_of(directory) & EXT2_INDEX_FL, 0U);
  EXPECT_EQ(flags_of(other) & EXT2_INDEX_FL, 0U);
  ASSERT_TRUE(fs.rename(kRootInode, "directory", other, "moved", {.mode = RenameMode::kReplace}));
  EXPECT_EQ(fs.lookup(directory, "..")->inode, other);
  EXPECT_EQ(fs.remove_directory(other, "moved").error(), Errno(ENOTEMPTY));
  ASSERT_EQ(volume_.unmount_and_check(), "");

  volume_.mount();
  expect_listing(volume_, directory, model);
  for (const auto& [name, inode] : model) ASSERT_TRUE(volume_.fs().unlink(directory, name)) << name;
  ASSERT_TRUE(volume_.fs().remove_directory(other, "moved"));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

INSTANTIATE_TEST_SUITE_P(
    All, HTreeForms,
    testing::Values(Form{"1k", "-t ext4 -b 1024"}, Form{"4k", "-t ext4 -b 4096"},
                    Form{"no_checksums", "-t ext4 -b 1024 -O ^metadata_csum", "tea"},
                    Form{"large_dir", "-t ext4 -b 1024 -O large_dir", "tea", "2"},
                    Form{"legacy", "-t ext4 -b 1024", "legacy"},
                    Form{"legacy_unsigned", "-t ext4 -b 2048 -O ^metadata_csum", "legacy", "2"},
                    Form{"half_md4_unsigned", "-t ext4 -b 1024 -O bigalloc -C 8192", "half_md4", "2"},
                    Form{"indirect", "-t ext3 -b 1024 -I 128", "half_md4", "2"},
                    Form{"inline", "-t ext4 -b 1024 -O inline_data", "tea", "2"}),
    [](const auto& info) { return info.param.name; });

// A listing in small pieces, and between them `meddle`: what stays is given exactly once.
template <class Meddle>
void expect_stable(TestVolume& volume, InodeNumber directory, const std::set<std::string>& staying,
                   Meddle meddle) {
  std::multiset<std::string> seen;
  std::uint64_t cookie = 0;
  for (bool more = true; more;) {
    more = false;
    std::vector<std::string> batch;
    ASSERT_TRUE(volume.fs().read_directory(directory, cookie, [&](const DirectoryEntry& entry) {
      if (batch.size() == 5) return false;
      EXPECT_GT(entry.next, cookie);
      EXPECT_LT(entry.next, std::uint64_t{1} << 63);
      batch.emplace_back(entry.name);
      cookie = entry.next;
      return more = true;
    }));
    for (const auto& name : batch) {
      seen.insert(name);
      meddle(name);
    }
  }
  for (const auto& name : staying) EXPECT_EQ(seen.count(name), 1U) << name;
}

TEST(HTree, CookiesSurviveWhatComesAndGoes) {
  TestVolume volume("-t ext4 -b 1024 -N 8192", "32M");
  auto& fs = volume.mount();
  const auto directory = volume.make_directory(kRootInode, "d");
  std::set<std::string> staying;
  const auto stays = [&](int i) {
    staying.insert(fmt::format("stays {}", i));
    volume.make_file(directory, fmt::format("stays {}", i));
  };
  // One block; at the first insert it becomes an index, then its leaves and its root are split.
  for (int i = 0; i < 20; ++i) stays(i);
  int made = 0;
  const auto insert = [&](const std::string&) {
    for (int i = 0; i < 60; ++i) volume.make_file(directory, fmt::format("comes {}", made++));
  };
  expect_stable(volume, directory, staying, [&](const std::string& name) {
    if (name.starts_with("stays") || made < 100) insert(name);
  });
  EXPECT_GT(made, 1000);
  for (int i = 20; i < 500; ++i) stays(i);
  // As rm -r does it.
  expect_stable(volume, directory, staying, [&](const std::string& name) {
    if (name.starts_with("comes")) {
      ASSERT_TRUE(fs.unlink(directory, name));
    }
  });
  expect_stable(volume, directory, staying, [](const std::string&) {});
  EXPECT_EQ(volume.list(directory).size(), staying.size() + 2);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// Names of one hash fill some leaves, which the index leads to as one row.
TEST(HTree, NamesOfOneHash) {
  constexpr std::array kEnds = {"26s>O<", "2mYae\\", "3QZgX_", "3sqyZ[", "4V;Eew", "7;kvme",
                                ":_ma6i", ":b@KY;",  ";gdm;g", "<IOzH5", ">OzRu9", ">oOFIT",
                                "?0^wcD", "?9bpOM",  "@pTG7p", "Axq=Pt", "CYSS^n", "Ck^s<0",
                                "DrsqJ<", "F7Mq6s",  "Hb>9sc", "Im`>^x", "Jaee9x", "KYq`n1"};
  const auto name = [](const char* end) { return std::string(200, 'c') + end; };
  TestVolume volume("-t ext4 -b 1024");
  ASSERT_EQ(run("tune2fs -E hash_alg=legacy " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'ssv flags 1' " + volume.image().string()).status, 0);
  volume.mount();
  const auto directory = volume.make_directory(kRootInode, "d");
  std::set<std::string> staying;
  for (int i = 0; i < 100; ++i) {
    volume.make_file(directory, fmt::format("{:x<150}", i));
    staying.insert(fmt::format("{:x<150}", i));
  }
  volume.unmount();
  {
    OpenVolume open(volume);
    const NameHasher hasher(open.volume());
    for (const auto* const end : kEnds)
      ASSERT_EQ(hasher.of(name(end), 0).major, hasher.of(name(kEnds[0]), 0).major);
    open.finish();
  }
  auto& fs = volume.mount();
  for (const auto* const end : kEnds) volume.make_file(directory, name(end));
  for (std::size_t i = 0; i < kEnds.size(); ++i) {
    ASSERT_TRUE(fs.lookup(directory, name(kEnds[i]))) << i;
    if (i % 3 != 0) staying.insert(name(kEnds[i]));
  }
  ASSERT_EQ(volume.unmount_and_check(), "");
  volume.mount();
  expect_stable(volume, directory, staying, [&](const std::string& seen) {
    if (staying.contains(seen) || is_dots(seen)) return;
    ASSERT_TRUE(volume.fs().unlink(directory, seen));
  });
  EXPECT_EQ(volume.list(directory).size(), staying.size() + 2);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// Names as long as can be, so that few fill a block; all lead to one file.
class FullIndex : public testing::Test {
 protected:
  // How many came in until there was no room.
  std::size_t fill(const std::string& options, std::size_t most) {
    TestVolume volume(
        "-t ext4 -b 1024 -N 64 -m 0 -E hash_seed=6d7f3c1e-52a4-4f0b-9e8d-1a2b3c4d5e6f " + options, "64M");
    volume.mount();
    const auto number = volume.make_directory(kRootInode, "d");
    const auto file = volume.make_file(kRootInode, "file");
    volume.unmount();
    std::size_t count = 0;
    {
      OpenVolume open(volume);
      auto& metadata = open.metadata();
      auto directory = metadata.inodes.read(number).value();
      const auto name = [](std::size_t i) { return fmt::format("{:0>255}", i); };
      for (; count < most; ++count) {
        const auto handle = open.change(credits::of_link);
        const auto done = metadata.directories.insert(directory, name(count), file, S_IFREG);
        if (done) continue;
        EXPECT_EQ(done.error(), Errno(ENOSPC));
        break;
      }
      EXPECT_FALSE(metadata.directories.find(directory, name(count)).value());
      for (std::size_t i = 0; i < count; i += 97)
        EXPECT_EQ(metadata.directories.find(directory, name(i)).value(), file) << i;
      // Room that is freed in a leaf can be used.
      auto inode = metadata.inodes.read(file).value();
      std::optional handle(open.change(credits::of_rename));
      EXPECT_TRUE(metadata.directories.remove(directory, name(7)));
      EXPECT_TRUE(metadata.directories.insert(directory, name(7), file, S_IFREG));
      inode.raw.i_links_count = static_cast<std::uint16_t>(count + 1);
      EXPECT_TRUE(metadata.inodes.write(inode));
      handle.reset();
      open.finish();
    }
    EXPECT_EQ(volume.check(), "");
    const auto dump = volume.debugfs("htree_dump /d");
    const auto at = dump.find("Indirect levels: ");
    levels_ = at == std::string::npos ? -1 : dump[at + 17] - '0';
    return count;
  }
  int levels_ = -1;
};

TEST_F(FullIndex, SaysSoAtTwoLevels) {
  EXPECT_GT(fill("-O ^has_journal", 64'000), 20'000U);
  EXPECT_EQ(levels_, 1);
}

TEST_F(FullIndex, GrowsToThreeWithLargeDir) {
  EXPECT_EQ(fill("-O ^has_journal,large_dir,^metadata_csum", 45'000), 45'000U);
  EXPECT_EQ(levels_, 2);
}

// A directory that cannot grow, for the volume is full, is as it was.
TEST(HTree, AFullVolumeLeavesItWhole) {
  TestVolume volume("-t ext4 -b 1024 -N 4096 -m 0 -O ^has_journal", "4M");
  auto& fs = volume.mount();
  const auto directory = volume.make_directory(kRootInode, "d");
  const auto filler = volume.make_file(kRootInode, "filler");
  Model model;
  const auto fill = [&] {
    const std::string piece(1024, 'x');
    for (std::uint64_t at = fs.attributes(filler)->size;; at += piece.size()) {
      if (!fs.write(filler, at, std::as_bytes(std::span(piece)), AttributeChanges::Privileges::kKeep)) return;
    }
  };
  bool full = false;
  for (int i = 0; i < 3000; ++i) {
    if (i == 700) fill();
    const auto name = fmt::format("name number {}", i);
    const auto made =
        i % 5 == 0 ? fs.make(directory, name, {.mode = S_IFREG | 0644}) : fs.link(filler, directory, name);
    if (made) {
      model[name] = made->inode;
      continue;
    }
    ASSERT_EQ(made.error(), Errno(ENOSPC));
    full = true;
  }
  EXPECT_TRUE(full);
  // Those too whose making needs a block of their own.
  const auto links = fs.attributes(directory)->links;
  EXPECT_FALSE(fs.make(directory, "sub", {.mode = S_IFDIR | 0755}));
  EXPECT_EQ(fs.attributes(directory)->links, links);
  expect_listing(volume, directory, model);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// As a directory that had more than 65,000 subdirectories. A real one is in tests/mount/link_count_test.cc.
TEST(HTree, LinksOfOneStayWithAnIndex) {
  TestVolume volume("-t ext4 -b 1024");
  volume.mount();
  const auto indexed = volume.make_directory(kRootInode, "indexed");
  const auto small = volume.make_directory(kRootInode, "small");
  for (int i = 0; i < 60; ++i) volume.make_file(indexed, fmt::format("a name of some length {}", i));
  for (const auto directory : {indexed, small}) volume.make_directory(directory, "a");
  volume.unmount();
  const auto set_links = [&](const char* name, int links) {
    const auto command = fmt::format("debugfs -w -R 'sif /{} links_count {}' ", name, links);
    ASSERT_EQ(run(command + volume.image().string()).status, 0);
  };
  set_links("indexed", 65'000);
  set_links("small", 65'000);
  auto& fs = volume.mount();
  EXPECT_EQ(fs.make(small, "b", {.mode = S_IFDIR | 0755}).error(), Errno(EMLINK));
  volume.make_directory(indexed, "b");
  EXPECT_EQ(fs.attributes(indexed)->links, 1U);
  ASSERT_TRUE(fs.remove_directory(indexed, "a"));
  volume.make_directory(indexed, "c");
  EXPECT_EQ(fs.attributes(indexed)->links, 1U);
  volume.unmount();
  set_links("small", 3);
  EXPECT_EQ(volume.check(), "");
}

// What an index can lie about. The volume has no checksums, so that the lie is what is seen. (Then also an
// index that says to be less deep cannot be told from one with empty leaves.)
class HostileIndex : public testing::Test {
 protected:
  static constexpr std::size_t kBlock = 1024, kRootBegin = 32, kNodeBegin = 8;

  void SetUp() override {
    volume_.mount();
    const auto number = volume_.make_directory(kRootInode, "d");
    const auto file = volume_.make_file(kRootInode, "file");
    volume_.unmount();
    {
      OpenVolume open(volume_);
      auto& metadata = open.metadata();
      auto directory = metadata.inodes.read(number).value();
      // Two levels.
      auto inode = metadata.inodes.read(file).value();
      std::optional handle(open.change(credits::of_replay));
      for (int i = 0; i < 1000; ++i)
        ASSERT_TRUE(metadata.directories.insert(directory, fmt::format("{:0>200}", i), file, S_IFREG));
      inode.raw.i_links_count = 1001;
      ASSERT_TRUE(metadata.inodes.write(inode));
      handle.reset();
      const auto parts = metadata.extents.map(directory, 0, directory.size() / kBlock).value();
      for (const auto& part : parts) {
        for (std::uint64_t i = 0; i < part.count; ++i) places_.push_back(part.physical + i);
      }
      open.finish();
    }
    number_ = number;
    ASSERT_EQ(volume_.check(), "");
    good_ = volume_.image_bytes();
    volume_.events.echo = false;
    const auto root = read(0);
    ASSERT_EQ(root[30], 1) << "one level only";
    node_ = word(root, kRootBegin + 4);
    leaf_ = word(read(node_), kNodeBegin + 4);
  }
  [[nodiscard]] std::string read(std::size_t block) const {
    return good_.substr(places_[block] * kBlock, kBlock);
  }
  static std::uint32_t word(const std::string& bytes, std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  }
  template <class T>
  void put(std::size_t block, std::size_t at, T value) {
    const UniqueFd fd(::open(volume_.image().c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::pwrite(fd.get(), &value, sizeof value, static_cast<off_t>(places_[block] * kBlock + at)),
              static_cast<ssize_t>(sizeof value));
  }
  void restore() {
    const UniqueFd fd(::open(volume_.image().c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::pwrite(fd.get(), good_.data(), good_.size(), 0), static_cast<ssize_t>(good_.size()));
  }

  TestVolume volume_{"-t ext4 -b 1024 -O ^has_journal,^metadata_csum -N 64", "4M"};
  InodeNumber number_ = 0;
  std::vector<std::uint64_t> places_;
  std::string good_;
  std::uint32_t node_ = 0, leaf_ = 0;
};

TEST_F(HostileIndex, IsCorruptionWithItsInodeAndBlock) {
  struct Lie {
    const char* name;
    std::size_t block, at;
    std::uint32_t value;
    int width = 4;
  };
  const std::uint32_t last = static_cast<std::uint32_t>(places_.size()) - 1;
  const std::uint32_t first_hash = word(read(node_), kNodeBegin + 8);
  const Lie lies[] = {
      {"reserved", 0, 24, 1},
      {"hash version", 0, 28, 3, 1},
      {"info length", 0, 29, 16, 1},
      {"too deep", 0, 30, 2, 1},
      {"unknown flag", 0, 31, 1, 1},
      {"root's limit", 0, 32, 200, 2},
      {"root's count", 0, 34, 200, 2},
      {"no entries", 0, 34, 0, 2},
      {"no dot", 0, 8, 'x', 1},
      {"short dotdot", 0, 16, 12, 2},
      {"node's limit", node_, 8, 100, 2},
      {"node's count", node_, 10, 500, 2},
      {"no node", node_, 4, 12, 2},
      {"order", node_, kNodeBegin + 16, first_hash - 2},
      {"twice the same hash", node_, kNodeBegin + 16, first_hash},
      {"beyond the parent's range", node_, kNodeBegin + 8 * (word(read(node_), 8) >> 16) - 8, 0xfffffff0},
      {"outside", node_, kNodeBegin + 12, last + 1},
      {"leaf twice", node_, kNodeBegin + 12, leaf_},
      {"root as leaf", node_, kNodeBegin + 12, 0},
      {"node as its own leaf", node_, kNodeBegin + 12, node_},
      {"leaf as node", 0, kRootBegin + 4, leaf_},
      {"impossible length", leaf_, 4, 7, 2},
      {"length beyond the block", leaf_, 4, 2000, 2},
      {"name longer than its entry", leaf_, 6, 255, 1},
      {"NUL in a name", leaf_, 9, 0, 1},
  };
  for (const auto& lie : lies) {
    SCOPED_TRACE(lie.name);
    restore();
    if (lie.width == 1) put(lie.block, lie.at, static_cast<std::uint8_t>(lie.value));
    if (lie.width == 2) put(lie.block, lie.at, static_cast<std::uint16_t>(lie.value));
    if (lie.width == 4) put(lie.block, lie.at, lie.value);
    volume_.events.corruptions.clear();
    auto& fs = volume_.mount({.errors = ErrorPolicy::kContinue});
    // Each name leads to the file, or nowhere; a listing ends.
    std::size_t found = 0;
    for (int i = 0; i < 1000; ++i) {
      const auto name = fmt::format("{:0>200}", i);
      const auto looked = fs.lookup(number_, name);
      if (looked) ++found;
      if (!looked) {
        ASSERT_EQ(looked.error(), kCorrupted) << i;
      }
    }
    EXPECT_EQ(listing_error(fs, number_), kCorrupted);
    EXPECT_LT(found, 1000U);
    ASSERT_FALSE(volume_.events.corruptions.empty());
    const auto& words = volume_.events.corruptions[0];
    EXPECT_NE(words.find(fmt::format("inode {}", number_)), std::string::npos) << words;
    EXPECT_NE(words.find(", block "), std::string::npos) << words;
    for (int i = 0; i < 50; ++i)
      (void)fs.link(fs.lookup(kRootInode, "file")->inode, number_, fmt::format("{:0>220}", i));
    (void)fs.unmount();
  }
}

// A leaf with names of another one: look-ups cannot see it, listings and splits do.
TEST_F(HostileIndex, NamesInAnotherLeafAreFoundWhereAllAreSeen) {
  const auto node = read(node_);
  const std::uint32_t second = word(node, kNodeBegin + 12);
  put(node_, kNodeBegin + 12, leaf_);
  put(node_, kNodeBegin + 4, second);
  auto& fs = volume_.mount({.errors = ErrorPolicy::kContinue});
  EXPECT_EQ(listing_error(fs, number_), kCorrupted);
  std::size_t refused = 0;
  for (int i = 0; i < 3000 && refused == 0; ++i) {
    const auto linked = fs.link(fs.lookup(kRootInode, "file")->inode, number_, fmt::format("{:0>220}", i));
    if (!linked && linked.error() == kCorrupted) ++refused;
  }
  EXPECT_EQ(refused, 1U);
  (void)fs.unmount();
}

// A block that two owners have: between the look-up of a name and the change at its place, the other one
// writes.
TEST_F(HostileIndex, APlaceInABlockThatBecameAnotherIsNotUsed) {
  OpenVolume open(volume_);
  auto& directories = open.metadata().directories;
  auto directory = open.metadata().inodes.read(number_).value();
  const auto handle = open.change();
  const auto taken_over = [&](std::string_view name) {
    auto position = directories.find_position(directory, name).value();
    // It cannot be empty: nothing but the look-up has set it.
    const auto block = position.leaf->physical();  // NOLINT(bugprone-unchecked-optional-access)
    EXPECT_TRUE(open.volume().cache().get_new(block, {cache::BlockKind::kXattrs, 0}));
    return position;
  };
  const std::string there = fmt::format("{:0>200}", 1), fresh(200, 'x');
  auto position = taken_over(fresh);
  EXPECT_EQ(directories.insert(directory, fresh, 12, S_IFREG, std::move(position)).error(), kCorrupted);
  position = taken_over(there);
  EXPECT_EQ(directories.remove(directory, there, std::move(position)).error(), kCorrupted);
}

TEST(HTree, WrongChecksumsAreSeen) {
  for (const bool node : {false, true}) {
    TestVolume volume("-t ext4 -b 1024");
    volume.mount();
    const auto directory = volume.make_directory(kRootInode, "d");
    for (int i = 0; i < 60; ++i) volume.make_file(directory, fmt::format("a name of some length {}", i));
    ASSERT_EQ(volume.unmount_and_check(), "");
    const auto place = std::stoul(volume.debugfs(node ? "bmap /d 0" : "bmap /d 1")) * 1024;
    {
      const UniqueFd fd(::open(volume.image().c_str(), O_RDWR | O_CLOEXEC));
      // Of the root a hash; of a leaf a letter of a name.
      ASSERT_EQ(::pwrite(fd.get(), "b", 1, static_cast<off_t>(place + (node ? 40 : 10))), 1);
    }
    volume.events.echo = false;
    auto& fs = volume.mount({.errors = ErrorPolicy::kContinue});
    EXPECT_EQ(listing_error(fs, directory), kCorrupted);
    ASSERT_FALSE(volume.events.corruptions.empty());
    EXPECT_NE(volume.events.corruptions[0].find("checksum"), std::string::npos)
        << volume.events.corruptions[0];
    (void)fs.unmount();
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
