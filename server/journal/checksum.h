// SPDX-License-Identifier: GPL-2.0-or-later
// The two checksums of jbd2. Both take the value so far and give the next one, with no inversion at either
// end, as the kernel's crc32_be() and crc32c() do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fuse4fs::journal {

// Polynomial 0x1EDC6F41, lowest bit first: checksum v2 and v3, and ext4's own metadata_csum.
std::uint32_t crc32c(std::uint32_t seed, std::span<const std::byte> bytes);

// Polynomial 0x04C11DB7, highest bit first: checksum v1.
std::uint32_t crc32_be(std::uint32_t seed, std::span<const std::byte> bytes);

}  // namespace fuse4fs::journal
