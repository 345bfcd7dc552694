// SPDX-License-Identifier: GPL-2.0-or-later
#include <unistd.h>

#include <memory>
#include <span>

#include "server/sandbox/allowed_calls.h"
#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox::internal {
namespace {

using Filter = std::unique_ptr<void, void (*)(scmp_filter_ctx)>;

scmp_arg_cmp comparison(const ArgumentIs& wanted) {
  switch (wanted.kind) {
    case ArgumentIs::Kind::kEqual:
      return {wanted.argument, SCMP_CMP_EQ, wanted.value, 0};
    case ArgumentIs::Kind::kBitsClear:
      return {wanted.argument, SCMP_CMP_MASKED_EQ, wanted.value, 0};
    case ArgumentIs::Kind::kBitsSet:
      return {wanted.argument, SCMP_CMP_MASKED_EQ, wanted.value, wanted.value};
    case ArgumentIs::Kind::kMasked:
      return {wanted.argument, SCMP_CMP_MASKED_EQ, wanted.mask, wanted.value};
    case ArgumentIs::Kind::kOwnProcess:
      return {wanted.argument, SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()), 0};
    case ArgumentIs::Kind::kUnused:
      break;
  }
  return {};
}

// libseccomp answers negative error numbers.
std::unexpected<Failure> refused(int negative, const std::string& what) {
  errno = -negative;
  return fail_to(what);
}

Outcome<void> allow(scmp_filter_ctx filter, std::span<const AllowedCall> calls) {
  for (const AllowedCall& call : calls) {
    std::array<scmp_arg_cmp, 2> conditions{};
    unsigned count = 0;
    for (const ArgumentIs& wanted : {call.first, call.second}) {
      if (wanted.kind != ArgumentIs::Kind::kUnused) conditions.at(count++) = comparison(wanted);
    }
    if (int error = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call.number, count, conditions.data());
        error < 0) {
      return refused(error, std::string("allow a system call for: ") + call.reason);
    }
  }
  return {};
}

}  // namespace

Outcome<void> load_filter(Iomap iomap) {
  Filter filter(seccomp_init(SCMP_ACT_KILL_PROCESS), seccomp_release);
  if (!filter) return fail(Errno(ENOMEM), "sandbox: cannot make a system-call filter");
  struct Setting {
    scmp_filter_attr attribute;
    std::uint32_t value;
  };
  for (const auto& [attribute, value] : {
           Setting{SCMP_FLTATR_CTL_TSYNC, 1},                        // all threads, or none and an error
           Setting{SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS},  // 32-bit calls have other numbers
           Setting{SCMP_FLTATR_CTL_OPTIMIZE, 2},                     // a binary tree: it runs at each call
       }) {
    if (int error = seccomp_attr_set(filter.get(), attribute, value); error < 0) {
      return refused(error, "set up the system-call filter");
    }
  }
  RETURN_IF_ERROR(allow(filter.get(), kAllowedCalls));
  if (iomap == Iomap::kAllowed) RETURN_IF_ERROR(allow(filter.get(), kIomapCalls));
#ifdef FUSE4FS_SANITIZED
  RETURN_IF_ERROR(allow(filter.get(), kSanitizerCalls));
#endif
  if (int error = seccomp_load(filter.get()); error < 0) return refused(error, "load the system-call filter");
  return {};
}

}  // namespace fuse4fs::sandbox::internal

#ifdef FUSE4FS_SANITIZED
// The leak check at exit stops the process from a second one, which the sandbox forbids. Tests of the engine
// without a sandbox look for leaks.
extern "C" int __lsan_is_turned_off() { return 1; }
#endif
