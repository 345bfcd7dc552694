// SPDX-License-Identifier: GPL-2.0-or-later
// Where the blocks of a set lie, roughly: so that long ranges without any are passed over in large steps.
//
// Counted are runs of 16 neighbours, and regions of 512. Runs share counters by hash, and so do regions:
// where there is none it may look as if there was one, and never the other way. Locking: none; who added a
// block did so before it is asked for. Errors: none.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace fuse4fs::cache {

class BlockRegions {
 public:
  static constexpr unsigned kRunBits = 4, kRegionBits = 9;

  void add(std::uint64_t block) {
    regions_.of(block).fetch_add(1, std::memory_order_relaxed);
    runs_.of(block).fetch_add(1, std::memory_order_relaxed);
  }
  void remove(std::uint64_t block) {
    regions_.of(block).fetch_sub(1, std::memory_order_relaxed);
    runs_.of(block).fetch_sub(1, std::memory_order_relaxed);
  }
  // From `block` on, the first one whose run may have one of the set; or `end`.
  [[nodiscard]] std::uint64_t next(std::uint64_t block, std::uint64_t end) const {
    while (block < end) {
      if (!regions_.may_have(block))
        block = behind(block, kRegionBits);
      else if (!runs_.may_have(block))
        block = behind(block, kRunBits);
      else
        return block;
    }
    return end;
  }
  [[nodiscard]] static std::uint64_t end_of_run(std::uint64_t block) { return behind(block, kRunBits); }

 private:
  static constexpr std::uint64_t behind(std::uint64_t block, unsigned bits) {
    return ((block >> bits) + 1) << bits;
  }
  template <unsigned kBits>
  class Counters {
   public:
    [[nodiscard]] std::atomic<std::uint32_t>& of(std::uint64_t block) const {
      const std::uint64_t mixed = (block >> kBits) * 0x9E37'79B9'7F4A'7C15U;
      return counters_[mixed >> (64 - kHashBits)];
    }
    [[nodiscard]] bool may_have(std::uint64_t block) const {
      return of(block).load(std::memory_order_relaxed) != 0;
    }

   private:
    static constexpr unsigned kHashBits = 14;
    std::unique_ptr<std::atomic<std::uint32_t>[]> counters_ =
        std::make_unique<std::atomic<std::uint32_t>[]>(std::size_t{1} << kHashBits);
  };
  Counters<kRegionBits> regions_;
  Counters<kRunBits> runs_;
};

}  // namespace fuse4fs::cache
