// SPDX-License-Identifier: GPL-2.0-or-later
// What the fuzzers of one area of a volume do with an input (fuzz_superblock, fuzz_inode, fuzz_orphans,
// fuzz_descriptors, fuzz_bitmaps, fuzz_maps, fuzz_attributes); also run on their seeds by a unit test.
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
  kInodes,      // the root directory's and the files'
  kOrphans,     // the chain's head, a block of the orphan file, and the inodes
  kDescriptors,
  kBitmaps,    // of blocks and of inodes
  kMaps,       // extent trees and indirect maps: what lies in the inodes, and their blocks
  kAttributes  // extended attributes in inodes, in blocks, and in inodes of their own
};

enum class Tried { kRefused, kMounted };

// Ends the process where a promise is broken: a mount that only reads leaves the volume as it is.
Tried try_volume(Area area, std::span<const std::byte> input);

using VolumeSeed = std::pair<std::string, std::vector<std::byte>>;  // name, input
// The areas as they are, and those that differ from them in one known way.
std::vector<VolumeSeed> volume_seeds(Area area);

}  // namespace fuse4fs::ext4::fuzz
