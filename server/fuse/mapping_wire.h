// SPDX-License-Identifier: GPL-2.0-or-later
// Between the engine's mappings and the records of fuse-iomap (base/fuse_iomap_abi.h, server/ext4's
// mapping_service.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/fuse_iomap_abi.h"
#include "base/result.h"
#include "server/ext4/mapping_service.h"

namespace fuse4fs::fuse {

// EINVAL for a range that is none; EOPNOTSUPP for an operation that this server has no answer to.
Result<ext4::MappingRequest> mapping_request(const iomap_abi::BeginIn& in);
ext4::MappingPurpose purpose_of(std::uint32_t operation);
ext4::FinishedOperation finished_operation(const iomap_abi::EndIn& in);
// EINVAL for a range that is none.
Result<ext4::CompletedWrite> completed_write(const iomap_abi::IoendIn& in);

// `device`: the id that the device was registered by.
iomap_abi::Mapping to_wire(const ext4::DataMapping& mapping, std::uint32_t device);
// The read record of what the kernel has been told already (DataMapping::Place::kRemembered): it looks again.
iomap_abi::Mapping retry_cache(const ext4::DataMapping& mapping);
// The write record: what is written goes where the read record says.
iomap_abi::Mapping pure_overwrite(const ext4::DataMapping& mapping);

// Which of the kernel's rules the mapping breaks; empty: none. The kernel says EUCLEAN to its caller, and
// nothing to anybody else.
std::string_view broken_rule(const ext4::DataMapping& mapping, std::uint64_t position,
                             std::uint32_t block_size);

}  // namespace fuse4fs::fuse
