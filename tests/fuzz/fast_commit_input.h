// SPDX-License-Identifier: GPL-2.0-or-later
// What fuzz_fast_commit does with an input; also run on the seeds, and on finds, by a unit test.
//
// The first byte chooses the volume, the rest is the fast-commit area in blocks of 1 KiB. Its transaction and
// its checksums are put right first, so that what they guard is reached.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace fuse4fs::ext4::fuzz {

// Ends the process where a promise is broken. Answers whether there was something to replay, and it was.
bool try_fast_commits(std::span<const std::byte> input);

using Seed = std::pair<std::string, std::vector<std::byte>>;  // name, input
std::vector<Seed> fast_commit_seeds();

}  // namespace fuse4fs::ext4::fuzz
