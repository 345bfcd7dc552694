// SPDX-License-Identifier: GPL-2.0-or-later
// A fixed sequence that comes by everything a server of iomap is asked: what is wrong in one shows.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "tests/iomap/allocating_volume.h"
#include "tests/iomap/kernel.h"

namespace fuse4fs::iomap_model {

struct Step {
  std::string_view name;
  std::function<Result<void>()> run;
};
// Of a server that is mounted by the first. Each of them succeeds if the server is right. What they refer to
// outlives them.
std::vector<Step> scenario(Kernel& kernel, AllocatingVolume& server);

// What no pattern has.
inline constexpr std::byte kNeverWritten{0345};
// Bytes that say of which file and where in it they are: `key` is the file and the round.
std::vector<std::byte> pattern(std::uint32_t key, std::uint64_t position, std::size_t length);

}  // namespace fuse4fs::iomap_model
