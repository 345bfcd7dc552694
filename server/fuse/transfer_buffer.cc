// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/transfer_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

namespace fuse4fs::fuse {
namespace {

constexpr std::size_t kFront = 4096;  // bytes; one page, whose end is the beginning of a request
constexpr std::size_t kHugePage = std::size_t{2} << 20;
static_assert(kFront >= kWriteHeaderSize && kHugePage >= kMaxTransfer);

#ifdef FUSE4FS_SANITIZED

// From the heap, so that what goes beyond it is seen.
void* map_front_and_payload() { return std::aligned_alloc(kFront, kFront + kMaxTransfer); }
void unmap_front_and_payload(void* memory) { std::free(memory); }

#else

// A huge page lies where its size divides its address: so much is mapped that there is one behind a page, and
// the rest given back.
void* map_front_and_payload() {
  constexpr std::size_t kMapped = kFront + 2 * kHugePage;
  void* const mapped = ::mmap(nullptr, kMapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(mapped);
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::size_t payload = (address + kFront + kHugePage - 1) / kHugePage * kHugePage - address;
  const std::size_t front = payload - kFront, end = payload + kHugePage;
  if (front != 0) ::munmap(begin, front);
  if (end != kMapped) ::munmap(begin + end, kMapped - end);
  // Where there are none it is as good as before.
  ::madvise(begin + payload, kHugePage, MADV_HUGEPAGE);
  return begin + front;
}
void unmap_front_and_payload(void* memory) { ::munmap(memory, kFront + kHugePage); }

#endif

}  // namespace

thread_local TransferBuffer* TransferBuffer::current_ = nullptr;

TransferBuffer::TransferBuffer() : memory_(map_front_and_payload()) {
  if (memory_ == nullptr) throw std::bad_alloc();
  payload_ = static_cast<std::byte*>(memory_) + kFront;
  before_ = std::exchange(current_, this);
}

TransferBuffer::~TransferBuffer() {
  current_ = before_;
  unmap_front_and_payload(memory_);
}

std::span<std::byte> TransferBuffer::of_this_thread(std::size_t size) {
  if (current_ == nullptr) {
    thread_local TransferBuffer own;
    current_ = &own;
  }
  return {current_->payload_, std::min(size, kMaxTransfer)};
}

}  // namespace fuse4fs::fuse
