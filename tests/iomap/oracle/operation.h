// SPDX-License-Identifier: GPL-2.0-or-later
// What a program does to one of a few files, as data: so that it can be done twice, compared and printed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fuse4fs::iomap_model {

struct Operation {
  enum class Kind {
    kRead,
    kDirectRead,
    kWrite,
    kDirectWrite,
    kStore,  // through a mapping; within the file
    kTruncate,
    kOpenTruncating,  // open(2) with O_TRUNC
    kAllocate,
    kAllocateKeepingSize,
    kPunch,
    kZero,
    kZeroKeepingSize,
    kCopy,  // copy_file_range(2), to another file or the same
    kSync,
    kSyncData,
    kClose,
    kReclaim,  // clean pages go
    kEvict,    // closed, forgotten and opened again
    kReplace,  // unlinked, and made anew
    kSeekData,
    kSeekHole,
    kTick  // what the server does every few seconds
  };
  Kind kind = Kind::kRead;
  std::size_t file = 0;
  std::uint64_t position = 0, length = 0;  // bytes
  std::uint32_t key = 0;                   // of what is written: scenario.h
  std::size_t to_file = 0;                 // kCopy
  std::uint64_t to = 0;

  friend bool operator==(const Operation&, const Operation&) = default;
};

[[nodiscard]] std::string describe(const Operation& operation);
// The bytes that it writes.
[[nodiscard]] std::vector<std::byte> bytes_of(const Operation& operation);
// Whether it may find the volume full.
[[nodiscard]] bool needs_blocks(Operation::Kind kind);

// What it came to.
struct Outcome {
  int error = 0;            // an errno
  std::uint64_t value = 0;  // bytes done; a position of SEEK_DATA, SEEK_HOLE
  std::vector<std::byte> bytes{};

  friend bool operator==(const Outcome&, const Outcome&) = default;
};
[[nodiscard]] std::string describe(const Outcome& outcome);
// The first difference in the bytes, if it is that.
[[nodiscard]] std::string describe_difference(const Outcome& one, const Outcome& other);

}  // namespace fuse4fs::iomap_model
