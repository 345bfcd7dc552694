// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer: damaged directories in, no crash, no endless walk, and what is not called damaged works.
#include <cstdint>

#include "tests/fuzz/directory_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuse4fs::ext4::fuzz::try_directory(std::as_bytes(std::span(data, size)));
  return 0;
}
