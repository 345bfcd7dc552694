// SPDX-License-Identifier: GPL-2.0-or-later
// What fuzz_superblock, fuzz_inode and fuzz_orphans do with an input; also run on their seeds by a unit test.
//
// The first byte chooses the volume, the rest is laid over one area of it from its beginning; what the input
// does not reach stays as mke2fs and the engine made it. Checksums are put right first, so that what they
// guard is reached. Then a user does to the volume what a user can.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace fuse4fs::ext4::fuzz {

enum class Area {
  kSuperblock,  // and the group descriptors
  kInodes,      // the root directory's and the files', and the blocks of their maps
  kOrphans      // the chain's head, a block of the orphan file, and the inodes
};

enum class Tried { kRefused, kMounted };

// Ends the process where a promise is broken: a mount that only reads leaves the volume as it is.
Tried try_volume(Area area, std::span<const std::byte> input);

using VolumeSeed = std::pair<std::string, std::vector<std::byte>>;  // name, input
// The areas as they are, and those that differ from them in one known way.
std::vector<VolumeSeed> volume_seeds(Area area);

}  // namespace fuse4fs::ext4::fuzz
