// SPDX-License-Identifier: GPL-2.0-or-later
// Damage of prepared images, as a program of bytes: what fuzz_image and the run of mutated images share.
//
// The first byte chooses the image, the second has the bits below, and then come pieces of eight bytes, one a
// mutation: what is done (three bits) and to what kind of block (five); which of them and where in it, two
// bytes each; three bytes of value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/hostile/images/judge.h"
#include "tests/hostile/images/prepared_images.h"

namespace fuse4fs::hostile {

enum DamageBits : std::uint8_t {
  // Checksums are put right: most of the code lies behind them.
  kSeal = 1,
  // Of the mutations the last one cuts the device short.
  kTruncate = 2,
};

const PreparedImage& image_of(std::span<const std::byte> program);
std::vector<std::byte> damaged_image(std::span<const std::byte> program);
Verdict try_image(std::span<const std::byte> program);

// The images as they are, and with one known damage each.
struct DamageSeed {
  std::string name;
  std::vector<std::byte> program;
};
std::vector<DamageSeed> damage_seeds();
// Of the run of mutated images, by number: the same each time.
std::vector<std::byte> damage_of(std::uint64_t seed);

}  // namespace fuse4fs::hostile
