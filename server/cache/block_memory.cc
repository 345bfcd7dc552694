// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/block_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <new>

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kPage = 4096;

}  // namespace

#ifdef FUSE4FS_SANITIZED

BlockMemory::~BlockMemory() = default;

BlockMemory::Piece BlockMemory::take() {
  const auto alignment = static_cast<std::align_val_t>(std::min(block_size_, kPage));
  return Piece(static_cast<std::byte*>(::operator new(block_size_, alignment)), GiveBack{this});
}

void BlockMemory::give_back(std::byte* piece) {
  ::operator delete(piece, std::align_val_t(std::min(block_size_, kPage)));
}

void BlockMemory::trim() {}

#else

static constexpr std::size_t kChunk = std::size_t{1} << 20;

BlockMemory::~BlockMemory() {
  for (std::byte* const chunk : chunks_) ::munmap(chunk, kChunk);
}

void BlockMemory::add_chunk() {
  const std::size_t pieces = kChunk / block_size_;
  chunks_.reserve(chunks_.size() + 1);
  // So that giving one back cannot fail.
  free_.reserve((chunks_.size() + 1) * pieces);
  void* const memory = ::mmap(nullptr, kChunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  auto* const chunk = static_cast<std::byte*>(memory);
  chunks_.push_back(chunk);
  for (std::size_t i = pieces; i-- != 0;) free_.push_back(chunk + i * block_size_);
}

BlockMemory::Piece BlockMemory::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) add_chunk();
  std::byte* const piece = free_.back();
  free_.pop_back();
  return Piece(piece, GiveBack{this});
}

void BlockMemory::give_back(std::byte* piece) {
  const std::lock_guard lock(mutex_);
  free_.push_back(piece);
}

void BlockMemory::trim() {
  const std::lock_guard lock(mutex_);
  // The lowest is taken next, so that what is in use draws together.
  std::ranges::sort(free_, std::greater());
  for (auto at = free_.rbegin(); at != free_.rend();) {
    std::byte* const begin = *at;
    std::byte* end = begin;
    for (; at != free_.rend() && *at == end; ++at) end += block_size_;
    const std::size_t before_page = -reinterpret_cast<std::uintptr_t>(begin) % kPage;
    const auto bytes = static_cast<std::size_t>(end - begin);
    if (bytes < before_page + kPage) continue;
    ::madvise(begin + before_page, (bytes - before_page) / kPage * kPage, MADV_DONTNEED);
  }
}

#endif

}  // namespace fuse4fs::cache
