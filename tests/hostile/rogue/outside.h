// SPDX-License-Identifier: GPL-2.0-or-later
// The runner's own look at a mount that the rogue serves. The runner is root, and waits for no longer than
// kPatience.
#pragma once

#include <chrono>
#include <string>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue::outside {

// Of things that come at once unless something is broken.
inline constexpr std::chrono::seconds kPatience{60};

// STATUS= of a rogue that has said all it wanted to systemd.
inline constexpr char kLastWords[] = "rogue: that was all";

Verdict syncfs_hangs_until_abort(const Outside& mount);
Verdict statfs_hangs_until_abort(const Outside& mount);
Verdict keeps_nosuid_nodev_noexec(const Outside& mount);
Verdict device_node_does_not_open(const Outside& mount);
Verdict cannot_be_written(const Outside& mount);
Verdict mount_ends(const Outside& mount);
// Whether systemd still knows the server's own process as the main one, after what the rogue told it.
Verdict main_process_stays(const Outside& mount);

// mount.fuse4fs --abort; its exit status.
int abort_mount(const Outside& mount);

// Text of a file, or empty.
std::string contents_of(const std::string& path);

}  // namespace fuse4fs::rogue::outside
