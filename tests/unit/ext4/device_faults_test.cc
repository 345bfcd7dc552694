// SPDX-License-Identifier: GPL-2.0-or-later
// Devices that fail and power that goes, under the whole engine.
//
// A device that fails at the Nth read, write or flush of an operation: the answer says so, the log names the
// block, fsync(2) does not lie, and what had been synced is there after e2fsck.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "tests/devices/faulty_backend.h"
#include "tests/devices/recording_backend.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using cache::Fault;

constexpr std::size_t kNames = 60;
const std::string kKept(5000, 'k');

std::string name_of(std::size_t number) { return fmt::format("a name of some length, number {}", number); }

Errno error_of(const auto& result) { return result ? Errno(0) : result.error(); }

struct Operation {
  const char* name;
  Errno (*run)(FileSystem& fs);
};

Errno in_directory(FileSystem& fs, auto action) {
  const auto directory = fs.lookup(kRootInode, "directory");
  return directory ? action(directory->inode) : directory.error();
}

Errno on_file(FileSystem& fs, auto action) {
  return in_directory(fs, [&](InodeNumber directory) {
    const auto file = fs.lookup(directory, name_of(7));
    return file ? action(directory, file->inode) : file.error();
  });
}

constexpr Operation kOperations[] = {
    {"look-up",
     [](FileSystem& fs) {
       return in_directory(fs, [&](InodeNumber in) { return error_of(fs.lookup(in, name_of(kNames - 1))); });
     }},
    {"listing",
     [](FileSystem& fs) {
       return in_directory(fs, [&](InodeNumber in) {
         return error_of(fs.read_directory(in, 0, [](const DirectoryEntry&) { return true; }));
       });
     }},
    {"make",
     [](FileSystem& fs) {
       return in_directory(
           fs, [&](InodeNumber in) { return error_of(fs.make(in, "new", {.mode = S_IFREG | 0644U})); });
     }},
    {"make directory",
     [](FileSystem& fs) {
       return in_directory(
           fs, [&](InodeNumber in) { return error_of(fs.make(in, "new", {.mode = S_IFDIR | 0755U})); });
     }},
    {"long symbolic link",
     [](FileSystem& fs) {
       return in_directory(fs, [&](InodeNumber in) {
         return error_of(fs.make_symlink(in, "new", std::string(200, 's'), {.mode = S_IFLNK | 0777U}));
       });
     }},
    {"write",
     [](FileSystem& fs) {
       return on_file(fs, [&](InodeNumber, InodeNumber file) {
         const std::string text(40'000, 'w');
         return error_of(
             fs.write(file, 3000, std::as_bytes(std::span(text)), AttributeChanges::Privileges::kKeep));
       });
     }},
    {"truncate",
     [](FileSystem& fs) {
       return on_file(fs, [&](InodeNumber, InodeNumber file) {
         return error_of(fs.set_attributes(file, {.size = 10}));
       });
     }},
    {"unlink",
     [](FileSystem& fs) {
       return on_file(fs, [&](InodeNumber in, InodeNumber file) {
         const Errno answer = error_of(fs.unlink(in, name_of(7)));
         fs.forget(file, 1);
         return answer;
       });
     }},
    {"rename",
     [](FileSystem& fs) {
       return on_file(fs, [&](InodeNumber in, InodeNumber) {
         return error_of(fs.rename(in, name_of(7), kRootInode, "moved", {}));
       });
     }},
    {"large attribute",
     [](FileSystem& fs) {
       return on_file(fs, [&](InodeNumber, InodeNumber file) {
         const std::string value(700, 'x');
         return error_of(fs.set_xattr(file, "user.large", std::as_bytes(std::span(value)),
                                      XattrMode::kCreateOrReplace, SetgidBit::kKeep));
       });
     }},
};

class DeviceFaults : public testing::TestWithParam<Operation> {
 protected:
  void SetUp() override {
    auto& fs = volume_.mount();
    const auto directory = volume_.make_directory(kRootInode, "directory");
    for (std::size_t i = 0; i < kNames; ++i)
      volume_.write(volume_.make_file(directory, name_of(i)), 0, std::string(100 * i, 'f'));
    volume_.write(volume_.make_file(kRootInode, "kept"), 0, kKept);
    ASSERT_TRUE(fs.sync());
    ASSERT_EQ(volume_.unmount_and_check(), "");
    std::filesystem::copy_file(volume_.image(), prepared());
    volume_.events.echo = false;
    volume_.wrap_device = [this](TestVolume::Backend device) {
      return std::make_unique<cache::FaultyBackend>(std::move(device), faults_);
    };
  }
  [[nodiscard]] std::string prepared() const { return volume_.image().string() + ".prepared"; }

  // Whether the device was asked so often that the fault struck.
  bool strike(const Fault& fault) {
    std::filesystem::copy_file(prepared(), volume_.image(),
                               std::filesystem::copy_options::overwrite_existing);
    volume_.events.device_errors.clear();
    auto& fs = volume_.mount({.errors = ErrorPolicy::kContinue});
    const auto before = faults_->strikes();
    faults_->add(fault);
    const Errno answer = GetParam().run(fs);
    const Errno synced = error_of(fs.sync());
    const bool struck = faults_->strikes() != before;
    faults_->clear();
    EXPECT_TRUE(answer == Errno(0) || answer == Errno(EIO)) << answer.message();
    const auto& errors = volume_.events.device_errors;
    if (!struck) {
      EXPECT_EQ(answer, Errno(0)) << answer.message();
      EXPECT_EQ(synced, Errno(0));
      EXPECT_TRUE(errors.empty()) << errors.front();
    } else if (fault.operation == Fault::Operation::kRead) {
      // Nothing was to be written that is lost. The deletion of an unlinked file has nobody to answer: where
      // a bitmap cannot be read, that is told, and its blocks are lost until e2fsck finds them.
      EXPECT_TRUE(answer == Errno(EIO) || GetParam().name == std::string_view("unlink")) << answer.message();
    } else {
      EXPECT_TRUE(answer == Errno(EIO) || synced == Errno(EIO));
    }
    if (struck) {
      EXPECT_FALSE(errors.empty());
      if (fault.operation != Fault::Operation::kFlush) {
        EXPECT_TRUE(std::ranges::any_of(errors, [](const std::string& words) {
          return words.find("block ") != std::string::npos || words.find(", byte ") != std::string::npos;
        })) << (errors.empty() ? "nothing" : errors.front());
      }
    }
    // The device is well again, but for a lost write nobody is told that all is well.
    const auto unmounted = fs.unmount();
    EXPECT_TRUE(!unmounted || synced == Errno(0) || !struck);
    return struck;
  }
  void check_what_was_kept() {
    const auto mended = run("e2fsck -fy " + volume_.image().string());
    EXPECT_LE(mended.status, 1) << mended.output;
    EXPECT_EQ(volume_.debugfs("cat /kept"), kKept);
    EXPECT_EQ(volume_.check(), "");
  }

  TestVolume volume_{"-t ext4 -b 1024 -N 512 -O ^has_journal", "8M"};
  const std::shared_ptr<cache::Faults> faults_ = std::make_shared<cache::Faults>();
};

TEST_P(DeviceFaults, AreToldAndHarmNothingElse) {
  using Kind = Fault::Operation;
  for (const auto& [kind, words, most] :
       {std::tuple(Kind::kRead, "read", 8U), std::tuple(Kind::kWrite, "write", 5U),
        std::tuple(Kind::kFlush, "flush", 1U)}) {
    for (std::uint64_t nth = 1; nth <= most; ++nth) {
      SCOPED_TRACE(fmt::format("{} {}", words, nth));
      const bool tears = kind == Kind::kWrite && nth % 2 == 0;
      // What is read ahead or written in one piece is tried again in its parts.
      const bool struck = strike({.operation = kind,
                                  .effect = tears ? Fault::Effect::kTear : Fault::Effect::kFail,
                                  .nth = nth,
                                  .times = kind == Kind::kFlush ? 1 : Fault::kForever,
                                  .seed = nth});
      check_what_was_kept();
      if (!struck) break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, DeviceFaults, testing::ValuesIn(kOperations), [](const auto& info) {
  std::string name = info.param.name;
  std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
  return name;
});

// The power goes at any moment of a busy time. A volume without a journal needs e2fsck then; what was synced
// is there after it. The device writes its blocks whole.
TEST(PowerCutWithoutJournal, WhatWasSyncedIsThereAfterE2fsck) {
  constexpr std::size_t kBlockSize = 4096;
  TestVolume volume("-t ext4 -b 4096 -N 512 -O ^has_journal", "8M");
  const auto recording = std::make_shared<cache::Recording>();
  volume.wrap_device = [&](TestVolume::Backend device) {
    return std::make_unique<cache::RecordingBackend>(std::move(device), recording);
  };
  struct Kept {
    std::string path;
    std::string content;
    std::size_t since;  // operations of the device
  };
  std::vector<Kept> all;
  auto& fs = volume.mount();
  InodeNumber directory = kRootInode;
  std::string path = "/";
  for (std::size_t i = 0; i < 40; ++i) {
    if (i % 8 == 0) {
      path = fmt::format("/directory {}/", i);
      directory = volume.make_directory(kRootInode, path.substr(1, path.size() - 2));
    }
    const std::string content(i % 5 * 3000 + 10, static_cast<char>('a' + i % 26));
    const auto file = volume.make_file(directory, name_of(i));
    volume.write(file, 0, content);
    // What nobody waits for.
    volume.write(volume.make_file(directory, fmt::format("scratch {}", i)), 0, std::string(5000, 's'));
    if (i % 8 > 1) {
      EXPECT_EQ(error_of(fs.unlink(directory, fmt::format("scratch {}", i - 2))), Errno(0));
    }
    if (i % 3 == 0) {
      ASSERT_TRUE(fs.sync_inode(file, FileSystem::SyncWhat::kAll));
      all.push_back({path + name_of(i), content, recording->operations().size()});
    } else {
      ASSERT_TRUE(fs.write_back());
    }
  }
  volume.unmount();

  std::mt19937 random(3);
  for (std::uint64_t cuts = 0; cuts < 40; ++cuts) {
    const std::size_t cut =
        all.front().since + random() % (recording->operations().size() - all.front().since);
    SCOPED_TRACE(fmt::format("cut before operation {}, seed {}", cut, cuts));
    const auto left = recording->image_at(
        cut, {.kind = cache::Survival::Kind::kByChance, .seed = cuts, .piece = kBlockSize});
    std::ofstream(volume.image(), std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(left.data()), static_cast<std::streamsize>(left.size()));
    const auto mended = run("e2fsck -fy " + volume.image().string());
    EXPECT_LE(mended.status, 1) << mended.output;
    EXPECT_EQ(volume.check(), "");
    for (const auto& kept : all) {
      if (kept.since > cut) continue;
      EXPECT_EQ(volume.debugfs("cat \"" + kept.path + "\""), kept.content) << kept.path << mended.output;
    }
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
