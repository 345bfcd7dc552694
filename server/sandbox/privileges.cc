// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>

#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox::internal {
namespace {

using CapabilitySets = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

// Raw calls instead of libcap-ng, which wants to read /proc: there is none in an empty root.
bool get_capabilities(CapabilitySets& sets) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capget, &header, sets.data()) == 0;
}

bool set_capabilities(const CapabilitySets& sets) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capset, &header, sets.data()) == 0;
}

bool holds_any(const CapabilitySets& sets) {
  return std::ranges::any_of(
      sets, [](const auto& set) { return (set.effective | set.permitted | set.inheritable) != 0; });
}

// Best effort: needs CAP_SETPCAP, and the empty sets and no_new_privs do without it.
bool empty_bounding_set() {
  bool empty = true;
  for (unsigned long capability = 0; capability < 64; ++capability) {
    const int present = ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (present < 0) break;  // past the last one that this kernel knows
    if (present > 0 && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) empty = false;
  }
  return empty;
}

}  // namespace

std::unexpected<Failure> fail_to(const std::string& what) {
  const Errno error = Errno::last();
  return fail(error, "sandbox: cannot " + what + ": " + error.message());
}

Outcome<void> refuse_root() {
  uid_t real = 0, effective = 0, saved = 0;
  if (::getresuid(&real, &effective, &saved) != 0) return fail_to("ask for the user id");
  if (real == 0 || effective == 0 || saved == 0) {
    return fail(
        Errno(EPERM),
        "sandbox: the server does not run as root; mount.fuse4fs or the unit fuse4fs@.service starts it as a "
        "user without rights");
  }
  return {};
}

Outcome<void> refuse_threads() {
#ifndef FUSE4FS_SANITIZED  // ThreadSanitizer has a thread of its own.
  struct stat tasks{};
  // Two links for the directory itself, one for each thread.
  if (::stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 3) {
    return fail(Errno(EBUSY), "sandbox: entered with threads running, which it would not reach");
  }
#endif
  return {};
}

bool in_own_user_namespace() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> map(std::fopen("/proc/self/uid_map", "re"),
                                                            std::fclose);
  if (!map) return false;
  unsigned long inside = 0, outside = 0, count = 0;
  // The first namespace maps all ids to themselves.
  return std::fscanf(map.get(), "%lu %lu %lu", &inside, &outside, &count) == 3 && count < 0xffffffff;
}

bool has_effective_capability(int capability) {
  CapabilitySets sets{};
  return get_capabilities(sets) && (sets[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

Outcome<bool> drop_privileges() {
  // Best effort, as the bounding set: an exec or a change of user id shall bring no capability back.
  ::prctl(PR_SET_SECUREBITS,
          SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
              SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
          0, 0, 0);
  const bool bounding_set_is_empty = empty_bounding_set();

  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
    return fail_to("drop ambient capabilities");
  CapabilitySets sets{};
  if (!get_capabilities(sets)) return fail_to("ask for the capabilities");
  // systemd starts the server without any, and kills it if it calls capset (units/fuse4fs@.service.in).
  if (holds_any(sets)) {
    if (!set_capabilities({})) return fail_to("drop capabilities");
    if (!get_capabilities(sets)) return fail_to("ask for the capabilities");
    if (holds_any(sets)) return fail(Errno(EPERM), "sandbox: the kernel left a capability behind");
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_to("forbid new privileges");
  return bounding_set_is_empty;
}

}  // namespace fuse4fs::sandbox::internal
