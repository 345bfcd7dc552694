// SPDX-License-Identifier: GPL-2.0-or-later
// The inodes that are in memory, by number: one lock each, and the look-ups that keep an unlinked one alive.
//
// An inode is here as long as look-ups of it are counted or somebody holds its lock, or waits for it. What
// lies on the volume is none of this class's business.
//
// Locking: any thread. An inode's lock has rank kInode; of several, the one with the lower number is waited
// for first. A shard of the table has rank kLiveInodes, and is held for moments. Errors: none.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/keyed_mutex.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class LiveInodes {
  struct Live;

 public:
  // An inode whose lock is held, one way or the other: proof of it for those who read.
  class Held {
   public:
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    [[nodiscard]] InodeNumber number() const { return live_->mutex.key(); }
    // It has no name, and goes with its last look-up.
    [[nodiscard]] bool is_unlinked() const;
    [[nodiscard]] bool has_lookups() const;
    // Whether its block map was walked since it came into memory.
    [[nodiscard]] bool map_checked() const { return live_->map_checked; }
    void set_map_checked(bool checked) const { live_->map_checked = checked; }
    // Inode::found_in_use.
    [[nodiscard]] bool blocks_checked() const { return live_->blocks_checked; }
    void set_blocks_checked(bool checked) const { live_->blocks_checked = checked; }

   protected:
    Held(LiveInodes& table, Live& live) : table_(&table), live_(&live) {}
    Held(Held&& other) noexcept : table_(other.table_), live_(std::exchange(other.live_, nullptr)) {}
    ~Held() = default;

    LiveInodes* table_;
    Live* live_;  // nullptr: moved away
  };

  // Many may have it. For all that changes nothing of the inode.
  class [[nodiscard]] Shared final : public Held {
   public:
    Shared(Shared&& other) noexcept = default;
    ~Shared();

   private:
    friend class LiveInodes;
    friend class Counted;
    using Held::Held;
  };

  // Nobody else has it. For changes of the inode; if it is a directory, of its names as well.
  class [[nodiscard]] Exclusive final : public Held {
   public:
    Exclusive(Exclusive&& other) noexcept = default;
    ~Exclusive();

    // A look-up more, which forget() takes back.
    void count() const;
    // Its last link is gone.
    void unlink() const;
    // It is no more unlinked: it has got a name, or was never to have been.
    void clear_unlinked() const;
    // Whether it is unlinked and nobody has it looked up: true once, for the caller who deletes it.
    [[nodiscard]] bool claim_deletion() const;

    // Made without a name, which it may get.
    [[nodiscard]] bool waits_for_name() const { return live_->waits_for_name; }
    void set_waits_for_name(bool waits) const { live_->waits_for_name = waits; }

   private:
    friend class LiveInodes;
    using Held::Held;
  };

  // Several of them.
  class ExclusiveSet {
   public:
    explicit ExclusiveSet(LiveInodes& table) : table_(table) {}

    // Of all that it has, the highest.
    void lock(InodeNumber number);
    // The set is empty. In their order, each once; 0 is nobody.
    void lock_all(std::initializer_list<InodeNumber> numbers);
    // Waits for nobody, so whatever locks are held. Whether it is in the set now.
    [[nodiscard]] bool try_lock(InodeNumber number);
    [[nodiscard]] bool has(InodeNumber number) const;
    [[nodiscard]] bool is_full() const { return count_ == kMost; }
    // One that it has.
    const Exclusive& operator[](InodeNumber number) const;
    void clear();

   private:
    static constexpr std::size_t kMost = 4;
    void add(Exclusive lock);
    LiveInodes& table_;
    std::array<std::optional<Exclusive>, kMost> locks_;
    std::size_t count_ = 0;
  };

  // A counted look-up: as long as it is, the inode stays. Holds no lock.
  class Counted {
   public:
    [[nodiscard]] InodeNumber number() const { return live_->mutex.key(); }
    [[nodiscard]] Shared lock_shared() const;

   private:
    friend class LiveInodes;
    Counted(LiveInodes& table, Live& live) : table_(&table), live_(&live) {}
    LiveInodes* table_;
    Live* live_;
  };

  Shared lock_shared(InodeNumber number);
  Exclusive lock(InodeNumber number);
  std::optional<Exclusive> try_lock(InodeNumber number);

  Counted count(InodeNumber number);
  // Takes look-ups back. Whether it may be to be deleted now: by who locks it and gets claim_deletion().
  [[nodiscard]] bool forget(InodeNumber number, std::uint64_t count);
  // Those that are unlinked, and wait for their deletion.
  [[nodiscard]] std::vector<InodeNumber> unlinked();
  [[nodiscard]] std::size_t size();

 private:
  struct Live {
    explicit Live(InodeNumber number) : mutex(number) {}
    KeyedMutex<LockRank::kInode> mutex;
    // Look-ups, from kHolder on those who hold or want the lock, and kUnlinked. At 0 it may go.
    std::atomic<std::uint64_t> state{0};
    std::atomic<bool> map_checked{false};
    std::atomic<bool> blocks_checked{false};
    bool waits_for_name = false;
  };
  static constexpr std::uint64_t kUnlinked = std::uint64_t{1} << 63;
  static constexpr std::uint64_t kHolder = std::uint64_t{1} << 47;
  static constexpr std::uint64_t kLookUps = kHolder - 1;

  using Shard = Guarded<std::unordered_map<InodeNumber, Live>, LockRank::kLiveInodes>;

  Shard& shard_of(InodeNumber number) { return shards_[number % shards_.size()]; }
  // Adds to its state, so that it stays.
  Live& find(InodeNumber number, std::uint64_t reason);
  void let_go(Live& live);

  std::array<Shard, 64> shards_;
};

}  // namespace fuse4fs::ext4
