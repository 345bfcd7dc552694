// SPDX-License-Identifier: GPL-2.0-or-later
// Judges a raw superblock before libext2fs sees it: is it ext4, is its geometry possible, may we serve it?
//
// Pure: bytes in, words out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/ext4/ext2.h"
#include "server/ext4/file_system.h"
#include "server/ext4/multi_mount_protection.h"

namespace fuse4fs::ext4 {

inline constexpr std::uint64_t kSuperblockOffset = 1024;
inline constexpr std::size_t kSuperblockSize = 1024;

struct SuperblockVerdict {
  std::uint32_t block_size = 0;      // bytes
  std::vector<std::string> notices;  // for the log: accepted, but worth knowing
  // kReadOnly where the volume may not be written, whatever was asked for; a notice says why.
  cache::Access access = cache::Access::kReadWrite;
  // Set where the volume is to be written and has the feature.
  std::optional<MultiMountPlace> multi_mount = std::nullopt;
};

// A refusal says which field or feature is why, and what to do.
Outcome<SuperblockVerdict> judge_superblock(std::span<const std::byte, kSuperblockSize> raw,
                                            std::uint64_t device_size, const MountOptions& options);

// Nothing of a superblock with a wrong checksum may decide what is written. Fine where it has none.
Outcome<void> check_superblock_checksum(std::span<const std::byte, kSuperblockSize> raw);
std::uint32_t superblock_checksum(const ext2_super_block& super);

}  // namespace fuse4fs::ext4
