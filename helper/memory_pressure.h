// SPDX-License-Identifier: GPL-2.0-or-later
// Descriptors by which the kernel tells that processes wait for memory (Documentation/accounting/psi.rst).
//
// The server can poll such a descriptor (POLLPRI), and nothing else: it is open for writing only, so it
// cannot read how busy the machine or its group is, and it takes one trigger in its life (EBUSY to a second),
// which is written here.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

inline constexpr char kMachinePressure[] = "/proc/pressure/memory";

// A trigger in the pressure file at `path`: some process waited for memory for a tenth of the time. What
// open(2) and write(2) say where the kernel has none to give (EOPNOTSUPP: switched off).
Result<UniqueFd> watch_memory_pressure(const std::string& path);

// The pressure file of the process's control group, in this mount namespace; empty if it is in the topmost
// one, whose file tells of the whole machine, or has none here.
std::string pressure_file_of(pid_t pid);

}  // namespace fuse4fs::helper
