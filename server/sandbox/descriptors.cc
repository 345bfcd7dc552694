// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "base/unique_fd.h"
#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox::internal {

Outcome<void> close_other_descriptors(std::span<const int> kept) {
  std::vector<unsigned> stay{0, 1, 2};
  for (int fd : kept) {
    if (fd < 0) return fail(Errno(EBADF), "the sandbox was given a descriptor that is not open");
    stay.push_back(static_cast<unsigned>(fd));
  }
  std::ranges::sort(stay);
  unsigned next = 0;
  for (unsigned fd : stay) {
    if (fd > next && ::close_range(next, fd - 1, 0) != 0) return fail_to("close descriptors");
    next = fd + 1;
  }
  if (::close_range(next, std::numeric_limits<unsigned>::max(), 0) != 0) return fail_to("close descriptors");
  return {};
}

Outcome<void> blind_standard_descriptors(std::span<const int> kept) {
  UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_to("open the root directory");
  for (int fd : {STDIN_FILENO, STDOUT_FILENO}) {
    if (std::ranges::find(kept, fd) != kept.end()) continue;
    // Where the server was started with 0 or 1 closed, open() may have just taken that place.
    if (fd == root.get()) {
      static_cast<void>(root.release());
      root.reset(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (!root) return fail_to("open the root directory");
    } else if (::dup2(root.get(), fd) < 0) {
      return fail_to("replace standard input and output");
    }
  }
  return {};
}

}  // namespace fuse4fs::sandbox::internal
