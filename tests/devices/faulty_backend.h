// SPDX-License-Identifier: GPL-2.0-or-later
// A device that fails, tears or holds up what its test says.
//
// Locking: any thread. No lock is held while an operation is held up.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "server/cache/block_backend.h"

namespace fuse4fs::cache {

struct Fault {
  enum class Operation { kRead, kWrite, kFlush, kDiscard };
  // kFail: nothing is done. kTear: some of the write's sectors reach the device, then it fails. kHold: `held`
  // is called first, and returns when the test wants it to.
  enum class Effect { kFail, kTear, kHold };
  static constexpr std::uint64_t kForever = UINT64_MAX;

  Operation operation = Operation::kWrite;
  Effect effect = Effect::kFail;
  // Only what touches these bytes counts, of reads, writes and discards.
  std::uint64_t offset = 0;
  std::uint64_t length = UINT64_MAX;
  // The first one that it strikes of those that count, from 1 on, and how many.
  std::uint64_t nth = 1;
  std::uint64_t times = 1;
  int error = EIO;
  std::uint64_t seed = 0;  // kTear: which sectors
  std::function<void()> held = {};
};

// Shared by the device and its test.
class Faults {
 public:
  void add(Fault fault);
  // The device is well again.
  void clear();
  // How many operations were struck so far.
  [[nodiscard]] std::uint64_t strikes() const;

 private:
  friend class FaultyBackend;
  struct Armed {
    Fault fault;
    std::uint64_t counted = 0;
  };
  [[nodiscard]] std::vector<Fault> striking(Fault::Operation operation, std::uint64_t offset,
                                            std::uint64_t length);

  mutable std::mutex mutex_;
  std::vector<Armed> faults_;
  std::uint64_t strikes_ = 0;
};

class FaultyBackend final : public BlockBackend {
 public:
  FaultyBackend(std::unique_ptr<BlockBackend> device, std::shared_ptr<Faults> faults)
      : device_(std::move(device)), faults_(std::move(faults)) {}

  [[nodiscard]] Geometry geometry() const override { return device_->geometry(); }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override;
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability durability) override;
  Result<void> flush() override;
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override;
  Result<void> can_discard() override { return device_->can_discard(); }

 private:
  const std::unique_ptr<BlockBackend> device_;
  const std::shared_ptr<Faults> faults_;
};

}  // namespace fuse4fs::cache
