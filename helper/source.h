// SPDX-License-Identifier: GPL-2.0-or-later
// What is mounted: a block device, given or made for an image, that this process alone has claimed.
//
// The path of the command line is walked once; from then on the descriptor counts, for every further opening
// too. The kernel's mount alone walks the path again: fuse_mount.h checks that it arrived at the same device.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "helper/loop_device.h"
#include "helper/waiting.h"

namespace fuse4fs::helper {

enum class OnWriteProtection { kMountReadOnly, kRefuse };
// kHandedOver: exclusive, by a descriptor with the access of the mount, which share_claim() passes on.
enum class Claim { kExclusive, kHandedOver, kLeftToService };

struct SourceOptions {
  Access access = Access::kReadWrite;
  OnWriteProtection on_write_protection = OnWriteProtection::kMountReadOnly;
  Claim claim = Claim::kExclusive;
  std::chrono::milliseconds patience = kPatience;  // with a device that is in use
  int place = -1;  // O_PATH, borrowed: what was opened at the path before, which is then not walked
};

// The path that a path or a tag stands for. ENOENT with words for a tag that no device has.
Outcome<std::string> canonical_source(const std::string& spec);

class Source {
 public:
  // `spec`: a path or a tag (LABEL=, UUID=, PARTUUID=, …). The words of a Failure name it and what to do.
  static Outcome<Source> open(const std::string& spec, const SourceOptions& options);

  // The device, as the server and the kernel shall call it: /dev/sdb1, /dev/loop0.
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] dev_t device_number() const { return device_number_; }
  // What the user asked for, or less where the media are write-protected.
  [[nodiscard]] Access access() const { return access_; }

  // A further descriptor of the same device. `flags`: access mode and O_DIRECT and the like.
  Result<UniqueFd> reopen(int flags) const;

  // The claim itself once more (kHandedOver): it ends with the last copy.
  Result<UniqueFd> share_claim() const;

  // BLKBSZSET. Through the claim: the kernel refuses it (EBUSY) on any other descriptor of a claimed device.
  Result<void> set_block_size(std::uint32_t bytes) const;

  // Bytes; what the device's own blocks have (BLKSSZGET).
  [[nodiscard]] Result<std::uint32_t> sector_size() const;

  // Ends the exclusive claim: the kernel takes its own in the next moment.
  void drop_claim() { claim_.reset(); }

 private:
  Source() = default;

  std::string path_;
  dev_t device_number_ = 0;
  Access access_ = Access::kReadWrite;
  UniqueFd device_;  // plain; keeps a loop device alive
  UniqueFd claim_;   // O_EXCL
};

}  // namespace fuse4fs::helper
