// SPDX-License-Identifier: GPL-2.0-or-later
// Multi-mount protection (feature mmp): one block of the volume says who has it mounted, and is written anew
// every few seconds. Who finds it in use waits, and sees whether it still changes.
//
// As the kernel's ext4 does it, but stricter: each write is preceded by a look at what is there, and the
// volume is given up as well when the block could not be refreshed for so long that others may take it over.
//
// The block is read and written past all caches: the other side writes it through another device.
// Facts: Documentation/filesystems/ext4/mmp.rst. The layout is libext2fs's struct mmp_struct.
// Locking: beat(), keep() and give_back() may be called by different threads; no lock of the volume is taken.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/cache/block_device.h"
#include "server/ext4/ext2.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

// What the superblock says of it, judged.
struct MultiMountPlace {
  std::uint64_t offset = 0;                 // bytes
  std::chrono::seconds update_interval{5};  // 1 to 300
  std::optional<std::uint32_t> checksum_seed = std::nullopt;
};

class MultiMountProtection {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // EBUSY where somebody else has the volume, or e2fsck works on it; EUCLEAN where the block makes no sense.
  // Uses node_name, device_name and wait of the options. `device` and `events` must outlive it.
  static Outcome<std::unique_ptr<MultiMountProtection>> take(const cache::BlockDevice& device,
                                                             const MultiMountPlace& place,
                                                             const MountOptions& options, Events& events);
  // give_back(), for mounts that fail.
  ~MultiMountProtection();
  MultiMountProtection(const MultiMountProtection&) = delete;
  MultiMountProtection& operator=(const MultiMountProtection&) = delete;

  // Says once more that the volume is ours. Answers, once and for all, in words why it is not any more: then
  // nothing may be written to the volume.
  std::optional<std::string> beat(TimePoint now = std::chrono::steady_clock::now());
  // beat() at each interval until give_back(), or until it is lost.
  void keep(const std::function<void(std::string_view why)>& lost);
  // Free for others, if it is still ours. The last write to the volume.
  void give_back();

 private:
  struct Timing {
    TimePoint last_beat, last_success;
    // The next one to be written, and the one that others have read.
    std::chrono::seconds check_interval, promised;
  };

  MultiMountProtection(const cache::BlockDevice& device, const MultiMountPlace& place,
                       const MountOptions& options, Events& events);
  Outcome<void> take();
  // The number that is written last, and until then belongs to nobody else.
  Outcome<void> prove(std::uint32_t sequence);
  Outcome<mmp_struct> examine() const;
  Result<mmp_struct> read() const;
  Result<void> write(mmp_struct block) const;
  [[nodiscard]] bool is_sound(const mmp_struct& block) const;
  [[nodiscard]] std::uint32_t checksum(const mmp_struct& block) const;
  [[nodiscard]] bool is_ours(const mmp_struct& block) const;
  [[nodiscard]] mmp_struct signed_block(std::uint32_t sequence) const;
  [[nodiscard]] bool wait(std::chrono::seconds time) const;
  std::optional<std::string> failed(std::string_view doing, Errno error, TimePoint now);

  const cache::BlockDevice& device_;
  const MultiMountPlace place_;
  const std::string node_, device_name_;
  const std::function<bool(std::chrono::seconds)> wait_;
  Events& events_;

  // Held while the block is read and written.
  std::mutex mutex_;
  enum class State { kNotYet, kOurs, kLost, kGivenBack };
  State state_ = State::kNotYet;
  // The number on the medium; and the one that a write which failed may have left there instead.
  std::uint32_t sequence_ = 0, attempted_ = 0;
  Timing timing_{};

  // The thread in keep(). Taken after mutex_ where both are.
  std::mutex loop_mutex_;
  std::condition_variable loop_changed_;
  bool looping_ = false, stopping_ = false;
};

}  // namespace fuse4fs::ext4
