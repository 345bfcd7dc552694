// SPDX-License-Identifier: GPL-2.0-or-later
// The known differences between our mount and the kernel's ext4, all of them: what the comparison lets pass.
// Each row's reason is in docs/differences.md too.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tests/oracle/executor.h"
#include "tests/oracle/snapshot.h"
#include "tests/oracle/step.h"

namespace fuse4fs::oracle {

// What a volume can store.
struct VolumeRules {
  std::uint32_t block_size = 0;    // bytes
  std::uint32_t cluster_size = 0;  // bytes; as the block unless bigalloc
  std::int64_t granularity = 1;    // of times, nanoseconds
  bool inline_data = false;        // files may lie inside of their inodes
  bool mapped_ahead = false;  // a kernel with fuse-iomap: files that have grown have more blocks for a while
  // Of times, seconds: a signed 32-bit number, and two epoch bits.
  std::int64_t earliest = -(std::int64_t{1} << 31);
  std::int64_t latest = (std::int64_t{1} << 34) - (std::int64_t{1} << 31) - 1;
};

struct Circumstances {
  VolumeRules rules;
  bool locked = false;  // one of the step's paths, or its parent, is immutable or append-only
};

// A step that may return something else than the kernel's.
struct KnownDifference {
  std::string_view reason;
  bool (*applies)(const Step& step, const Circumstances& there, const Returned& ours,
                  const Returned& kernels);
  // What root then does on both sides so that they are alike again; nothing where the step changed neither.
  std::vector<Step> (*repair)(const Step& step);
};
std::span<const KnownDifference> known_differences();

// A step that returned the same and may leave something else behind. `field` is what differs, as comparison.h
// names it.
struct KnownTrace {
  std::string_view reason;
  bool (*applies)(const Step& step, const Returned& returned, std::string_view field, const Entry& ours,
                  const Entry& kernels);
  std::vector<Step> (*repair)(const Step& step, const std::string& path, const Entry& kernels);
};
std::span<const KnownTrace> known_traces();

// A time as the volume can store it.
timespec comparable_time(timespec time, const VolumeRules& rules);
// Whether our mount's ctime of the file (of that mode) counts no more, until it is mounted again.
bool ctime_is_unsure_after(const Step& step, mode_t mode);
// The flags of FS_IOC_GETFLAGS that must be equal.
std::uint32_t comparable_flags(std::uint32_t flags, mode_t mode);
// Whether directories of these sizes must be equal in size and blocks.
bool directory_size_counts(std::uint64_t first, std::uint64_t second, std::uint32_t block_size);
// By how many 512-byte sectors two files with the same contents may differ.
std::uint64_t sector_tolerance(const Entry& first, const Entry& second, const VolumeRules& rules);
// Where data and holes begin (Entry::edges), as far as that must be equal.
std::vector<std::int64_t> comparable_edges(const Entry& entry, const VolumeRules& rules);

// Whether SEEK_DATA and SEEK_HOLE of a file of this mode and with these flags (FS_*_FL) are left out.
bool seek_is_left_out(mode_t mode, std::uint32_t flags);
// Whether the step is left out because it writes a file with these STATX_ATTR_* attributes.
bool writing_is_left_out(const Step& step, std::uint64_t attributes);
// Whether the step is left out because it sets such times of a file with these STATX_ATTR_* attributes.
bool times_are_left_out(const Step& step, std::uint64_t attributes, const VolumeRules& rules);
// Whether truncate(2) to this size is left out because it changes nothing but times.
bool truncate_is_left_out(std::int64_t size_now, std::int64_t wanted);

}  // namespace fuse4fs::oracle
