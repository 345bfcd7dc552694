// SPDX-License-Identifier: GPL-2.0-or-later
// Page-aligned memory for file data, so that it can go between /dev/fuse and the device without a copy in
// between.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

#include "server/fuse/kernel_abi.h"

namespace fuse4fs::fuse {

inline constexpr std::size_t kBufferAlignment = 4096;  // bytes; enough for O_DIRECT on any device

class TransferBuffer {
 public:
  explicit TransferBuffer(std::size_t capacity)
      : capacity_(capacity),
        memory_(static_cast<std::byte*>(std::aligned_alloc(kBufferAlignment, capacity))) {
    if (!memory_) throw std::bad_alloc();
  }

  std::span<std::byte> bytes() { return {memory_.get(), capacity_}; }

  // For answers. Kept by the thread, valid until its next call; never more than kMaxTransfer.
  static std::span<std::byte> of_this_thread(std::size_t size) {
    thread_local TransferBuffer buffer(kMaxTransfer);
    return buffer.bytes().first(size < kMaxTransfer ? size : kMaxTransfer);
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::size_t capacity_;
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace fuse4fs::fuse
