// SPDX-License-Identifier: GPL-2.0-or-later
// What all inodes of a mount share: the connection, the devices, the limits that CONFIG set, the judges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "tests/iomap/block_owners.h"
#include "tests/iomap/breaches.h"
#include "tests/iomap/connection.h"
#include "tests/iomap/device.h"
#include "tests/iomap/freeze_gate.h"
#include "tests/iomap/quirks.h"

namespace fuse4fs::iomap_model {

// Set by INIT and CONFIG, before the first file.
struct Limits {
  std::uint64_t block_size = 4096;
  std::uint64_t largest_file = 0x7fff'ffff'ffff'ffff;
  std::uint32_t cache_max_bytes = 262144;
};

class Devices {
 public:
  // Before the first: what they lie on (Device::open()).
  void lie_on(std::shared_ptr<cache::BlockBackend> medium) { medium_ = std::move(medium); }
  Result<std::uint32_t> add(int fd) {
    ASSIGN_OR_RETURN(auto device, Device::open(fd, medium_));
    const std::lock_guard lock(mutex_);
    const auto id = static_cast<std::uint32_t>(devices_.size() + 1);
    devices_.emplace(id, std::move(device));
    return id;
  }
  // Null for an id that is none. Devices stay.
  [[nodiscard]] Device* find(std::uint32_t id) const {
    const std::lock_guard lock(mutex_);
    const auto found = devices_.find(id);
    return found == devices_.end() ? nullptr : found->second.get();
  }

 private:
  std::shared_ptr<cache::BlockBackend> medium_;
  mutable std::mutex mutex_;
  std::map<std::uint32_t, std::unique_ptr<Device>> devices_;  // guarded by mutex_
};

// Errors that the server has a reason for just now, since a test makes its device fail.
class Causes {
 public:
  void set(std::set<int> errors) {
    const std::lock_guard lock(mutex_);
    errors_ = std::move(errors);
  }
  [[nodiscard]] bool explain(int error) const {
    const std::lock_guard lock(mutex_);
    return errors_.contains(error);
  }

 private:
  mutable std::mutex mutex_;
  std::set<int> errors_;  // guarded by mutex_
};

struct Core {
  // kServerTells: of its allocator and its flushes (VolumeWatch), so that they are judged.
  enum class Watch { kNothing, kServerTells };

  Core(const Quirks& which, std::size_t folio, std::size_t completions,
       BlockOwners::Invalidation invalidation, BlockOwners::IsCached is_cached, Watch what, UniqueFd socket,
       Connection::Tampering tampering)
      : quirks(which),
        folio_size(folio),
        completions_at_once(completions),
        watch(what),
        owners(breaches, invalidation, std::move(is_cached)),
        connection(std::move(socket), breaches, std::move(tampering)) {}

  const Quirks quirks;
  const std::size_t folio_size;
  // Of write-back: so many pieces are on the device before the server is told of them.
  const std::size_t completions_at_once;
  const Watch watch;
  Limits limits;
  Breaches breaches;
  Devices devices;
  Causes causes;
  FreezeGate gate;
  BlockOwners owners;
  Connection connection;
};

}  // namespace fuse4fs::iomap_model
