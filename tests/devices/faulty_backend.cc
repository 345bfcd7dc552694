// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/devices/faulty_backend.h"

#include <algorithm>
#include <random>

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kSector = 512;

// Some of the sectors, at least one of them not.
void tear(BlockBackend& device, std::uint64_t offset, std::span<const iovec> pieces, std::uint64_t seed) {
  std::vector<std::byte> bytes;
  for (const iovec& piece : pieces) {
    const auto* const begin = static_cast<const std::byte*>(piece.iov_base);
    bytes.insert(bytes.end(), begin, begin + piece.iov_len);
  }
  std::mt19937_64 random(seed);
  const std::size_t sectors = (bytes.size() + kSector - 1) / kSector;
  const std::size_t lost = random() % sectors;
  for (std::size_t i = 0; i < sectors; ++i) {
    if (i == lost || random() % 2 == 0) continue;
    const iovec piece =
        piece_of(std::span(bytes).subspan(i * kSector, std::min(kSector, bytes.size() - i * kSector)));
    (void)device.write(IoPath::kPageCache, offset + i * kSector, std::span(&piece, 1),
                       Durability::kAtNextFlush);
  }
}

}  // namespace

void Faults::add(Fault fault) {
  const std::lock_guard lock(mutex_);
  faults_.push_back({.fault = std::move(fault)});
}

void Faults::clear() {
  const std::lock_guard lock(mutex_);
  faults_.clear();
}

std::uint64_t Faults::strikes() const {
  const std::lock_guard lock(mutex_);
  return strikes_;
}

std::vector<Fault> Faults::striking(Fault::Operation operation, std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  std::vector<Fault> found;
  for (auto& [fault, counted] : faults_) {
    if (fault.operation != operation) continue;
    const bool touches =
        operation == Fault::Operation::kFlush ||
        (offset < fault.offset ? fault.offset - offset < length : offset - fault.offset < fault.length);
    if (!touches) continue;
    ++counted;
    if (counted < fault.nth || counted - fault.nth >= fault.times) continue;
    ++strikes_;
    found.push_back(fault);
  }
  return found;
}

Result<void> FaultyBackend::read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) {
  for (const auto& fault : faults_->striking(Fault::Operation::kRead, offset, length_of(pieces))) {
    if (fault.effect != Fault::Effect::kHold) return fail(fault.error);
    fault.held();
  }
  return device_->read(path, offset, pieces);
}

Result<void> FaultyBackend::write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                                  Durability durability) {
  for (const auto& fault : faults_->striking(Fault::Operation::kWrite, offset, length_of(pieces))) {
    if (fault.effect == Fault::Effect::kTear) tear(*device_, offset, pieces, fault.seed);
    if (fault.effect != Fault::Effect::kHold) return fail(fault.error);
    fault.held();
  }
  return device_->write(path, offset, pieces, durability);
}

Result<void> FaultyBackend::flush() {
  for (const auto& fault : faults_->striking(Fault::Operation::kFlush, 0, 0)) {
    if (fault.effect != Fault::Effect::kHold) return fail(fault.error);
    fault.held();
  }
  return device_->flush();
}

Result<void> FaultyBackend::discard(std::uint64_t offset, std::uint64_t length) {
  for (const auto& fault : faults_->striking(Fault::Operation::kDiscard, offset, length)) {
    if (fault.effect != Fault::Effect::kHold) return fail(fault.error);
    fault.held();
  }
  return device_->discard(offset, length);
}

}  // namespace fuse4fs::cache
