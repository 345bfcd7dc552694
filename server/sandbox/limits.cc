// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>

#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox::internal {
namespace {

// For both the soft and the hard limit, and never more than the hard limit was.
bool lower_limit(__rlimit_resource resource, rlim_t value) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return false;
  limit.rlim_max = std::min(limit.rlim_max, value);
  limit.rlim_cur = std::min(limit.rlim_cur, limit.rlim_max);
  return ::setrlimit(resource, &limit) == 0;
}

}  // namespace

Outcome<void> lower_limits(std::span<const int> kept) {
  // Further descriptors come over the protocol's socket: clones of /dev/fuse, the device under libfuse's
  // helper.
  constexpr rlim_t kReceivedLater = 64;
  const int highest = kept.empty() ? 2 : std::max(2, *std::ranges::max_element(kept));
  if (!lower_limit(RLIMIT_NOFILE, static_cast<rlim_t>(highest) + 1 + kReceivedLater) ||
      !lower_limit(RLIMIT_CORE, 0) ||  // a core would hold other people's files
      !lower_limit(RLIMIT_MEMLOCK, 0) || !lower_limit(RLIMIT_MSGQUEUE, 0) || !lower_limit(RLIMIT_RTPRIO, 0) ||
      !lower_limit(RLIMIT_NICE, 0)) {
    return fail_to("lower the limits");
  }
  // A core pattern with a pipe ignores the limit; this it heeds. /proc/PID then belongs to root.
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_to("forbid core dumps");
  return {};
}

Outcome<void> limit_memory([[maybe_unused]] std::uint64_t bytes) {
#ifndef FUSE4FS_SANITIZED  // the sanitizers map terabytes of shadow
  // Of each thread malloc reserves an arena that it then makes its own piece by piece.
  constexpr rlim_t kReserved = rlim_t{2} << 30;
  // The first counts what can be written and is not shared: the heap, the stacks of threads. The second
  // counts all, so that no kind of mapping goes uncounted, and neither do the page tables behind it.
  if (!lower_limit(RLIMIT_DATA, bytes) || !lower_limit(RLIMIT_AS, bytes + kReserved))
    return fail_to("limit the memory");
#endif
  return {};
}

Outcome<void> limit_files(std::uint64_t largest) {
  if (!lower_limit(RLIMIT_FSIZE, largest)) return fail_to("limit the size of files");
  return {};
}

Outcome<void> forbid_new_threads() {
  if (!lower_limit(RLIMIT_NPROC, 0)) return fail_to("forbid new threads");
  return {};
}

}  // namespace fuse4fs::sandbox::internal
