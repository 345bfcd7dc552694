// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer: a whole small image, damaged in several places, mounted, read and written to.
#include <cstdint>

#include "tests/hostile/images/damage.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuse4fs::hostile::try_image(std::as_bytes(std::span(data, size)));
  return 0;
}
