// SPDX-License-Identifier: GPL-2.0-or-later
// The blocks of one of the two bitmaps that each block group has: found, verified once when they are read,
// written with their checksums. What their bits mean is their users' business.
//
// A bitmap whose checksum is wrong is told once; nothing is taken from it or given back to it. Where the
// volume is only read there is a notice, and what it calls free is not heeded: files can be read all the
// same. While a recovery that was cut short is repeated, it is believed, with a notice.
//
// Facts: the kernel's Documentation/filesystems/ext4 (block and inode bitmaps): a checksum is over as many
// bytes as there are bits for, and all bits behind the last are ones. Where they are not, e2fsck may mind:
// nothing here reads them.
//
// Locking: get() and read_ahead() any thread, at_hand() under the group's shared lock (GroupDescriptors), the
// others under its lock, but for those that look at all: those are for a write-back, and for before others
// have the volume. Errors: EUCLEAN and the device's, told already.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "server/cache/buffer_cache.h"
#include "server/ext4/file_system.h"
#include "server/ext4/group_descriptors.h"

namespace fuse4fs::ext4 {

class Volume;

class GroupBitmaps {
 public:
  enum class Kind { kInodes, kBlocks };
  // `bits`: of each group. Both outlive it.
  GroupBitmaps(Volume& volume, GroupDescriptors& groups, Kind kind, std::uint32_t bits);

  // What else must be true of a bitmap that is not believed.
  using Judge = std::function<bool(GroupNumber, std::span<const std::byte>)>;
  void set_judge(Judge judge) { judge_ = std::move(judge); }

  Result<cache::Buffer> get(GroupNumber group);
  // Somebody goes from group to group and comes to this one. If its bitmap is not here, it is read, and with
  // it what lies right behind it and will be wanted by all that is known: with flex_bg a piece of a row, in
  // one request. What was never written ends it. Under no lock.
  using Wanted = std::function<bool(GroupNumber)>;
  void read_ahead(GroupNumber group, const Wanted& wanted);
  // Of all groups.
  void read_ahead(GroupNumber group) {
    read_ahead(group, [](GroupNumber) { return true; });
  }
  // The same as get(), or null: it stays at hand for those that want bits of that group next, until the next
  // write-back or another group wants its place.
  [[nodiscard]] const cache::Buffer* at_hand(GroupNumber group) const {
    const auto& kept = kept_[GroupDescriptors::stripe_of(group)];
    return kept.group == group ? &kept.buffer : nullptr;
  }
  Result<cache::Buffer*> hold(GroupNumber group);
  // One that was never written: so many zeros.
  Result<cache::Buffer*> hold_new(GroupNumber group, std::size_t bits);
  // The right to change it, which makes it one whose checksum is due.
  Result<cache::Change> change(GroupNumber group, cache::Buffer& buffer);
  // It was found to be damaged.
  [[nodiscard]] bool is_damaged(GroupNumber group) const {
    return damaged_[group].load(std::memory_order_relaxed);
  }
  // It was found to be damaged, under kDoubted: its bits say nothing.
  [[nodiscard]] bool is_doubted(GroupNumber group) const {
    return doubted_[group].load(std::memory_order_relaxed);
  }
  // The bits say what cannot be; of this inode's block, where it is known.
  Errno corrupted(GroupNumber group, std::string_view words) {
    return corrupted(group, words, 0, block_of(group));
  }
  Errno corrupted(GroupNumber group, std::string_view words, InodeNumber inode, std::uint64_t block);

  // What is done about a wrong checksum.
  enum class Trust { kVerified, kDoubted, kBelieved };
  void set_trust(Trust trust) { trust_ = trust; }
  // Whether all checksums are right. Reads all of them, and tells of nothing but what cannot be read.
  Result<bool> are_sound();
  // All checksums are due.
  void change_all();

  // The checksums that are due, into the descriptors.
  Result<void> seal();

 private:
  [[nodiscard]] std::uint64_t block_of(GroupNumber group) const;
  [[nodiscard]] std::uint32_t sum_of(std::span<const std::byte> bytes) const;
  [[nodiscard]] std::string name_of(GroupNumber group) const;
  [[nodiscard]] bool is_unwritten(GroupNumber group) const;
  [[nodiscard]] bool is_right(GroupNumber group, std::span<const std::byte> bytes) const;

  struct Kept {
    static constexpr GroupNumber kNone = UINT32_MAX;
    GroupNumber group = kNone;
    cache::Buffer buffer = {};
  };

  Volume& volume_;
  GroupDescriptors& groups_;
  const Kind kind_;
  Judge judge_ = {};
  const std::uint32_t bits_;
  const bool has_checksums_;
  std::atomic<Trust> trust_{Trust::kVerified};
  std::atomic<bool> told_{false};  // that one of them is damaged, and used all the same
  std::atomic<bool> any_changed_{false};
  std::vector<std::atomic<bool>> changed_, damaged_, doubted_;  // by group
#ifndef NDEBUG
  // By brute force: the figure of a group that was right before a change is right when its checksum is made.
  [[nodiscard]] bool has_right_figure(GroupNumber group, std::span<const std::byte> bytes) const;
  void recount(GroupNumber group, std::span<const std::byte> bytes) const;
  std::vector<std::atomic<bool>> was_right_;
#endif
  // Each under its stripe's lock.
  std::array<Kept, GroupDescriptors::kStripes> kept_;
};

}  // namespace fuse4fs::ext4
