// SPDX-License-Identifier: GPL-2.0-or-later
// An AllocatingVolume on a device in memory that is full of somebody's data, mounted by the model.
#pragma once

#include <memory>

#include "base/unique_fd.h"
#include "tests/iomap/allocating_volume.h"
#include "tests/iomap/test_mount.h"

namespace fuse4fs::iomap_model {

class AllocatingMount {
 public:
  struct Options {
    AllocatingOptions server{};
    TestMount::Options mount{};
  };
  // Blocks and tampering of the options are set here.
  explicit AllocatingMount(Options options, std::uint64_t device_bytes = std::uint64_t{16} << 20);

  Kernel& kernel() { return mount_->kernel(); }
  AllocatingVolume& server() { return *server_; }

 private:
  UniqueFd device_;
  AllocatingVolume* server_ = nullptr;  // the mount's
  std::unique_ptr<TestMount> mount_;
};

}  // namespace fuse4fs::iomap_model
