// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/acl_mask.h"

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "server/ext4/xattr_keys.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint32_t kVersion = 1;
enum Tag : std::uint16_t {
  kOwner = 0x01,
  kUser = 0x02,
  kOwningGroup = 0x04,
  kGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20,
};

// What the owning group may do, as three bits; nothing if the ACL is malformed.
unsigned rights_of_group(std::span<const std::byte> acl) {
  std::uint32_t version = 0;
  if (acl.size() < sizeof version) return 0;
  std::memcpy(&version, acl.data(), sizeof version);
  if (version != kVersion) return 0;
  acl = acl.subspan(sizeof version);
  std::optional<unsigned> group;
  std::optional<unsigned> mask;
  while (!acl.empty()) {
    std::uint16_t fields[2];  // tag, rights
    if (acl.size() < sizeof fields) return 0;
    std::memcpy(fields, acl.data(), sizeof fields);
    std::size_t length = sizeof fields;
    switch (fields[0]) {
      case kUser:
      case kGroup:
        length += sizeof(std::uint32_t);
        break;
      case kOwningGroup:
        if (group) return 0;
        group = fields[1];
        break;
      case kMask:
        if (mask) return 0;
        mask = fields[1];
        break;
      case kOwner:
      case kOther:
        break;
      default:
        return 0;
    }
    if (acl.size() < length || fields[1] > 7) return 0;
    acl = acl.subspan(length);
  }
  return group.value_or(0) & mask.value_or(7);
}

}  // namespace

mode_t shown_mode(Volume& volume, const Inode& inode) {
  const mode_t mode = inode.mode();
  // The group may do nothing anyway, or the type has no ACL.
  if ((mode & S_IRWXG) == 0 || inode.is_symlink()) return mode;
  const auto acl = access_acl(volume, inode);
  if (acl && !*acl) return mode;
  const mode_t group = acl ? static_cast<mode_t>(rights_of_group(**acl)) << 3 : 0;
  return mode & (~static_cast<mode_t>(S_IRWXG) | group);
}

}  // namespace fuse4fs::ext4
