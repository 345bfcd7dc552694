// SPDX-License-Identifier: GPL-2.0-or-later
// CRC32C as the volume's checksums use it: no inversion at either end, so that a sum can go on from another.
//
// By the processor's instruction where there is one: a directory block is summed at each change, and in
// software that costs more than the change.
// Any thread. Errors: none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fuse4fs::ext4 {

// `length` in bytes.
std::uint32_t crc32c(std::uint32_t sum, const void* data, std::size_t length);

}  // namespace fuse4fs::ext4
