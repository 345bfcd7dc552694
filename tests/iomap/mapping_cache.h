// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel keeps of one inode's mappings: a fork for reads, and one for writes that go elsewhere.
//
// Any thread; a leaf lock. Bytes.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "base/fuse_iomap_abi.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::iomap_model {

class MappingCache {
 public:
  enum class Fork { kRead, kWrite };
  // kWhole: the fast path that drops a fork; some kernels do not count it as a change.
  enum class WholeDrop { kCounts, kKeepsSequence };

  MappingCache(std::uint32_t max_bytes, std::uint64_t block_size, WholeDrop whole_drop)
      : max_bytes_(max_bytes), block_size_(block_size), whole_drop_(whole_drop) {}

  // A mapping and the state of the cache that it was true in.
  struct Hit {
    iomap_abi::Mapping read;
    iomap_abi::Mapping write;  // PURE_OVERWRITE where the write fork is absent
    std::uint64_t cookie = 0;
  };

  // What covers `position`, trimmed to the blocks of the request.
  [[nodiscard]] std::optional<Hit> find(std::uint64_t position, std::uint64_t count) const;
  [[nodiscard]] bool exists() const;
  [[nodiscard]] std::uint64_t sequence() const;
  [[nodiscard]] std::vector<iomap_abi::Mapping> mappings(Fork fork) const;

  // NOCACHE leaves the fork alone; PURE_OVERWRITE does not make a write fork.
  void upsert(Fork fork, const iomap_abi::Mapping& mapping);
  // length 0: nothing; kToEndOfFile: all behind.
  void invalidate(Fork fork, ext4::ByteRange range);
  void invalidate(ext4::ByteRange range) {
    invalidate(Fork::kRead, range);
    invalidate(Fork::kWrite, range);
  }
  // As if the inode were new.
  void drop();

 private:
  using Tree = std::map<std::uint64_t, iomap_abi::Mapping>;  // by offset
  static constexpr std::size_t kRecordSize = sizeof(iomap_abi::Mapping);

  struct ForkState {
    Tree tree;
    bool present = false;
  };
  static const iomap_abi::Mapping* covering(const Tree& tree, std::uint64_t position);
  // Whether something was there.
  static bool cut(Tree& tree, std::uint64_t begin, std::uint64_t end);
  static void insert(Tree& tree, iomap_abi::Mapping mapping);
  ForkState& state(Fork fork) { return fork == Fork::kRead ? read_ : write_; }
  void drop_whole(ForkState& fork);

  const std::uint32_t max_bytes_;
  const std::uint64_t block_size_;
  const WholeDrop whole_drop_;
  mutable std::mutex mutex_;
  // All guarded by mutex_.
  ForkState read_, write_;
  bool exists_ = false;
  std::uint64_t sequence_ = 1;
};

}  // namespace fuse4fs::iomap_model
