// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/request_counters.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

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
};

}  // namespace

void RequestCounters::count(std::uint32_t opcode) {
  static std::atomic<std::size_t> threads = 0;
  thread_local const std::size_t row = threads.fetch_add(1, std::memory_order_relaxed) % kRows;
  rows_[row].counts[std::min<std::size_t>(opcode, kOpcodes - 1)].fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t RequestCounters::of(std::uint32_t opcode) const {
  std::uint64_t sum = 0;
  for (const Row& row : rows_)
    sum += row.counts[std::min<std::size_t>(opcode, kOpcodes - 1)].load(std::memory_order_relaxed);
  return sum;
}

std::string RequestCounters::text() const {
  std::string text;
  for (std::uint32_t opcode = 0; opcode < kOpcodes; ++opcode) {
    const std::uint64_t count = of(opcode);
    if (count == 0) continue;
    const auto* const known = std::ranges::find(kNames, opcode, &OpcodeName::opcode);
    std::string name = fmt::format("opcode {}", opcode);
    if (known != std::end(kNames)) name = known->name;
    if (opcode == kOpcodes - 1) name = "others";
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, count);
  }
  return text.empty() ? "none" : text;
}

}  // namespace fuse4fs::fuse
