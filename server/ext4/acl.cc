// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/acl.h"

#include <sys/stat.h>

#include <cstring>

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint32_t kSystemCallVersion = 2;
constexpr std::uint32_t kVolumeVersion = 1;
constexpr std::uint32_t kNobody = UINT32_MAX;
constexpr mode_t kAllPermissions = S_IRWXU | S_IRWXG | S_IRWXO;
constexpr std::uint16_t kAllRights = 7;
constexpr unsigned kOwnerShift = 6;
constexpr unsigned kGroupShift = 3;

struct ShortEntry {
  std::uint16_t tag, rights;
};
struct LongEntry {
  std::uint16_t tag, rights;
  std::uint32_t id;
};
static_assert(sizeof(ShortEntry) == 4 && sizeof(LongEntry) == 8);

bool is_known(AclTag tag) {
  switch (tag) {
    case AclTag::kOwner:
    case AclTag::kUser:
    case AclTag::kOwningGroup:
    case AclTag::kGroup:
    case AclTag::kMask:
    case AclTag::kOther:
      return true;
  }
  return false;
}

bool is_named(AclTag tag) { return tag == AclTag::kUser || tag == AclTag::kGroup; }

template <class T>
bool take(std::span<const std::byte>& bytes, T& into) {
  if (bytes.size() < sizeof into) return false;
  std::memcpy(&into, bytes.data(), sizeof into);
  bytes = bytes.subspan(sizeof into);
  return true;
}

template <class T>
void put(std::vector<std::byte>& bytes, const T& value) {
  const std::size_t end = bytes.size();
  bytes.resize(end + sizeof value);  // g++ 12 warns of insert() here, wrongly
  std::memcpy(bytes.data() + end, &value, sizeof value);
}

// The bits of the entry's class become those of `mode`, at most or exactly.
enum class Change { kMask, kReplace };
void change_rights(AclEntry& entry, mode_t mode, unsigned shift, Change change) {
  const auto rights = static_cast<std::uint16_t>((mode >> shift) & kAllRights);
  entry.rights = change == Change::kMask ? entry.rights & rights : rights;
}

// Answers whether an entry stood for the mode's group bits.
bool change_acl(Acl& acl, mode_t mode, Change change) {
  AclEntry* group = nullptr;
  AclEntry* mask = nullptr;
  for (auto& entry : acl) {
    switch (entry.tag) {
      case AclTag::kOwner:
        change_rights(entry, mode, kOwnerShift, change);
        break;
      case AclTag::kOther:
        change_rights(entry, mode, 0, change);
        break;
      case AclTag::kOwningGroup:
        group = &entry;
        break;
      case AclTag::kMask:
        mask = &entry;
        break;
      case AclTag::kUser:
      case AclTag::kGroup:
        break;
    }
  }
  AclEntry* const ruling = mask != nullptr ? mask : group;
  if (ruling == nullptr) return false;
  change_rights(*ruling, mode, kGroupShift, change);
  return true;
}

}  // namespace

Result<Acl> acl_from_system_call(std::span<const std::byte> bytes) {
  if (bytes.empty()) return Acl();
  std::uint32_t version = 0;
  if (!take(bytes, version)) return fail(EINVAL);
  if (version != kSystemCallVersion) return fail(EOPNOTSUPP);
  Acl acl;
  while (!bytes.empty()) {
    LongEntry raw{};
    if (!take(bytes, raw)) return fail(EINVAL);
    const auto tag = static_cast<AclTag>(raw.tag);
    if (!is_known(tag) || (is_named(tag) && raw.id == kNobody)) return fail(EINVAL);
    acl.push_back({tag, raw.rights, is_named(tag) ? raw.id : 0});
  }
  return acl;
}

std::vector<std::byte> acl_to_system_call(const Acl& acl) {
  std::vector<std::byte> bytes;
  put(bytes, kSystemCallVersion);
  for (const auto& entry : acl)
    put(bytes, LongEntry{static_cast<std::uint16_t>(entry.tag), entry.rights,
                         is_named(entry.tag) ? entry.id : kNobody});
  return bytes;
}

std::optional<Acl> acl_from_volume(std::span<const std::byte> bytes) {
  std::uint32_t version = 0;
  if (!take(bytes, version) || version != kVolumeVersion) return std::nullopt;
  Acl acl;
  while (!bytes.empty()) {
    ShortEntry raw{};
    if (!take(bytes, raw)) return std::nullopt;
    AclEntry entry{static_cast<AclTag>(raw.tag), raw.rights, 0};
    if (!is_known(entry.tag)) return std::nullopt;
    if (is_named(entry.tag) && !take(bytes, entry.id)) return std::nullopt;
    acl.push_back(entry);
  }
  return acl;
}

std::vector<std::byte> acl_to_volume(const Acl& acl) {
  std::vector<std::byte> bytes;
  put(bytes, kVolumeVersion);
  for (const auto& entry : acl) {
    put(bytes, ShortEntry{static_cast<std::uint16_t>(entry.tag), entry.rights});
    if (is_named(entry.tag)) put(bytes, entry.id);
  }
  return bytes;
}

bool is_valid_acl(const Acl& acl) {
  // Owner, named users, owning group, named groups, mask, others.
  AclTag last{};
  bool has_owner = false;
  bool has_group = false;
  bool has_mask = false;
  bool has_other = false;
  bool has_names = false;
  for (const auto& entry : acl) {
    if (entry.rights > kAllRights || !is_known(entry.tag) || entry.tag < last) return false;
    if (entry.tag == last && !is_named(entry.tag)) return false;
    if (is_named(entry.tag) && entry.id == kNobody) return false;
    last = entry.tag;
    has_owner |= entry.tag == AclTag::kOwner;
    has_group |= entry.tag == AclTag::kOwningGroup;
    has_mask |= entry.tag == AclTag::kMask;
    has_other |= entry.tag == AclTag::kOther;
    has_names |= is_named(entry.tag);
  }
  return has_owner && has_group && has_other && (has_mask || !has_names);
}

AclMode mode_of_acl(const Acl& acl) {
  AclMode mode{0, true};
  std::optional<mode_t> mask;
  for (const auto& entry : acl) {
    const mode_t rights = entry.rights & kAllRights;
    switch (entry.tag) {
      case AclTag::kOwner:
        mode.permissions |= rights << kOwnerShift;
        break;
      case AclTag::kOwningGroup:
        mode.permissions |= rights << kGroupShift;
        break;
      case AclTag::kOther:
        mode.permissions |= rights;
        break;
      case AclTag::kMask:
        mask = rights;
        mode.says_all = false;
        break;
      case AclTag::kUser:
      case AclTag::kGroup:
        mode.says_all = false;
        break;
    }
  }
  if (mask) mode.permissions = (mode.permissions & ~static_cast<mode_t>(S_IRWXG)) | *mask << kGroupShift;
  return mode;
}

Result<InheritedMode> inherit_acl(Acl& acl, mode_t mode) {
  if (!change_acl(acl, mode, Change::kMask)) return fail(EIO);
  const AclMode own = mode_of_acl(acl);
  return InheritedMode{(mode & ~kAllPermissions) | (mode & own.permissions), own.says_all};
}

Result<void> change_acl_mode(Acl& acl, mode_t mode) {
  if (!change_acl(acl, mode, Change::kReplace)) return fail(EIO);
  return {};
}

}  // namespace fuse4fs::ext4
