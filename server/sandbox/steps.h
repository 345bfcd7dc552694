// SPDX-License-Identifier: GPL-2.0-or-later
// The single steps of sandbox::enter(), in the order in which it takes them. Apart so that the tests can show
// what each layer denies when the ones behind it are missing. No other part of the server includes this.
//
// Threads: each step before start_threads holds for the calling thread and those it starts later.
// Errors: the words name the step; a step that failed may have been done in part.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "server/sandbox/sandbox.h"

namespace fuse4fs::sandbox::internal {

// The Failure of a system call that just set errno: "cannot WHAT: strerror".
std::unexpected<Failure> fail_to(const std::string& what);

// EPERM if any of the real, effective and saved user ids is 0.
Outcome<void> refuse_root();
// EBUSY if there is a second thread, which the steps would not reach (not checked without /proc).
Outcome<void> refuse_threads();
bool in_own_user_namespace();
bool has_effective_capability(int capability);

// Has the C library open and ask now what it would open or ask at some later call, when it no longer may.
void prepare_c_library();

// Closes all but `kept` and 0, 1, 2.
Outcome<void> close_other_descriptors(std::span<const int> kept);
// Answers whether it made one: only with CAP_SYS_ADMIN.
Outcome<bool> make_root_empty();
// 0 and 1, unless kept, become descriptors of the root that can be neither read nor written.
Outcome<void> blind_standard_descriptors(std::span<const int> kept);
Outcome<void> lower_limits(std::span<const int> kept);
// As Options::memory and Options::largest_file.
Outcome<void> limit_memory(std::uint64_t bytes);
Outcome<void> limit_files(std::uint64_t largest);
// Answers whether the bounding set is empty too.
Outcome<bool> drop_privileges();
// Answers the kernel's Landlock ABI; 0: a kernel without Landlock, nothing done.
Outcome<int> forbid_by_landlock();
// After the last thread was started.
Outcome<void> forbid_new_threads();
// All threads. From here on a call that allowed_calls.h does not name kills the process.
Outcome<void> load_filter(Iomap iomap);

}  // namespace fuse4fs::sandbox::internal
