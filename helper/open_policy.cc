// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/open_policy.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>

namespace fuse4fs::helper {
namespace {

// What the C library calls 0 on 64-bit machines, but other programs send.
constexpr std::uint32_t kLargeFile = 0100000;
constexpr std::uint32_t kPlainFlags = O_ACCMODE | O_DIRECT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | kLargeFile;

}  // namespace

bool is_block_size(std::uint32_t size) {
  if (size == 0) return true;
  return std::has_single_bit(size) && size >= 512 &&
         size <= static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
}

Result<OpenVerdict> OpenPolicy::judge_device(OpenVerdict::What what, Access access,
                                             std::uint32_t flags) const {
  if ((flags & ~(kPlainFlags | O_EXCL)) != 0) return fail(EACCES);
  const std::uint32_t mode = flags & O_ACCMODE;
  if (mode != O_RDONLY && mode != O_RDWR) return fail(EACCES);
  if (mode == O_RDWR && access == Access::kReadOnly) return fail(EROFS);
  // Our own server's claim is held by the helper; a second one would only be refused by the kernel.
  const std::uint32_t kept =
      trust_ == Trust::kOwnServer ? O_ACCMODE | O_DIRECT : O_ACCMODE | O_DIRECT | O_EXCL;
  return OpenVerdict{.what = what, .flags = static_cast<int>(flags & kept)};
}

Result<OpenVerdict> OpenPolicy::judge_any_path(const std::string& path, std::uint32_t flags) const {
  // A relative path would depend on where the helper happens to stand.
  if (trust_ != Trust::kTrustedService || !path.starts_with('/')) return fail(EACCES);
  if ((flags & ~(kPlainFlags | O_EXCL)) != 0 || (flags & O_ACCMODE) == O_ACCMODE) return fail(EACCES);
  return OpenVerdict{.what = OpenVerdict::What::kAnyPath, .flags = static_cast<int>(flags & ~kLargeFile)};
}

Result<OpenVerdict> OpenPolicy::judge(const protocol::OpenFile& request) const {
  if (trust_ == Trust::kOwnServer) {
    if (request.path == protocol::kJournalName) return OpenVerdict{.what = OpenVerdict::What::kLog};
    if (request.path == protocol::kCloneName) return OpenVerdict{.what = OpenVerdict::What::kClone};
    if (request.path == protocol::kNotifyName) return OpenVerdict{.what = OpenVerdict::What::kNotify};
    if (request.path == protocol::kPsiName) return OpenVerdict{.what = OpenVerdict::What::kPressure};
  }
  return judge_path(request.path, request.open_flags);
}

Result<OpenVerdict> OpenPolicy::judge_path(const std::string& path, std::uint32_t flags) const {
  if (path == source_.path) return judge_device(OpenVerdict::What::kDevice, source_.access, flags);
  if (journal_ && path == journal_->path)
    return judge_device(OpenVerdict::What::kJournalDevice, journal_->access, flags);
  return judge_any_path(path, flags);
}

Result<OpenVerdict> OpenPolicy::judge(const protocol::OpenBlockDevice& request) const {
  const auto verdict = judge_path(request.path, request.open_flags);
  if (verdict && !is_block_size(request.block_size)) return fail(EINVAL);
  return verdict;
}

}  // namespace fuse4fs::helper
