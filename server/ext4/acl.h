// SPDX-License-Identifier: GPL-2.0-or-later
// POSIX ACLs: their two forms in bytes, and how they and a mode's permission bits depend on each other.
//
// Pure functions. An ACL without entries stands for none.
// Formats: linux/posix_acl_xattr.h (system calls), Documentation/filesystems/ext4 (volume).
// Rules: acl(5); where that leaves a choice, what the kernel's ext4 was seen to do.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"

namespace fuse4fs::ext4 {

enum class AclTag : std::uint16_t {
  kOwner = 0x01,
  kUser = 0x02,
  kOwningGroup = 0x04,
  kGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20,
};

struct AclEntry {
  AclTag tag{};
  std::uint16_t rights = 0;  // rwx
  std::uint32_t id = 0;      // of kUser and kGroup
  bool operator==(const AclEntry&) const = default;
};
using Acl = std::vector<AclEntry>;

// EINVAL for what is no ACL, EOPNOTSUPP for another version. Its order is not judged.
Result<Acl> acl_from_system_call(std::span<const std::byte> bytes);
std::vector<std::byte> acl_to_system_call(const Acl& acl);
// Nothing for what is no ACL.
std::optional<Acl> acl_from_volume(std::span<const std::byte> bytes);
std::vector<std::byte> acl_to_volume(const Acl& acl);

// Whether a user may set it: all three basic entries, a mask where others are, in the right order.
bool is_valid_acl(const Acl& acl);

struct AclMode {
  mode_t permissions = 0;  // the nine bits
  bool says_all = false;   // the bits say as much as the ACL: it need not be stored
};
AclMode mode_of_acl(const Acl& acl);

// `acl` is a directory's default; it becomes the ACL of what is made in there with `mode`. Answers the mode
// of that, all of its other bits kept. EIO for an ACL without group and mask, as in the kernel.
struct InheritedMode {
  mode_t mode = 0;
  bool says_all = false;
};
Result<InheritedMode> inherit_acl(Acl& acl, mode_t mode);

// chmod(2): the entries that the bits stand for.
Result<void> change_acl_mode(Acl& acl, mode_t mode);

}  // namespace fuse4fs::ext4
