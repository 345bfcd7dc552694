// SPDX-License-Identifier: GPL-2.0-or-later
// What fuzz_directory does with an input; also run on the seeds, and on finds, by a unit test.
//
// The first byte chooses the volume and with it the form of its directory. The rest are patches: a byte for
// the block, two for the place in it, one for how many bytes follow, and these. Checksums are put right, so
// that what they guard is reached.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace fuse4fs::ext4::fuzz {

// Ends the process where a promise is broken. Answers whether nothing of it was called corruption.
bool try_directory(std::span<const std::byte> input);

using DirectorySeed = std::pair<std::string, std::vector<std::byte>>;  // name, input
std::vector<DirectorySeed> directory_seeds();

}  // namespace fuse4fs::ext4::fuzz
