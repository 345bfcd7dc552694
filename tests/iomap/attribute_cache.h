// SPDX-License-Identifier: GPL-2.0-or-later
// What stat(2) of one inode is answered from, until it is too old or the inode was changed.
//
// Any thread; a leaf lock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

#include "server/fuse/kernel_abi.h"

namespace fuse4fs::iomap_model {

// How long an answer may be used that came now: entry_valid and attr_valid.
inline std::chrono::steady_clock::time_point valid_until(std::uint64_t seconds, std::uint32_t nanoseconds) {
  // Of a clock that counts from the machine's start no answer is as old.
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 30;
  return std::chrono::steady_clock::now() + std::chrono::seconds(std::min(seconds, kLongest)) +
         std::chrono::nanoseconds(nanoseconds);
}

class AttributeCache {
 public:
  // `Reply`: fuse_attr_out or fuse_entry_out.
  template <class Reply>
  void keep(const Reply& reply) {
    const std::lock_guard lock(mutex_);
    attributes_ = reply.attr;
    until_ = valid_until(reply.attr_valid, reply.attr_valid_nsec);
  }
  void expire() {
    const std::lock_guard lock(mutex_);
    attributes_.reset();
  }
  [[nodiscard]] std::optional<fuse_attr> get() const {
    const std::lock_guard lock(mutex_);
    return std::chrono::steady_clock::now() < until_ ? attributes_ : std::nullopt;
  }

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::optional<fuse_attr> attributes_;
  std::chrono::steady_clock::time_point until_;
};

}  // namespace fuse4fs::iomap_model
