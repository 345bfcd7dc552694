// SPDX-License-Identifier: GPL-2.0-or-later
// A worker's memory for requests and for the data of its answers, so that file data goes between /dev/fuse
// and the device without a copy in between.
//
// A request is read so that the payload of a WRITE begins where the payload's memory does. What a READ
// answers lies there as well: its request is done by then, and in front of it.
//
// The payload is a huge page, where the kernel has one: a direct transfer of 1 MiB, and the kernel's own
// copying, otherwise look up 256 pages one by one (docs/performance.md). It takes its 2 MiB with the first
// payload, be that small: who serves no data does without, for what stands in front is not part of it.
//
// Locking: each thread has its own. Errors: std::bad_alloc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "server/fuse/kernel_abi.h"

namespace fuse4fs::fuse {

class TransferBuffer {
 public:
  TransferBuffer();
  TransferBuffer(const TransferBuffer&) = delete;
  TransferBuffer& operator=(const TransferBuffer&) = delete;
  ~TransferBuffer();

  // Where a request is read to.
  std::span<std::byte> request() { return {payload_ - kWriteHeaderSize, kWriteHeaderSize + kMaxTransfer}; }

  // For answers: the payload of the thread's last buffer, so valid until its next request; never more than
  // kMaxTransfer.
  static std::span<std::byte> of_this_thread(std::size_t size);

 private:
  static thread_local TransferBuffer* current_;
  void* memory_ = nullptr;
  std::byte* payload_ = nullptr;
  TransferBuffer* before_ = nullptr;  // of this thread
};

}  // namespace fuse4fs::fuse
