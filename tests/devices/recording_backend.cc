// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/devices/recording_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <stdexcept>

namespace fuse4fs::cache {
namespace {

using Kind = Recording::Operation::Kind;

void put(std::vector<std::byte>& image, const Recording::Operation& operation, std::uint64_t from,
         std::uint64_t length) {
  const auto at = image.begin() + static_cast<std::ptrdiff_t>(operation.offset + from);
  if (operation.kind == Kind::kDiscard)
    std::fill_n(at, length, std::byte{0});
  else
    std::copy_n(operation.bytes.begin() + static_cast<std::ptrdiff_t>(from), length, at);
}

}  // namespace

std::size_t Recording::count() const {
  const std::lock_guard lock(mutex_);
  return operations_.size();
}

std::vector<std::string> Recording::take_lines() {
  std::vector<std::string> lines;
  for (; told_ < operations_.size(); ++told_) {
    const auto& operation = operations_[told_];
    constexpr char kLetters[] = {'W', 'D', 'F', 'X'};
    const char letter = kLetters[static_cast<std::size_t>(operation.kind)];
    lines.push_back(operation.kind == Kind::kFlush
                        ? "F"
                        : fmt::format("{} {}+{}", letter, operation.offset, operation.length));
  }
  return lines;
}

std::vector<std::byte> Recording::image_at(std::size_t cut, const Survival& survival) const {
  auto image = before_;
  std::size_t safe = 0;  // what lies before the last flush
  for (std::size_t i = 0; i < cut; ++i) {
    if (operations_[i].kind == Kind::kFlush) safe = i;
  }
  std::mt19937_64 random(survival.seed);
  for (std::size_t i = 0; i < cut; ++i) {
    const auto& operation = operations_[i];
    if (operation.kind == Kind::kFlush) continue;
    const bool all =
        i < safe || operation.kind == Kind::kDurableWrite || survival.kind == Survival::Kind::kAll;
    if (!all && survival.kind == Survival::Kind::kNone) continue;
    const auto fate = all ? 0 : random() % 3;
    if (fate == 0) put(image, operation, 0, operation.length);
    if (fate != 1) continue;
    for (std::uint64_t from = 0; from < operation.length; from += survival.piece) {
      if (random() % 2 == 0) put(image, operation, from, std::min(operation.length - from, survival.piece));
    }
  }
  return image;
}

RecordingBackend::RecordingBackend(std::unique_ptr<BlockBackend> device, std::shared_ptr<Recording> recording)
    : device_(std::move(device)), recording_(std::move(recording)) {
  recording_->before_.resize(device_->geometry().size);
  const iovec all = piece_of(std::span<std::byte>(recording_->before_));
  if (!device_->read(IoPath::kPageCache, 0, std::span(&all, 1)))
    throw std::runtime_error("the device to record cannot be read");
}

Result<void> RecordingBackend::read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) {
  return device_->read(path, offset, pieces);
}

Result<void> RecordingBackend::write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                                     Durability durability) {
  const std::lock_guard lock(recording_->mutex_);
  RETURN_IF_ERROR(device_->write(path, offset, pieces, durability));
  Recording::Operation operation{
      .kind = durability == Durability::kAtOnce ? Kind::kDurableWrite : Kind::kWrite,
      .offset = offset,
      .length = length_of(pieces),
      .path = path};
  for (const iovec& piece : pieces) {
    const auto* const bytes = static_cast<const std::byte*>(piece.iov_base);
    operation.bytes.insert(operation.bytes.end(), bytes, bytes + piece.iov_len);
  }
  recording_->operations_.push_back(std::move(operation));
  return {};
}

Result<void> RecordingBackend::flush() {
  const std::lock_guard lock(recording_->mutex_);
  RETURN_IF_ERROR(device_->flush());
  recording_->operations_.push_back({.kind = Kind::kFlush});
  return {};
}

Result<void> RecordingBackend::discard(std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(recording_->mutex_);
  RETURN_IF_ERROR(device_->discard(offset, length));
  recording_->operations_.push_back({.kind = Kind::kDiscard, .offset = offset, .length = length});
  return {};
}

}  // namespace fuse4fs::cache
