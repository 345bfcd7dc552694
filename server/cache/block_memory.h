// SPDX-License-Identifier: GPL-2.0-or-later
// The memory of cached blocks: on pages of its own, so that it can be given back to the kernel. In malloc's
// heap it lies between things that live on, and what is freed there stays with the process.
//
// A piece is one block, aligned to its own size or to a page, whichever is smaller. The address space that it
// once had it keeps. Under the sanitizers pieces come from the heap one by one, so that they see what is used
// after its end.
//
// Locking: any thread. A lock of its own, for moments, under which nothing else is taken. Errors:
// std::bad_alloc.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace fuse4fs::cache {

class BlockMemory {
 public:
  struct GiveBack {
    BlockMemory* owner = nullptr;
    void operator()(std::byte* piece) const { owner->give_back(piece); }
  };
  // Must not outlive the BlockMemory.
  using Piece = std::unique_ptr<std::byte[], GiveBack>;

  explicit BlockMemory(std::size_t block_size) : block_size_(block_size) {}
  ~BlockMemory();
  BlockMemory(const BlockMemory&) = delete;
  BlockMemory& operator=(const BlockMemory&) = delete;

  // With any content.
  Piece take();
  // Whole pages of pieces that nobody has go back to the kernel.
  void trim();

 private:
  void give_back(std::byte* piece);
  void add_chunk();

  const std::size_t block_size_;
  std::mutex mutex_;  // over all that follows
  std::vector<std::byte*> chunks_;
  std::vector<std::byte*> free_;  // the last one is taken next; has room for all there are
};

}  // namespace fuse4fs::cache
