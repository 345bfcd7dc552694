// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/name_hash.h"

#include "server/ext4/ext2.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

// Between the hash that takes characters as signed and the one that does not.
constexpr int kUnsigned = EXT2_HASH_LEGACY_UNSIGNED - EXT2_HASH_LEGACY;
// Ends listings in the kernel: no name may have it.
constexpr std::uint32_t kEnd = 0xfffffffe;

}  // namespace

std::optional<std::uint8_t> NameHasher::version() const {
  if (!ext2fs_has_feature_dir_index(volume_.super_pointer())) return std::nullopt;
  const std::uint8_t version = volume_.super().s_def_hash_version;
  if (version > EXT2_HASH_TEA) return std::nullopt;
  return version;
}

NameHash NameHasher::of(std::string_view name, std::uint8_t version) const {
  const auto& super = volume_.super();
  // Without either flag, e2fsck takes characters as signed; the kernel sets a flag when it mounts.
  const int offset = (super.s_flags & EXT2_FLAGS_UNSIGNED_HASH) != 0 ? kUnsigned : 0;
  const auto hash = [&](int with, NameHash& into) {
    // It fails for unknown versions only.
    (void)ext2fs_dirhash(with + offset, name.data(), static_cast<int>(name.size()), super.s_hash_seed,
                         &into.major, &into.minor);
  };
  NameHash result;
  hash(version, result);
  if (version == EXT2_HASH_LEGACY) {
    // It has no minor part, without which two names in hundred thousand would share a listing's position.
    NameHash other;
    hash(EXT2_HASH_HALF_MD4, other);
    result.minor = other.minor;
  }
  result.major &= ~1U;
  if (result.major == kEnd) result.major = kEnd - 2;
  return result;
}

}  // namespace fuse4fs::ext4
