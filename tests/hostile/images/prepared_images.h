// SPDX-License-Identifier: GPL-2.0-or-later
// Volumes to be damaged: of many forms, filled by the engine, some with a journal that a crash left behind.
//
// Each is made when it is first asked for, by mke2fs, debugfs and the engine; the same each time but for
// times and generations. What cannot be made ends the process. Locking: none, one thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tests/fuzz/volume_areas.h"

namespace fuse4fs::hostile {

struct PreparedImage {
  std::string name;
  std::size_t block_size = 0;  // bytes
  std::string bytes;
  // Where checksums can be put right after a change: of volumes that have some.
  std::optional<ext4::fuzz::VolumeAreas> areas;
  // What counts of the blocks with something in them, by what they are; all but the content of files.
  std::vector<std::vector<ext4::fuzz::Region>> kinds;
};

std::size_t prepared_images();  // how many
const PreparedImage& prepared_image(std::size_t index);

}  // namespace fuse4fs::hostile
