// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel checks of what a server tells it: pure functions, in the kernel's order.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/fuse_iomap_abi.h"
#include "tests/iomap/breaches.h"

namespace fuse4fs::iomap_model {

namespace abi = iomap_abi;

// What the checks need to know of the connection and the inode. Sizes in bytes.
struct RuleContext {
  std::uint64_t block_size = 4096;
  std::uint64_t largest_file = 0;
  enum class Cache { kAbsent, kPresent };
  Cache cache = Cache::kAbsent;
  // The size of a registered device; nothing for others.
  std::function<std::optional<std::uint64_t>(std::uint32_t device)> device_size;
};
enum class Record { kRead, kWrite };

// For people: "read 4096+8192 MAPPED at 1048576 on 1 flags 0".
std::string describe(const abi::Mapping& mapping);

std::optional<Breach> check_mapping(const abi::Mapping& mapping, Record record, const RuleContext& context);
// The whole reply, `position` being what was asked for.
std::optional<Breach> check_begin(const abi::BeginOut& reply, std::uint64_t position,
                                  const RuleContext& context);
std::optional<Breach> check_upsert(const abi::Mapping& mapping, Record record, const RuleContext& context);
std::optional<Breach> check_invalidation(const abi::Range& range, const RuleContext& context);
// The answer to `operation` (abi::OperationFlag) that wants [position, position + count), against what the
// kernel can do with it. `mapping` is the record that counts.
std::optional<Breach> check_use(const abi::Mapping& mapping, std::uint32_t operation, std::uint64_t position,
                                std::uint64_t count, std::uint64_t file_size);

}  // namespace fuse4fs::iomap_model
