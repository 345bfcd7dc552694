// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer: fast commits in, no crash, no endless walk, and nothing written by what is refused.
#include <cstdint>

#include "tests/fuzz/fast_commit_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuse4fs::ext4::fuzz::try_fast_commits(std::as_bytes(std::span(data, size)));
  return 0;
}
