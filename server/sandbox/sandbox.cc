// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/sandbox/sandbox.h"

#include <sys/prctl.h>

#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox {

Outcome<Report> enter(const Options& options) {
  Report report;
  RETURN_IF_ERROR(internal::refuse_root());
  RETURN_IF_ERROR(internal::refuse_threads());
  // After that: it starts and joins a thread, which may be listed for a moment more.
  internal::prepare_c_library();
  report.own_user_namespace = internal::in_own_user_namespace();

  RETURN_IF_ERROR(internal::close_other_descriptors(options.kept_descriptors));
  ASSIGN_OR_RETURN(report.empty_root, internal::make_root_empty());
  RETURN_IF_ERROR(internal::blind_standard_descriptors(options.kept_descriptors));
  RETURN_IF_ERROR(internal::lower_limits(options.kept_descriptors));
  RETURN_IF_ERROR(internal::limit_files(options.largest_file));
  if (options.memory != 0) RETURN_IF_ERROR(internal::limit_memory(options.memory));
  ASSIGN_OR_RETURN(report.empty_bounding_set, internal::drop_privileges());
  ASSIGN_OR_RETURN(report.landlock_abi, internal::forbid_by_landlock());
  report.landlock = report.landlock_abi > 0;
  // Threads inherit the name.
  ::prctl(PR_SET_NAME, "fuse4fs", 0, 0, 0);

  if (options.start_threads) {
    if (auto started = options.start_threads(); !started) {
      return fail(started.error(), "cannot start the server's threads: " + started.error().message());
    }
  }
  RETURN_IF_ERROR(internal::forbid_new_threads());
  RETURN_IF_ERROR(internal::load_filter(options.iomap));
  return report;
}

}  // namespace fuse4fs::sandbox
