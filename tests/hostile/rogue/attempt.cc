// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/rogue/attempt.h"

#include <unistd.h>

#include <array>
#include <cerrno>

namespace fuse4fs::rogue {

Verdict by_errno(long result, std::string_view success) {
  if (result < 0) return {Verdict::Kind::kErrno, errno, {}};
  return succeeded(std::string(success));
}

Verdict refused_with(int error) { return {Verdict::Kind::kRefused, error, {}}; }

void Place::note(std::string_view words) const {
  std::string line(attempt);
  line += '\t';
  line += words;
  line += '\n';
  // One write a line, as the server's own log.
  (void)!::write(log, line.data(), line.size());
}

std::span<const Theme> themes() {
  static const std::array kAll{kNames,       kDescriptors,  kProcesses,     kRights, kMounts,
                               kSockets,     kMemory,       kKernelDoors,   kIoctls, kLog,
                               kHelperOpens, kHelperMounts, kHelperPackets, kServing};
  return kAll;
}

const Attempt* find_attempt(std::string_view name) {
  for (const Theme& theme : themes())
    for (const Attempt& attempt : theme.attempts)
      if (name == attempt.name) return &attempt;
  return nullptr;
}

}  // namespace fuse4fs::rogue
