// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "server/sandbox/landlock_abi.h"
#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox::internal {

Outcome<int> forbid_by_landlock() {
  const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, kLandlockVersionQuery);
  if (abi < 0 && (errno == ENOSYS || errno == EOPNOTSUPP)) return 0;  // not built in, or not switched on
  if (abi < 0) return fail_to("ask for Landlock");

  LandlockRuleset denied{};
  for (const auto& [since_abi, rights] : kLandlockRights) {
    if (abi < since_abi) break;
    denied.handled_access_fs |= rights.handled_access_fs;
    denied.handled_access_net |= rights.handled_access_net;
    denied.scoped |= rights.scoped;
  }
  // An older kernel takes the longer struct as long as what it does not know is zero.
  UniqueFd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &denied, sizeof(denied), 0)));
  if (!ruleset) return fail_to("make a Landlock rule set");
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) return fail_to("enter Landlock");
  return static_cast<int>(abi);
}

}  // namespace fuse4fs::sandbox::internal
