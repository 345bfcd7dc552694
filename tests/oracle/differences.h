// SPDX-License-Identifier: GPL-2.0-or-later
// The known differences between our mount and the kernel's ext4, all of them: what the comparison lets pass.
// Each row's reason is in docs/differences.md too.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "tests/oracle/executor.h"
#include "tests/oracle/snapshot.h"
#include "tests/oracle/step.h"

namespace fuse4fs::oracle {

// A step that may return something else than the kernel's.
struct KnownDifference {
  std::string_view reason;
  bool (*applies)(const Step& step, const Returned& ours, const Returned& kernels);
  // What root then does on both sides so that they are alike again; nothing where the step changed neither.
  std::optional<Step> (*repair)(const Step& step);
};
std::span<const KnownDifference> known_differences();

// The flags of FS_IOC_GETFLAGS that must be equal.
std::uint32_t comparable_flags(std::uint32_t flags);
// Whether directories of these sizes must be equal in size and blocks.
bool directory_size_counts(std::uint64_t first, std::uint64_t second, std::uint32_t block_size);
// By how many 512-byte sectors two files with the same contents may differ.
std::uint64_t sector_tolerance(const Entry& first, const Entry& second, std::uint32_t block_size);

}  // namespace fuse4fs::oracle
