// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer: a log in, no crash, no endless walk, no plan that breaks its promises.
#include "journal_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuse4fs::journal::fuzz::try_journal(std::as_bytes(std::span(data, size)));
  return 0;
}
