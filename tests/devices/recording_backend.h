// SPDX-License-Identifier: GPL-2.0-or-later
// A device that notes everything that changes it, and can say what a power cut at any point would leave.
//
// Locking: any thread; one operation at a time, so that the record's order is the device's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/cache/block_backend.h"

namespace fuse4fs::cache {

// What of the writes behind the last flush a power cut leaves.
struct Survival {
  enum class Kind { kAll, kNone, kByChance };
  Kind kind = Kind::kAll;
  // kByChance: each write is there, or is not, or some of its pieces are: sectors, or more where the device
  // writes so much at once.
  std::uint64_t seed = 0;
  std::size_t piece = 512;
};

// Shared by the device and its test, so that it outlives the mount.
class Recording {
 public:
  struct Operation {
    enum class Kind { kWrite, kDurableWrite, kFlush, kDiscard };
    Kind kind = Kind::kFlush;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::vector<std::byte> bytes{};  // of writes
    IoPath path = IoPath::kPageCache;
  };

  // Those that succeeded, in order. Not while the device is in use.
  [[nodiscard]] const std::vector<Operation>& operations() const { return operations_; }
  // How many there are. Any thread, at any time.
  [[nodiscard]] std::size_t count() const;
  // Makes it the record of somebody who did it otherwise. Not while the device is in use.
  void rewrite(const std::function<void(std::vector<Operation>&)>& change) { change(operations_); }
  // "W 4096+8192", "D 0+512" (a durable write), "F", "X 0+1024" (a discard), since the last call.
  std::vector<std::string> take_lines();
  // The device once the power had failed between the operations with the numbers `cut` - 1 and `cut`.
  [[nodiscard]] std::vector<std::byte> image_at(std::size_t cut, const Survival& survival) const;

 private:
  friend class RecordingBackend;
  mutable std::mutex mutex_;
  std::vector<std::byte> before_;
  std::vector<Operation> operations_;
  std::size_t told_ = 0;
};

class RecordingBackend final : public BlockBackend {
 public:
  // Reads all of `device` first: the state that the record begins with.
  RecordingBackend(std::unique_ptr<BlockBackend> device, std::shared_ptr<Recording> recording);

  [[nodiscard]] Geometry geometry() const override { return device_->geometry(); }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override;
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability durability) override;
  Result<void> flush() override;
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override;
  Result<void> can_discard() override { return device_->can_discard(); }

 private:
  const std::unique_ptr<BlockBackend> device_;
  const std::shared_ptr<Recording> recording_;
};

}  // namespace fuse4fs::cache
