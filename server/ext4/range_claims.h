// SPDX-License-Identifier: GPL-2.0-or-later
// Who may touch which bytes of a file right now: what page locks are in a kernel.
//
// A claim is held across device I/O, where no lock may be. Claims that do not overlap, or that only read, go
// side by side; others wait in the order in which they came. A thread holds one claim at most.
//
// Locking: any thread, holding no lock of rank 20 or above. Errors: none, it waits.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <unordered_map>
#include <utility>

#include "base/guarded.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class RangeClaims {
  struct Range {
    std::uint64_t begin, end;
    bool exclusive;
  };
  using Queue = std::list<Range>;

 public:
  enum class Mode { kShared, kExclusive };
  static constexpr std::uint64_t kToTheEnd = UINT64_MAX;

  // Gives the range back when it goes.
  class [[nodiscard]] Claim {
   public:
    Claim(Claim&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), inode_(other.inode_), range_(other.range_) {}
    Claim& operator=(Claim&&) = delete;
    ~Claim() {
      if (owner_ != nullptr) owner_->release(inode_, range_);
    }

   private:
    friend class RangeClaims;
    Claim(RangeClaims* owner, InodeNumber inode, Queue::iterator range)
        : owner_(owner), inode_(inode), range_(range) {}
    RangeClaims* owner_;
    InodeNumber inode_;
    Queue::iterator range_;
  };

  // Bytes from `begin` to before `end`.
  Claim claim(InodeNumber inode, std::uint64_t begin, std::uint64_t end, Mode mode);

 private:
  struct State {
    std::unordered_map<InodeNumber, Queue> files;
    std::size_t waiting = 0;
  };

  static bool must_wait(const Queue& queue, Queue::const_iterator range);
  void release(InodeNumber inode, Queue::iterator range);

  Guarded<State, LockRank::kRange> state_;
  std::condition_variable_any released_;
};

}  // namespace fuse4fs::ext4
