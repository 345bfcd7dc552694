// SPDX-License-Identifier: GPL-2.0-or-later
// Who has which block of the devices: what the kernel was told by mappings, and what the server's allocator
// says, where it is watched.
//
// Any thread. Offsets and lengths in bytes, of whole blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "server/ext4/file_system.h"
#include "tests/iomap/breaches.h"

namespace fuse4fs::iomap_model {

using ext4::ByteRange;

// What a server's allocator and its device tell of themselves, if a test can make them. Without it the model
// judges by mappings alone. Ranges of the (one) device.
class VolumeWatch {
 public:
  virtual ~VolumeWatch() = default;
  virtual void allocated(ByteRange range) = 0;
  // Before anybody can get them.
  virtual void freed(ByteRange range) = 0;
  // Around a flush of the device that succeeds; what the first answers is handed to the second.
  virtual std::uint64_t flush_begins() = 0;
  virtual void flush_ended(std::uint64_t began) = 0;
};

class BlockOwners {
 public:
  // kBeforeEachFree: the server invalidates what it frees, each time. kUnlessTheKernelDoes: not where the
  // kernel itself asked for it (truncate, punch), and keeps everybody from the range until it is answered.
  enum class Invalidation { kBeforeEachFree, kUnlessTheKernelDoes };
  // Whether the kernel has cached that this block of the file lies at that address.
  using IsCached = std::function<bool(std::uint64_t node, std::uint64_t offset, std::uint64_t address)>;

  BlockOwners(Breaches& breaches, Invalidation invalidation, IsCached is_cached)
      : breaches_(breaches), invalidation_(invalidation), is_cached_(std::move(is_cached)) {}
  void set_block_size(std::uint64_t bytes) { block_size_ = bytes; }

  // A mapping says so. The breach is handed back and not listed.
  std::optional<Breach> claim(std::uint64_t node, ByteRange range, std::uint64_t address);
  // The kernel has asked for the range to be freed: from now on it may be another's.
  void releasing(std::uint64_t node, ByteRange range);
  // It was not done.
  void kept(std::uint64_t node, ByteRange range);
  void released(std::uint64_t node, ByteRange range);
  void forget(std::uint64_t node) { released(node, {.offset = 0, .length = ~std::uint64_t{0}}); }

  // For its life the kernel reads or writes there.
  class [[nodiscard]] InFlight {
   public:
    InFlight(BlockOwners& owners, ByteRange range);
    ~InFlight();
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;

   private:
    BlockOwners& owners_;
    std::multimap<std::uint64_t, std::uint64_t>::iterator place_;
  };

  // Of VolumeWatch.
  void allocated(ByteRange range);
  void freed(ByteRange range);

 private:
  enum class State { kLive, kReleasing };
  struct Claim {
    std::uint64_t node, offset;
    State state;
  };
  void set_state(std::uint64_t node, ByteRange range, State state);
  using Place = std::map<std::uint64_t, std::uint64_t>;  // offset in the file to address

  Breaches& breaches_;
  const Invalidation invalidation_;
  const IsCached is_cached_;
  std::uint64_t block_size_ = 4096;  // set before the first mapping
  std::mutex mutex_;
  // All guarded by mutex_.
  std::unordered_map<std::uint64_t, Claim> by_address_;
  std::unordered_map<std::uint64_t, Place> by_file_;
  std::unordered_set<std::uint64_t> allocated_;
  bool watched_ = false;
  std::multimap<std::uint64_t, std::uint64_t> in_flight_;  // address and length
};

}  // namespace fuse4fs::iomap_model
