// SPDX-License-Identifier: GPL-2.0-or-later
// Landlock's kernel interface as of ABI 6 (Linux 6.12). Debian 12's <linux/landlock.h> stops at ABI 2.
// Numbers from Linux's Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
#pragma once

#include <array>
#include <cstdint>

namespace fuse4fs::sandbox::internal {

struct LandlockRuleset {
  std::uint64_t handled_access_fs;
  std::uint64_t handled_access_net;  // ABI 4
  std::uint64_t scoped;              // ABI 6
};

inline constexpr unsigned kLandlockVersionQuery = 1U << 0;  // flag of landlock_create_ruleset: answer the ABI

struct LandlockRights {
  int since_abi;
  LandlockRuleset rights;
};

// What each ABI added. Handled and not granted by a rule means denied.
inline constexpr std::array kLandlockRights{
    // Execute, write, read, list, remove (2), make (7: device nodes, directories, files, sockets, pipes,
    // links).
    LandlockRights{1, {.handled_access_fs = (1ULL << 13) - 1, .handled_access_net = 0, .scoped = 0}},
    // Link or rename into another directory.
    LandlockRights{2, {.handled_access_fs = 1ULL << 13, .handled_access_net = 0, .scoped = 0}},
    // Truncate.
    LandlockRights{3, {.handled_access_fs = 1ULL << 14, .handled_access_net = 0, .scoped = 0}},
    // Bind and connect TCP sockets.
    LandlockRights{4, {.handled_access_fs = 0, .handled_access_net = (1ULL << 0) | (1ULL << 1), .scoped = 0}},
    // ioctl on device files opened from here on; the descriptors that were passed to us keep theirs.
    LandlockRights{5, {.handled_access_fs = 1ULL << 15, .handled_access_net = 0, .scoped = 0}},
    // Connect to abstract sockets and send signals, to processes outside.
    LandlockRights{6, {.handled_access_fs = 0, .handled_access_net = 0, .scoped = (1ULL << 0) | (1ULL << 1)}},
};

}  // namespace fuse4fs::sandbox::internal
