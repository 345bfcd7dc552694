// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer: a part of a volume in (FUZZED_AREA of the build), no crash, no endless walk.
#include <cstdint>

#include "tests/fuzz/volume_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fuse4fs::ext4::fuzz;
  try_volume(Area::FUZZED_AREA, std::as_bytes(std::span(data, size)));
  return 0;
}
