// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/request_counters.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/fuse_iomap_abi.h"
#include "server/fuse/kernel_abi.h"

namespace fuse4fs::fuse {
namespace {

struct OpcodeName {
  std::uint32_t opcode;
  std::string_view name;
};
// linux/fuse.h's names without FUSE_. Numbers where Debian 12's copy of it is too old.
constexpr OpcodeName kNames[] = {
    {FUSE_LOOKUP, "LOOKUP"},
    {FUSE_FORGET, "FORGET"},
    {FUSE_GETATTR, "GETATTR"},
    {FUSE_SETATTR, "SETATTR"},
    {FUSE_READLINK, "READLINK"},
    {FUSE_SYMLINK, "SYMLINK"},
    {FUSE_MKNOD, "MKNOD"},
    {FUSE_MKDIR, "MKDIR"},
    {FUSE_UNLINK, "UNLINK"},
    {FUSE_RMDIR, "RMDIR"},
    {FUSE_RENAME, "RENAME"},
    {FUSE_LINK, "LINK"},
    {FUSE_OPEN, "OPEN"},
    {FUSE_READ, "READ"},
    {FUSE_WRITE, "WRITE"},
    {FUSE_STATFS, "STATFS"},
    {FUSE_RELEASE, "RELEASE"},
    {FUSE_FSYNC, "FSYNC"},
    {FUSE_SETXATTR, "SETXATTR"},
    {FUSE_GETXATTR, "GETXATTR"},
    {FUSE_LISTXATTR, "LISTXATTR"},
    {FUSE_REMOVEXATTR, "REMOVEXATTR"},
    {FUSE_FLUSH, "FLUSH"},
    {FUSE_INIT, "INIT"},
    {FUSE_OPENDIR, "OPENDIR"},
    {FUSE_READDIR, "READDIR"},
    {FUSE_RELEASEDIR, "RELEASEDIR"},
    {FUSE_FSYNCDIR, "FSYNCDIR"},
    {FUSE_GETLK, "GETLK"},
    {FUSE_SETLK, "SETLK"},
    {FUSE_SETLKW, "SETLKW"},
    {FUSE_ACCESS, "ACCESS"},
    {FUSE_CREATE, "CREATE"},
    {FUSE_INTERRUPT, "INTERRUPT"},
    {FUSE_BMAP, "BMAP"},
    {FUSE_DESTROY, "DESTROY"},
    {FUSE_IOCTL, "IOCTL"},
    {FUSE_POLL, "POLL"},
    {FUSE_NOTIFY_REPLY, "NOTIFY_REPLY"},
    {FUSE_BATCH_FORGET, "BATCH_FORGET"},
    {FUSE_FALLOCATE, "FALLOCATE"},
    {FUSE_READDIRPLUS, "READDIRPLUS"},
    {FUSE_RENAME2, "RENAME2"},
    {FUSE_LSEEK, "LSEEK"},
    {FUSE_COPY_FILE_RANGE, "COPY_FILE_RANGE"},
    {FUSE_SETUPMAPPING, "SETUPMAPPING"},
    {FUSE_REMOVEMAPPING, "REMOVEMAPPING"},
    {FUSE_SYNCFS, "SYNCFS"},
    {51, "TMPFILE"},
    {52, "STATX"},
    {53, "COPY_FILE_RANGE_64"},
    {iomap_abi::kFreeze, "FREEZE_FS"},
    {iomap_abi::kUnfreeze, "UNFREEZE_FS"},
    {iomap_abi::kShutdown, "SHUTDOWN_FS"},
    {iomap_abi::kConfig, "IOMAP_CONFIG"},
    {iomap_abi::kIoend, "IOMAP_IOEND"},
    {iomap_abi::kBegin, "IOMAP_BEGIN"},
    {iomap_abi::kEnd, "IOMAP_END"},
};

}  // namespace

std::size_t RequestCounters::place_of(std::uint32_t opcode) {
  constexpr std::uint32_t kFirstOfIomap = iomap_abi::kFreeze;
  constexpr std::uint32_t kCountOfIomap = iomap_abi::kEnd - iomap_abi::kFreeze + 1;
  constexpr std::size_t kPlaceOfIomap = kOpcodes - 1 - kCountOfIomap;
  if (opcode >= kFirstOfIomap && opcode - kFirstOfIomap < kCountOfIomap)
    return kPlaceOfIomap + (opcode - kFirstOfIomap);
  return opcode < kPlaceOfIomap ? opcode : kOpcodes - 1;
}

void RequestCounters::count(std::uint32_t opcode) {
  static std::atomic<std::size_t> threads = 0;
  thread_local const std::size_t row = threads.fetch_add(1, std::memory_order_relaxed) % kRows;
  rows_[row].counts[place_of(opcode)].fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t RequestCounters::of(std::uint32_t opcode) const {
  std::uint64_t sum = 0;
  for (const Row& row : rows_) sum += row.counts[place_of(opcode)].load(std::memory_order_relaxed);
  return sum;
}

std::string RequestCounters::text() const {
  std::string text;
  std::uint64_t others = 0;
  for (const Row& row : rows_)
    for (const auto& count : row.counts) others += count.load(std::memory_order_relaxed);
  const auto add = [&text](std::string_view name, std::uint64_t count) {
    if (count != 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, count);
  };
  for (const auto& known : kNames) {
    const std::uint64_t count = of(known.opcode);
    add(known.name, count);
    others -= std::min(count, others);  // some may have been counted between
  }
  add("others", others);
  return text.empty() ? "none" : text;
}

}  // namespace fuse4fs::fuse
