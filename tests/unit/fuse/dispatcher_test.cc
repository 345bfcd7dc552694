// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/dispatcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "base/unique_fd.h"
#include "server/fuse/kernel_abi.h"
#include "tests/unit/fuse/dispatcher_fixture.h"

namespace fuse4fs::fuse {
namespace {

using ::testing::_;
using ::testing::Return;

TEST_F(DispatcherTest, InitAsksForWhatSavesUpcalls) {
  EXPECT_FALSE(dispatcher_->initialised());
  const auto out = init(kEverything);
  EXPECT_TRUE(dispatcher_->initialised());
  const std::uint32_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS |
                               FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_WRITEBACK_CACHE |
                               FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS |
                               FUSE_HANDLE_KILLPRIV_V2;
  EXPECT_EQ(out.flags & wanted, wanted);
  // What libfuse would misparse, what opens files, what needs an OPEN.
  EXPECT_EQ(out.flags & (FUSE_SPLICE_READ | FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE | FUSE_ATOMIC_O_TRUNC |
                         FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS),
            0U);
  EXPECT_EQ(out.max_write, kMaxTransfer);
  EXPECT_EQ(out.max_pages, kMaxTransfer / 4096);
  EXPECT_EQ(out.time_gran, 1U);
}

TEST_F(DispatcherTest, InitAsksForNoWriteBackWhereTheKernelLosesIt) {
  dispatcher_ = *Dispatcher::create(fs_, {.page_cache = PageCache::kWriteThrough});
  const auto out = init(kEverything);
  EXPECT_FALSE(out.flags & FUSE_WRITEBACK_CACHE);
  EXPECT_TRUE(out.flags & FUSE_HANDLE_KILLPRIV_V2);
}

TEST_F(DispatcherTest, InitTellsHowFineTimesAre) {
  EXPECT_CALL(fs_, time_granularity).WillOnce(Return(1'000'000'000));
  EXPECT_EQ(init(kEverything).time_gran, 1'000'000'000U);
}

TEST_F(DispatcherTest, InitAsksForFileHandles) { EXPECT_TRUE(init(kEverything).flags & FUSE_EXPORT_SUPPORT); }

TEST_F(DispatcherTest, InitAsksForNothingThatWasNotOffered) {
  const auto out = init(FUSE_ASYNC_READ);
  EXPECT_EQ(out.flags & ~static_cast<std::uint32_t>(FUSE_BIG_WRITES), std::uint32_t{FUSE_ASYNC_READ});
}

TEST_F(DispatcherTest, AnAbsentNameIsANegativeEntry) {
  init(kEverything);
  EXPECT_CALL(fs_, lookup(ext4::kRootInode, std::string_view("absent"))).WillOnce(Return(fail(ENOENT)));
  send_bytes(FUSE_LOOKUP, FUSE_ROOT_ID, std::string_view("absent\0", 7));
  const auto out = structure_answered<fuse_entry_out>();
  EXPECT_EQ(out.nodeid, 0U);
  EXPECT_GT(out.entry_valid, 3600U);
}

TEST_F(DispatcherTest, TheRootAndTheBadBlocksInodeChangePlaces) {
  init(kEverything);
  ext4::Attributes root{.inode = ext4::kRootInode, .mode = S_IFDIR | 0755};
  EXPECT_CALL(fs_, attributes(ext4::kRootInode)).WillOnce(Return(root));
  send(FUSE_GETATTR, FUSE_ROOT_ID, fuse_getattr_in{});
  EXPECT_EQ(structure_answered<fuse_attr_out>().attr.ino, 2U);
  EXPECT_CALL(fs_, attributes(1)).WillOnce(Return(fail(ENOENT)));
  send(FUSE_GETATTR, 2, fuse_getattr_in{});
  EXPECT_EQ(error_answered(), ENOENT);
}

TEST_F(DispatcherTest, NamesOver255BytesNeverReachTheEngine) {
  init(kEverything);
  EXPECT_CALL(fs_, lookup).Times(0);
  EXPECT_CALL(fs_, unlink).Times(0);
  const std::string name = std::string(256, 'n') + '\0';
  send_bytes(FUSE_LOOKUP, FUSE_ROOT_ID, name);
  EXPECT_EQ(error_answered(), ENAMETOOLONG);
  send_bytes(FUSE_UNLINK, FUSE_ROOT_ID, name);
  EXPECT_EQ(error_answered(), ENAMETOOLONG);
}

TEST_F(DispatcherTest, WriteHandsOnDataOffsetAndPrivileges) {
  init(kEverything);
  EXPECT_CALL(fs_, write(12, 4096, _, ext4::AttributeChanges::Privileges::kClear))
      .WillOnce([](auto, auto, std::span<const std::byte> data, auto) -> Result<ext4::SectorCounts> {
        EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(data.data()), data.size()), "data");
        return ext4::SectorCounts{};
      });
  fuse_write_in in{};
  in.offset = 4096;
  in.size = 4;
  in.write_flags = FUSE_WRITE_KILL_SUIDGID;
  send(FUSE_WRITE, 12, in, "data");
  EXPECT_EQ(structure_answered<fuse_write_out>().size, 4U);
}

TEST_F(DispatcherTest, TheKernelForgetsTheModeOfWhatLostItsPrivileges) {
  init(kEverything);
  fuse_write_in in{};
  in.size = 4;
  in.write_flags = FUSE_WRITE_KILL_SUIDGID;
  for (const mode_t mode : {mode_t{04755}, mode_t{02755}, mode_t{0755}}) {
    EXPECT_CALL(fs_, attributes(12)).WillOnce(Return(ext4::Attributes{.inode = 12, .mode = S_IFREG | mode}));
    send(FUSE_WRITE, 12, in, "data");
    if (mode != 0755) {
      struct {
        fuse_out_header header;
        fuse_notify_inval_inode_out out;
      } told{};
      ASSERT_EQ(::recv(kernel_.get(), &told, sizeof told, 0), static_cast<ssize_t>(sizeof told));
      EXPECT_EQ(told.header.len, sizeof told);
      EXPECT_EQ(told.header.unique, 0U);
      EXPECT_EQ(told.header.error, FUSE_NOTIFY_INVAL_INODE);
      EXPECT_EQ(told.out.ino, 12U);
      EXPECT_LT(told.out.off, 0) << "no pages";
    }
    EXPECT_EQ(structure_answered<fuse_write_out>().size, 4U);
  }
}

TEST_F(DispatcherTest, AWriteThatIsShorterThanItSaysIsRefused) {
  init(kEverything);
  EXPECT_CALL(fs_, write).Times(0);
  fuse_write_in in{};
  in.size = 5;
  send(FUSE_WRITE, 12, in, "data");
  EXPECT_EQ(error_answered(), EINVAL);
}

TEST_F(DispatcherTest, OpensAreAnsweredOnceAndForAll) {
  init(kEverything);
  send(FUSE_OPEN, 12, fuse_open_in{});
  EXPECT_EQ(error_answered(), ENOSYS);
  send(FUSE_OPENDIR, 12, fuse_open_in{});
  EXPECT_EQ(error_answered(), ENOSYS);
  send(FUSE_FLUSH, 12, fuse_flush_in{});
  EXPECT_EQ(error_answered(), ENOSYS);
}

TEST_F(DispatcherTest, SyncfsSyncsTheVolume) {
  init(kEverything);
  EXPECT_CALL(fs_, sync).WillOnce(Return(fail(EIO)));
  send(FUSE_SYNCFS, FUSE_ROOT_ID, fuse_syncfs_in{});
  EXPECT_EQ(error_answered(), EIO);
}

TEST_F(DispatcherTest, ForgetAndInterruptGetNoAnswer) {
  init(kEverything);
  EXPECT_CALL(fs_, forget(12, 3));
  send(FUSE_FORGET, 12, fuse_forget_in{.nlookup = 3});
  send(FUSE_INTERRUPT, 0, fuse_interrupt_in{.unique = 99});
  EXPECT_FALSE(answer());
}

TEST_F(DispatcherTest, DestroyUnmountsOnceAndLaterRequestsFindNothing) {
  init(kEverything);
  EXPECT_CALL(fs_, unmount).WillOnce(Return(Result<void>()));
  EXPECT_CALL(fs_, attributes).Times(0);
  EXPECT_CALL(fs_, shrink).WillOnce(Return(4096));
  EXPECT_EQ(dispatcher_->shrink(), 4096U);
  send_bytes(FUSE_DESTROY, 0, {});
  EXPECT_EQ(error_answered(), 0);
  send(FUSE_GETATTR, FUSE_ROOT_ID, fuse_getattr_in{});
  EXPECT_EQ(error_answered(), ENODEV);
  send(FUSE_FORGET, 12, fuse_forget_in{.nlookup = 1});
  EXPECT_FALSE(answer());
  EXPECT_EQ(dispatcher_->shrink(), 0U);
  EXPECT_TRUE(dispatcher_->unmount());
}

TEST_F(DispatcherTest, WhatTheLastFlushCameToIsNotLostWithDestroysAnswer) {
  init(kEverything);
  EXPECT_CALL(fs_, unmount).WillOnce(Return(fail(EIO)));
  send_bytes(FUSE_DESTROY, 0, {});
  EXPECT_EQ(error_answered(), EIO);
  const auto again = dispatcher_->unmount();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), Errno(EIO));
}

TEST_F(DispatcherTest, AnExceptionIsAnAnswerAndNotTheEnd) {
  init(kEverything);
  EXPECT_CALL(fs_, write).WillOnce([](auto, auto, auto, auto) -> Result<ext4::SectorCounts> {
    throw std::bad_alloc();
  });
  fuse_write_in in{};
  in.size = 4;
  send(FUSE_WRITE, 12, in, "data");
  EXPECT_EQ(error_answered(), EIO);
  EXPECT_CALL(fs_, attributes).WillOnce([](auto) -> Result<ext4::Attributes> { throw std::bad_alloc(); });
  send(FUSE_GETATTR, 12, fuse_getattr_in{});
  EXPECT_EQ(error_answered(), ENOMEM);
}

TEST_F(DispatcherTest, DestroyWaitsForRunningRequests) {
  init(kEverything);
  std::atomic<bool> reading = false, finish = false, finished = false;
  EXPECT_CALL(fs_, attributes).WillOnce([&](auto) -> Result<ext4::Attributes> {
    reading = true;
    while (!finish) std::this_thread::yield();
    finished = true;
    return fail(EIO);
  });
  EXPECT_CALL(fs_, unmount).WillOnce([&]() -> Result<void> {
    EXPECT_TRUE(finished);
    return {};
  });
  std::jthread slow([&] { send(FUSE_GETATTR, FUSE_ROOT_ID, fuse_getattr_in{}); });
  while (!reading) std::this_thread::yield();
  std::jthread unmounting([&] { EXPECT_TRUE(dispatcher_->unmount()); });
  finish = true;
}

TEST_F(DispatcherTest, ADotIsTheNodeOfAFileHandle) {
  init(kEverything);
  const ext4::Attributes root{.inode = ext4::kRootInode, .generation = 77, .mode = S_IFDIR | 0755};
  EXPECT_CALL(fs_, look_up_handle(12)).WillOnce(Return(ext4::Attributes{.inode = 12, .generation = 5}));
  EXPECT_CALL(fs_, look_up_handle(0)).WillRepeatedly(Return(fail(ESTALE)));
  EXPECT_CALL(fs_, lookup(12, std::string_view(".."))).WillOnce(Return(root));
  send_bytes(FUSE_LOOKUP, 12, std::string_view(".\0", 2));
  const auto entry = structure_answered<fuse_entry_out>();
  EXPECT_EQ(entry.nodeid, 12U);
  EXPECT_EQ(entry.generation, 5U);
  for (const std::uint64_t node : {std::uint64_t{1} << 32, (std::uint64_t{1} << 32) + 12, UINT64_MAX}) {
    send_bytes(FUSE_LOOKUP, node, std::string_view(".\0", 2));
    EXPECT_EQ(error_answered(), ESTALE);
  }
  send_bytes(FUSE_LOOKUP, 12, std::string_view("..\0", 3));
  const auto parent = structure_answered<fuse_entry_out>();
  EXPECT_EQ(parent.nodeid, std::uint64_t{FUSE_ROOT_ID});
  EXPECT_EQ(parent.generation, 0U) << "the kernel's root has none";
}

TEST_F(DispatcherTest, TmpfileMakesAFileWithoutAName) {
  init(kEverything);
  EXPECT_CALL(fs_, make_temporary(ext4::kRootInode, _))
      .WillOnce([](auto, const ext4::NewInode& what) -> Result<ext4::Attributes> {
        EXPECT_EQ(what.mode, S_IFREG | 0640U);
        EXPECT_EQ(what.umask, 022U);
        return ext4::Attributes{.inode = 33, .mode = what.mode, .links = 0};
      })
      .WillOnce(Return(fail(ENOSPC)));
  fuse_create_in in{};
  in.mode = S_IFREG | 0640;
  in.umask = 022;
  send(FUSE_TMPFILE, FUSE_ROOT_ID, in, std::string_view("/\0", 2));
  const auto got = answer();
  ASSERT_TRUE(got);
  ASSERT_EQ(got->header.error, 0);
  ASSERT_EQ(got->payload.size(), sizeof(fuse_entry_out) + sizeof(fuse_open_out));
  fuse_entry_out entry{};
  std::memcpy(&entry, got->payload.data(), sizeof entry);
  EXPECT_EQ(entry.nodeid, 33U);
  EXPECT_EQ(entry.attr.nlink, 0U);
  send(FUSE_TMPFILE, FUSE_ROOT_ID, in, std::string_view("/\0", 2));
  EXPECT_EQ(error_answered(), ENOSPC);
  send_bytes(FUSE_TMPFILE, FUSE_ROOT_ID, "short");
  EXPECT_EQ(error_answered(), EINVAL);
  // The kernel closes it with a RELEASE.
  send(FUSE_RELEASE, 33, fuse_release_in{});
  EXPECT_EQ(error_answered(), 0);
}

TEST_F(DispatcherTest, StatxKnowsTheBirthTimeWhereThereIsOne) {
  init(kEverything);
  ext4::Attributes attributes{.inode = 12, .mode = S_IFREG | 0644, .links = 2, .size = 77};
  attributes.accessed = {-5, 6};
  EXPECT_CALL(fs_, attributes(12)).WillOnce([&](auto) {
    auto with_birth = attributes;
    with_birth.created = ext4::Timestamp{.seconds = 1'700'000'000, .nanoseconds = 9};
    return Result<ext4::Attributes>(with_birth);
  });
  send(kStatx, 12, StatxRequest{});
  const auto first = structure_answered<StatxReply>();
  EXPECT_EQ(first.mask, 0xfffU);
  EXPECT_EQ(first.btime.seconds, 1'700'000'000);
  EXPECT_EQ(first.btime.nanoseconds, 9U);
  EXPECT_EQ(first.atime.seconds, -5);
  EXPECT_EQ(first.size, 77U);
  EXPECT_EQ(first.nlink, 2U);
  EXPECT_EQ(first.ino, 12U);
  EXPECT_EQ(first.mode, S_IFREG | 0644U);
  EXPECT_EQ(first.blksize, 4096U);
  EXPECT_CALL(fs_, attributes(12)).WillOnce(Return(attributes));
  send(kStatx, 12, StatxRequest{});
  EXPECT_EQ(structure_answered<StatxReply>().mask, 0x7ffU);
}

TEST_F(DispatcherTest, RenameFlagsBecomeOptions) {
  init(kEverything);
  const auto send_rename = [&](std::uint32_t flags) {
    fuse_rename2_in in{};
    in.newdir = FUSE_ROOT_ID;
    in.flags = flags;
    send(FUSE_RENAME2, FUSE_ROOT_ID, in, std::string_view("old\0new\0", 8));
    return error_answered();
  };
  ext4::RenameOptions options;
  ON_CALL(fs_, rename).WillByDefault([&](auto, auto, auto, auto, const ext4::RenameOptions& given) {
    options = given;
    return Result<void>();
  });
  EXPECT_EQ(send_rename(RENAME_NOREPLACE), 0);
  EXPECT_EQ(options.mode, ext4::RenameMode::kNoReplace);
  EXPECT_FALSE(options.whiteout);
  EXPECT_EQ(send_rename(RENAME_WHITEOUT), 0);
  EXPECT_EQ(options.mode, ext4::RenameMode::kReplace);
  ASSERT_TRUE(options.whiteout);
  EXPECT_EQ(options.whiteout->mode, mode_t{S_IFCHR});
  EXPECT_EQ(options.whiteout->device, 0U);
  EXPECT_EQ(send_rename(RENAME_WHITEOUT | RENAME_NOREPLACE), 0);
  EXPECT_EQ(options.mode, ext4::RenameMode::kNoReplace);
  EXPECT_TRUE(options.whiteout);
  EXPECT_EQ(send_rename(8), EINVAL);
}

TEST_F(DispatcherTest, ReadsSayWhetherTheySetTheAccessTime) {
  init(kEverything);
  const auto sent = [&](std::uint32_t opcode, std::uint32_t flags) {
    auto seen = ext4::AccessTime::kUpdate;
    EXPECT_CALL(fs_, read)
        .Times(::testing::AtMost(1))
        .WillRepeatedly(
            [&](auto, auto, auto, ext4::AccessTime given) { return seen = given, Result<std::size_t>(0); });
    EXPECT_CALL(fs_, read_directory)
        .Times(::testing::AtMost(1))
        .WillRepeatedly(
            [&](auto, auto, const auto&, ext4::AccessTime given) { return seen = given, Result<void>(); });
    fuse_read_in in{};
    in.size = 4096;
    in.flags = flags;
    send(opcode, FUSE_ROOT_ID, in);
    EXPECT_EQ(error_answered(), 0);
    return seen;
  };
  for (const std::uint32_t opcode : {FUSE_READ, FUSE_READDIR, FUSE_READDIRPLUS}) {
    EXPECT_EQ(sent(opcode, O_RDONLY), ext4::AccessTime::kUpdate);
    EXPECT_EQ(sent(opcode, O_RDWR), ext4::AccessTime::kUpdate);
    EXPECT_EQ(sent(opcode, O_RDONLY | O_NOATIME), ext4::AccessTime::kKeep);
  }
  EXPECT_EQ(sent(FUSE_READ, O_WRONLY), ext4::AccessTime::kKeep);
}

TEST_F(DispatcherTest, SetattrSaysWhereTimesComeFrom) {
  init(kEverything);
  using Times = ext4::AttributeChanges::Times;
  const auto sent = [&](std::uint32_t valid) {
    auto seen = Times::kGiven;
    EXPECT_CALL(fs_, set_attributes).WillOnce([&](auto, const ext4::AttributeChanges& changes) {
      seen = changes.times;
      return Result<ext4::Attributes>(ext4::Attributes{.inode = 12});
    });
    fuse_setattr_in in{};
    in.valid = valid;
    send(FUSE_SETATTR, 12, in);
    answer();
    return seen;
  };
  EXPECT_EQ(sent(FATTR_ATIME | FATTR_MTIME | FATTR_CTIME), Times::kGiven);
  EXPECT_EQ(sent(FATTR_MTIME | FATTR_CTIME), Times::kGiven);
  EXPECT_EQ(sent(FATTR_MTIME | FATTR_CTIME | FATTR_FH), Times::kWrittenBack);
  EXPECT_EQ(sent(FATTR_MTIME | FATTR_CTIME | FATTR_FH | FATTR_SIZE), Times::kGiven);
  EXPECT_EQ(sent(FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_CTIME), Times::kNow);
}

TEST_F(DispatcherTest, ReaddirplusCountsNoLookUpOfDotAndDotDot) {
  init(kEverything);
  EXPECT_CALL(fs_, read_directory(ext4::kRootInode, 0, _, _))
      .WillOnce([](auto, auto, const ext4::DirectorySink& sink, auto) -> Result<void> {
        EXPECT_TRUE(sink({".", 2, DT_DIR, 12}));
        EXPECT_TRUE(sink({"..", 2, DT_DIR, 24}));
        EXPECT_TRUE(sink({"file", 12, DT_REG, 36}));
        EXPECT_FALSE(sink({"no room for this one", 13, DT_REG, 48}));
        return {};
      });
  EXPECT_CALL(fs_, look_up_inode(12)).WillOnce(Return(ext4::Attributes{.inode = 12, .mode = S_IFREG | 0644}));
  fuse_read_in in{};
  in.size = 3 * 160;
  send(FUSE_READDIRPLUS, FUSE_ROOT_ID, in);
  const auto got = answer();
  ASSERT_TRUE(got);
  ASSERT_EQ(got->payload.size(), 3U * 160U);
  const auto* const entries = reinterpret_cast<const char*>(got->payload.data());
  fuse_direntplus third{};
  std::memcpy(&third, entries + 2 * 160, sizeof third);
  EXPECT_EQ(third.entry_out.nodeid, 12U);
  EXPECT_EQ(third.dirent.off, 36U);
  fuse_direntplus first{};
  std::memcpy(&first, entries, sizeof first);
  EXPECT_EQ(first.entry_out.nodeid, 0U);
}

TEST_F(DispatcherTest, AnIoctlGivesNoMoreThanItsCallerHasRoomFor) {
  init(kEverything);
  EXPECT_CALL(fs_, flags(12)).WillRepeatedly(Return(ext4::InodeFlags{.flags = FS_NODUMP_FL, .project = 3}));
  const std::uint32_t flags = FS_NODUMP_FL;
  EXPECT_EQ(std::memcmp(ioctl(FS_IOC_GETFLAGS, {}, 4).payload.data(), &flags, 4), 0);
  EXPECT_EQ(ioctl(FS_IOC32_GETFLAGS, {}, 4).payload.size(), 4U);
  EXPECT_EQ(ioctl(FS_IOC_GETFLAGS, {}, 2).payload.size(), 2U);
  fsxattr extended{};
  const auto got = ioctl(FS_IOC_FSGETXATTR, {}, sizeof extended);
  ASSERT_EQ(got.payload.size(), sizeof extended);
  std::memcpy(&extended, got.payload.data(), sizeof extended);
  EXPECT_EQ(extended.fsx_xflags, std::uint32_t{FS_XFLAG_NODUMP});
  EXPECT_EQ(extended.fsx_projid, 3U);
}

TEST_F(DispatcherTest, AnIoctlThatBringsTooLittleIsRefused) {
  init(kEverything);
  EXPECT_CALL(fs_, set_flags).Times(0);
  EXPECT_CALL(fs_, set_label).Times(0);
  EXPECT_CALL(fs_, trim).Times(0);
  for (const unsigned long command : {FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_SETFSLABEL, FITRIM})
    EXPECT_EQ(ioctl(static_cast<unsigned>(command), "xyz", 24).header.error, -EINVAL) << command;
}

TEST_F(DispatcherTest, WhatIsForAdministratorsIsRefusedToOthers) {
  init(kEverything);
  EXPECT_CALL(fs_, set_label).Times(0);
  EXPECT_CALL(fs_, trim).Times(0);
  EXPECT_CALL(fs_, shut_down).Times(0);
  EXPECT_CALL(fs_, flags(12)).WillOnce(Return(ext4::InodeFlags{}));
  EXPECT_CALL(fs_, set_flags).Times(0);
  const std::string label(FSLABEL_MAX, '\0');
  const std::string range(sizeof(fstrim_range), '\0');
  const std::uint32_t journaled = FS_JOURNAL_DATA_FL;
  const std::string flags(reinterpret_cast<const char*>(&journaled), sizeof journaled);
  // -1 is what the kernel says of everybody where a mount may be idmapped.
  for (const uid_t caller : {uid_t{1000}, static_cast<uid_t>(-1)}) {
    EXPECT_EQ(ioctl(FS_IOC_SETFSLABEL, label, 0, caller).header.error, -EPERM);
    EXPECT_EQ(ioctl(FITRIM, range, 24, caller).header.error, -EPERM);
    EXPECT_EQ(ioctl(_IOR('X', 125, std::uint32_t), {}, 4, caller).header.error, -EPERM);
  }
  EXPECT_EQ(ioctl(FS_IOC_SETFLAGS, flags, 0, 1000).header.error, -EPERM);
  EXPECT_EQ(ioctl(_IO('f', 99), {}, 0).header.error, -ENOTTY);
}

TEST_F(DispatcherTest, TheImmutableFlagComesBehindTheProjectAndGoesBeforeIt) {
  init(kEverything);
  const ::testing::InSequence in_this_order;
  fsxattr wanted{};
  wanted.fsx_projid = 5;
  wanted.fsx_xflags = FS_XFLAG_IMMUTABLE;
  const auto bytes = [&] { return std::string(reinterpret_cast<const char*>(&wanted), sizeof wanted); };
  EXPECT_CALL(fs_, flags(12)).WillOnce(Return(ext4::InodeFlags{}));
  EXPECT_CALL(fs_, set_project(12, 5)).WillOnce(Return(Result<void>()));
  EXPECT_CALL(fs_, set_flags(12, std::uint32_t{FS_IMMUTABLE_FL})).WillOnce(Return(Result<void>()));
  EXPECT_CALL(fs_, flags(12)).WillOnce(Return(ext4::InodeFlags{.flags = FS_IMMUTABLE_FL, .project = 5}));
  EXPECT_CALL(fs_, set_flags(12, 0)).WillOnce(Return(Result<void>()));
  EXPECT_CALL(fs_, set_project(12, 5)).WillOnce(Return(Result<void>()));
  for (const std::uint32_t xflags : {std::uint32_t{FS_XFLAG_IMMUTABLE}, std::uint32_t{0}}) {
    wanted.fsx_xflags = xflags;
    const auto request = bytes();
    fuse_ioctl_in body{};
    body.cmd = FS_IOC_FSSETXATTR;
    body.in_size = static_cast<std::uint32_t>(request.size());
    send(FUSE_IOCTL, 12, body, request);
  }
  // First the word that the inode's ctime is new, then the answer.
  fuse_out_header header{};
  std::byte buffer[256];
  ASSERT_GT(::recv(kernel_.get(), buffer, sizeof buffer, 0), 0);
  std::memcpy(&header, buffer, sizeof header);
  EXPECT_EQ(header.unique, 0U);
  EXPECT_EQ(header.error, FUSE_NOTIFY_INVAL_INODE);
}

TEST_F(DispatcherTest, ABlockMapIsNeverGiven) {
  init(kEverything);
  send(FUSE_BMAP, 12, fuse_bmap_in{.block = 0, .blocksize = 4096, .padding = 0});
  EXPECT_EQ(error_answered(), ENOSYS);
}

TEST_F(DispatcherTest, IdMappedMountsAreAllowedOnlyWhenAsked) {
  constexpr std::uint64_t kAllowIdMap = std::uint64_t{1} << 40;
  EXPECT_EQ(init(kEverything).flags2, 0U);
  dispatcher_ = *Dispatcher::create(fs_, {.id_mapped_mounts = SessionOptions::IdMappedMounts::kAllowed});
  const auto out = init(kEverything);
  EXPECT_EQ(out.flags2, kAllowIdMap >> 32);
  EXPECT_NE(out.flags & FUSE_INIT_EXT, 0U);
  EXPECT_EQ(out.minor, 45U);
  dispatcher_ = *Dispatcher::create(fs_, {.id_mapped_mounts = SessionOptions::IdMappedMounts::kAllowed});
  EXPECT_EQ(init(kEverything & ~kAllowIdMap).flags2, 0U);
}

TEST_F(DispatcherTest, RequestsAreCountedByOpcode) {
  EXPECT_EQ(dispatcher_->counters().text(), "none");
  init(kEverything);
  std::jthread other([&] { send(FUSE_FORGET, 12, fuse_forget_in{.nlookup = 1}); });
  other.join();
  send(FUSE_FORGET, 12, fuse_forget_in{.nlookup = 1});
  send(FUSE_OPEN, 12, fuse_open_in{});
  EXPECT_EQ(dispatcher_->counters().of(FUSE_FORGET), 2U);
  EXPECT_EQ(dispatcher_->counters().text(), "FORGET 2, OPEN 1, INIT 1");
  send_bytes(4096, 12, {});
  EXPECT_EQ(dispatcher_->counters().text(), "FORGET 2, OPEN 1, INIT 1, others 1");
}

}  // namespace
}  // namespace fuse4fs::fuse
