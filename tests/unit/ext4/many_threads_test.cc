// SPDX-License-Identifier: GPL-2.0-or-later
// The whole engine, used by many threads at once: names of the same few directories that are made, moved and
// removed while others look them up and use what they lead to. For the thread sanitizer, the lock order's
// assertions, e2fsck, and ctest's timeout, which a deadlock runs into.
#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr int kThreads = 8;
constexpr int kOperations = 500;  // of each
constexpr int kNames = 20;        // of each directory

// Says no, in words that somebody else's change explains.
bool is_fair(Errno error) {
  static const std::set<int> kFair = {ENOENT, EEXIST, ENOTDIR, EISDIR,     ENOTEMPTY, EINVAL, EPERM,
                                      ESTALE, ENXIO,  ENODATA, EOPNOTSUPP, EMLINK,    ENOSPC, EBUSY};
  return kFair.contains(error.value());
}

class Worker {
 public:
  Worker(FileSystem& fs, std::vector<InodeNumber> directories, unsigned seed)
      : fs_(fs), directories_(std::move(directories)), random_(seed) {}

  void run() {
    for (int i = 0; i < kOperations; ++i) {
      step();
      if (known_.size() > 12) forget_one();
    }
    while (!known_.empty()) forget_one();
  }

 private:
  unsigned draw(unsigned below) { return static_cast<unsigned>(random_() % below); }
  InodeNumber directory() { return directories_[draw(static_cast<unsigned>(directories_.size()))]; }
  std::string name() { return fmt::format("a name that is not too short {}", draw(kNames)); }
  InodeNumber inode() {
    return known_.empty() ? kRootInode : known_[draw(static_cast<unsigned>(known_.size()))];
  }

  template <class T>
  bool expect(const Result<T>& result, const char* what) {
    if (!result) {
      EXPECT_TRUE(is_fair(result.error())) << what << ": " << result.error().message();
    }
    return result.has_value();
  }
  void keep(const Result<Attributes>& found, const char* what) {
    if (expect(found, what)) known_.push_back(found->inode);
  }
  void forget_one() {
    const auto at = draw(static_cast<unsigned>(known_.size()));
    std::swap(known_[at], known_.back());
    fs_.forget(known_.back(), 1);
    known_.pop_back();
  }

  void step() {
    switch (draw(16)) {
      case 0:
      case 1:
        return keep(fs_.make(directory(), name(), {.mode = S_IFREG | 0644}), "make");
      case 2:
        return keep(fs_.make(directory(), name(), {.mode = S_IFDIR | 0755}), "make a directory");
      case 3:
        return make_special();
      case 4:
        expect(fs_.unlink(directory(), name()), "unlink");
        return;
      case 5:
        expect(fs_.remove_directory(directory(), name()), "remove a directory");
        return;
      case 6:
      case 7:
        return rename();
      case 8: {
        const auto linked = fs_.link(inode(), directory(), name());
        return keep(linked, "link");
      }
      case 9:
      case 10:
        keep(fs_.lookup(directory(), draw(8) == 0 ? ".." : name()), "look-up");
        expect(fs_.attributes(inode()), "attributes");
        return;
      case 11:
        return list();
      case 12:
        return change_attributes();
      case 13:
        return use_content();
      case 14:
        return use_xattrs();
      default:
        return use_volume();
    }
  }

  void make_special() {
    if (draw(2) == 0)
      return keep(fs_.make_symlink(directory(), name(), std::string(20 + draw(100), 's'), {}), "symlink");
    const auto made = fs_.make_temporary(directory(), {.mode = S_IFREG | 0600});
    keep(made, "temporary");
    if (made && draw(2) == 0) keep(fs_.link(made->inode, directory(), name()), "link");
  }

  void rename() {
    RenameOptions options;
    const auto kind = draw(6);
    if (kind == 0) options.mode = RenameMode::kNoReplace;
    if (kind == 1 || kind == 2) options.mode = RenameMode::kExchange;
    if (kind == 3) options.whiteout = NewInode{.mode = S_IFCHR};
    expect(fs_.rename(directory(), name(), directory(), name(), options), "rename");
  }

  void list() {
    std::vector<InodeNumber> inodes;
    const auto done = fs_.read_directory(directory(), 0, [&](const DirectoryEntry& entry) {
      inodes.push_back(entry.inode);
      return inodes.size() < 12;
    });
    expect(done, "listing");
    for (const InodeNumber number : inodes) {
      const auto found = fs_.look_up_inode(number);
      if (expect(found, "look-up by number")) fs_.forget(number, 1);
    }
    const auto target = fs_.symlink_target(inode());
    expect(target, "target");
  }

  void change_attributes() {
    const InodeNumber number = inode();
    AttributeChanges changes;
    if (draw(2) == 0) changes.size = draw(60'000);
    if (draw(3) == 0) changes.permissions = 0600 + draw(64);
    if (draw(3) == 0) changes.privileges = AttributeChanges::Privileges::kClear;
    expect(fs_.set_attributes(number, changes), "set attributes");
    const auto flags = fs_.flags(number);
    if (expect(flags, "flags") && draw(4) == 0)
      expect(fs_.set_flags(number, flags->flags ^ 0x40), "set flags");  // nodump
  }

  void use_content() {
    const InodeNumber number = inode();
    std::vector<std::byte> bytes(1 + draw(20'000), std::byte{7});
    const std::uint64_t at = draw(80'000);
    constexpr auto kKeep = AttributeChanges::Privileges::kKeep;
    switch (draw(6)) {
      case 0:
      case 1:
        expect(fs_.write(number, at, bytes, kKeep), "write");
        return;
      case 2:
        expect(fs_.change_range(number, draw(2) == 0 ? RangeChange::kAllocate : RangeChange::kPunchHole,
                                {at, bytes.size()}, EndOfFile::kKeep, kKeep),
               "fallocate");
        return;
      case 3:
        expect(fs_.copy_range(number, 0, inode(), at, bytes.size(), kKeep), "copy");
        return;
      case 4:
        expect(fs_.seek(number, 0, SeekTarget::kHole), "seek");
        return;
      default:
        expect(fs_.read(number, at, bytes), "read");
    }
  }

  void use_xattrs() {
    const InodeNumber number = inode();
    const std::string attribute = fmt::format("user.{}", draw(3));
    // Some are alike, so that inodes share their block.
    const std::vector<std::byte> value(std::array{10U, 200U, 700U}[draw(3)], std::byte{9});
    if (draw(3) != 0)
      expect(fs_.set_xattr(number, attribute, value, XattrMode::kCreateOrReplace, SetgidBit::kKeep),
             "set xattr");
    else
      expect(fs_.remove_xattr(number, attribute), "remove xattr");
    expect(fs_.xattr(inode(), attribute), "xattr");
    expect(fs_.xattr_names(inode()), "xattr names");
  }

  void use_volume() {
    switch (draw(8)) {
      case 0:
        expect(fs_.sync(), "sync");
        return;
      case 1:
        expect(fs_.write_back(), "write back");
        return;
      case 2:
        expect(fs_.trim({0, UINT64_MAX}, 0), "trim");
        return;
      case 3:
        expect(fs_.set_label(fmt::format("label {}", draw(3))), "label");
        (void)fs_.label();
        return;
      case 4:
      case 5: {
        const auto found = fs_.look_up_handle(11 + draw(200));
        if (expect(found, "handle")) fs_.forget(found->inode, 1);
        return;
      }
      default:
        expect(fs_.statistics(), "statistics");
    }
  }

  FileSystem& fs_;
  const std::vector<InodeNumber> directories_;
  std::mt19937 random_;
  std::vector<InodeNumber> known_;
};

struct Form {
  const char* name;
  const char* options;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class ManyThreads : public testing::TestWithParam<Form> {};

TEST_P(ManyThreads, LeaveAWholeVolume) {
  TestVolume volume(GetParam().options, "48M");
  auto& fs = volume.mount();
  const auto a = volume.make_directory(kRootInode, "a");
  const auto b = volume.make_directory(kRootInode, "b");
  // These move about, one inside the other.
  const auto c = volume.make_directory(a, "a name that is not too short 0");
  const auto d = volume.make_directory(b, "a name that is not too short 1");
  {
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] { Worker(fs, {a, b, c, d}, 100 + t).run(); });
  }
  for (const InodeNumber number : {a, b, c, d}) fs.forget(number, 1);
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());
  EXPECT_TRUE(volume.events.device_errors.empty());
}

INSTANTIATE_TEST_SUITE_P(, ManyThreads,
                         testing::Values(Form{"Default", "-t ext4 -b 4096"},
                                         Form{"SmallBlocks", "-t ext4 -b 1024 -O ea_inode,inline_data"},
                                         Form{"Linear", "-t ext2 -b 1024"}),
                         [](const auto& form) { return form.param.name; });

// Two directories, each the other's target: who takes the locks in the wrong order waits for ever.
TEST(ManyThreadsTest, RenamesInBothDirections) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto a = volume.make_directory(kRootInode, "a");
  const auto b = volume.make_directory(kRootInode, "b");
  for (int i = 0; i < 4; ++i) volume.make_directory(a, fmt::format("{}", i));
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const auto name = fmt::format("{}", t);
        const auto there = fs.lookup(a, name)->inode;
        for (int i = 0; i < 300; ++i) {
          EXPECT_TRUE(fs.rename(i % 2 == 0 ? a : b, name, i % 2 == 0 ? b : a, name, {}));
          // Its parent is one of the two, whenever it is asked for.
          const auto above = fs.lookup(there, "..");
          ASSERT_TRUE(above);
          EXPECT_EQ(above->inode, i % 2 == 0 ? b : a);
          fs.forget(above->inode, 1);
        }
        fs.forget(there, 1);
      });
    }
  }
  EXPECT_EQ(volume.list(a).size(), 6U);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// Each directory is to go into the other: never both.
TEST(ManyThreadsTest, NoTwoDirectoriesIntoEachOther) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto a = volume.make_directory(kRootInode, "a");
  const auto b = volume.make_directory(kRootInode, "b");
  std::atomic<int> moved = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 300; ++i) {
          if (fs.rename(kRootInode, t == 0 ? "a" : "b", t == 0 ? b : a, "inside", {})) {
            ++moved;
            EXPECT_TRUE(fs.rename(t == 0 ? b : a, "inside", kRootInode, t == 0 ? "a" : "b", {}));
          }
        }
      });
    }
  }
  EXPECT_GT(moved, 0);
  EXPECT_TRUE(volume.events.corruptions.empty());
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// Between finding a name and counting what it leads to there is no gap for its unlink.
TEST(ManyThreadsTest, ANameIsLookedUpWhileItIsUnlinked) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto directory = volume.make_directory(kRootInode, "directory");
  const auto free_inodes = fs.statistics()->free_inodes;
  constexpr int kRounds = 400;
  std::atomic<bool> done = false;
  std::atomic<int> found = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (!done) {
          const auto child = fs.lookup(directory, "name");
          if (!child) {
            EXPECT_EQ(child.error(), Errno(ENOENT));
            continue;
          }
          ++found;
          EXPECT_EQ(child->links, 1U);
          // It is whole for as long as it is known.
          EXPECT_TRUE(fs.attributes(child->inode));
          std::array<std::byte, 10> bytes{};
          EXPECT_TRUE(fs.read(child->inode, 0, bytes));
          fs.forget(child->inode, 1);
        }
      });
    }
    for (int i = 0; i < kRounds; ++i) {
      const auto made = fs.make(directory, "name", {.mode = S_IFREG | 0600});
      ASSERT_TRUE(made);
      fs.forget(made->inode, 1);
      std::this_thread::yield();
      EXPECT_TRUE(fs.unlink(directory, "name"));
    }
    done = true;
  }
  EXPECT_GT(found, 0);
  EXPECT_EQ(fs.statistics()->free_inodes, free_inodes) << "each was deleted";
  EXPECT_TRUE(volume.events.corruptions.empty());
  EXPECT_EQ(volume.unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
