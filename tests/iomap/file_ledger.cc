// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/file_ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace fuse4fs::iomap_model {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte byte : bytes.first(std::min<std::size_t>(bytes.size(), 16)))
    out += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return out;
}

bool overlap(ByteRange a, ByteRange b) {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

}  // namespace

template <class Change>
void FileLedger::each_block(ByteRange range, const Change& change) {
  const std::uint64_t end = (range.offset + range.length + block_size_ - 1) / block_size_;
  for (std::uint64_t block = range.offset / block_size_; block < end; ++block) change(blocks_[block]);
}

void FileLedger::wrote(std::uint64_t position, std::span<const std::byte> bytes, Way way) {
  const std::lock_guard lock(mutex_);
  contents_.write(position, bytes);
  if (way == Way::kMappedPage) ++stores_;
  // What was uncertain is known again where all of it is new.
  const std::uint64_t end = (position + bytes.size()) / block_size_;
  for (std::uint64_t block = (position + block_size_ - 1) / block_size_; block < end; ++block)
    if (const auto known = blocks_.find(block); known != blocks_.end())
      known->second &= ~(kRefused | kUncertain);
}

FileLedger::Changing::Changing(FileLedger& ledger) : ledger_(ledger) {
  const std::lock_guard lock(ledger_.mutex_);
  ++ledger_.changes_;
}

FileLedger::Changing::~Changing() {
  const std::lock_guard lock(ledger_.mutex_);
  ++ledger_.changes_;
}

void FileLedger::zeroed(ByteRange range) {
  const std::lock_guard lock(mutex_);
  contents_.zero(range.offset, range.length);
}

void FileLedger::resized(std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  contents_.resize(size);
}

FileLedger::Direct::Direct(FileLedger& ledger, ByteRange range) : ledger_(ledger) {
  const std::lock_guard lock(ledger_.mutex_);
  place_ = ledger_.direct_.insert(ledger_.direct_.end(), Place{.range = range});
  for (auto& other : ledger_.direct_)
    if (&other != &*place_ && overlap(other.range, range))
      other.company = place_->company = Place::Company::kOverlapped;
}

FileLedger::Direct::~Direct() {
  const std::lock_guard lock(ledger_.mutex_);
  if (place_->company == Place::Company::kOverlapped)
    ledger_.each_block(place_->range, [](std::uint8_t& marks) { marks |= kUncertain; });
  ledger_.direct_.erase(place_);
  // Who read before it began and compares after it ended has read what was right then.
  ledger_.stores_ += 1;
}

FileLedger::Ticket FileLedger::ticket() const {
  const std::lock_guard lock(mutex_);
  return {.changes = changes_, .stores = stores_};
}

std::optional<Breach> FileLedger::judge_read(const Ticket& ticket, Reader reader, std::uint64_t position,
                                             std::span<const std::byte> bytes) const {
  const std::lock_guard lock(mutex_);
  if (ticket.changes % 2 != 0 || ticket.changes != changes_) return std::nullopt;
  if (reader == Reader::kDirect && ticket.stores != stores_) return std::nullopt;
  for (const auto& direct : direct_)
    if (overlap(direct.range, {.offset = position, .length = bytes.size()})) return std::nullopt;
  std::vector<std::byte> expected(bytes.size());
  contents_.read(position, expected);
  if (std::memcmp(expected.data(), bytes.data(), bytes.size()) == 0) return std::nullopt;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    if (bytes[at] == expected[at]) continue;
    const auto known = blocks_.find((position + at) / block_size_);
    if (known != blocks_.end() && (known->second & (kRefused | kUncertain)) != 0) continue;
    return Breach{
        expected[at] == std::byte{0} ? Rule::kStaleContent : Rule::kDataLost,
        fmt::format("node {} at {} (size {}): read {}, expected {}", node_, position + at, contents_.size(),
                    hex(bytes.subspan(at)), hex(std::span(expected).subspan(at)))};
  }
  return std::nullopt;
}

bool FileLedger::is_settled(const Ticket& ticket, ByteRange range) const {
  return ticket.changes % 2 == 0 && ticket.changes == changes_ && ticket.stores == stores_ &&
         std::ranges::none_of(direct_, [&](const auto& direct) { return overlap(direct.range, range); });
}

std::optional<Breach> FileLedger::judge_hole(const Ticket& ticket, ByteRange range) const {
  const std::lock_guard lock(mutex_);
  if (!is_settled(ticket, range)) return std::nullopt;
  const auto data = contents_.first_data(range.offset, range.length);
  if (!data) return std::nullopt;
  const auto known = blocks_.find(*data / block_size_);
  if (known != blocks_.end() && (known->second & (kRefused | kUncertain)) != 0) return std::nullopt;
  return Breach{Rule::kHoleOverData, fmt::format("node {}: {}+{} is called a hole, data at {}", node_,
                                                 range.offset, range.length, *data)};
}

void FileLedger::expect(std::uint64_t position, std::span<std::byte> into) const {
  const std::lock_guard lock(mutex_);
  contents_.read(position, into);
}

std::uint64_t FileLedger::size() const {
  const std::lock_guard lock(mutex_);
  return contents_.size();
}

void FileLedger::adopted() {
  const std::lock_guard lock(mutex_);
  adopted_ = true;
}

void FileLedger::device_writing(ByteRange range) {
  const std::lock_guard lock(mutex_);
  each_block(range, [](std::uint8_t& marks) { marks |= kWritten; });
}

void FileLedger::device_written(ByteRange range) {
  const std::lock_guard lock(mutex_);
  each_block(range, [](std::uint8_t& marks) { marks = (marks | kWritten) & ~kRefused; });
}

void FileLedger::device_refused(ByteRange range) {
  const std::lock_guard lock(mutex_);
  each_block(range, [](std::uint8_t& marks) { marks |= kRefused | kUncertain; });
}

void FileLedger::ioend_succeeded(ByteRange range) {
  const std::lock_guard lock(mutex_);
  each_block(range, [](std::uint8_t& marks) { marks = (marks | kConverted | kWritten) & ~kUnwritten; });
}

FileLedger::Removing::Removing(FileLedger& ledger, ByteRange range) : ledger_(ledger) {
  const std::lock_guard lock(ledger_.mutex_);
  const std::uint64_t block = ledger_.block_size_;
  const std::uint64_t begin = (range.offset + block - 1) / block;
  const std::uint64_t end =
      range.length == iomap_abi::kToEndOfFile ? range.length : (range.offset + range.length) / block;
  ledger_.adopted_ = false;
  ledger_.removing_begin_ = begin;
  ledger_.removing_end_ = std::max(begin, end);
  std::erase_if(ledger_.blocks_, [&](const auto& known) {
    if (known.first < begin || known.first >= end) return false;
    before_.insert(known);
    return true;
  });
}

void FileLedger::Removing::was_refused() {
  const std::lock_guard lock(ledger_.mutex_);
  ledger_.blocks_.merge(before_);
}

FileLedger::Removing::~Removing() {
  const std::lock_guard lock(ledger_.mutex_);
  ++ledger_.removals_;
  ledger_.removing_begin_ = ledger_.removing_end_ = 0;
}

FileLedger::Snapshot FileLedger::before_begin(ByteRange request) const {
  const std::lock_guard lock(mutex_);
  Snapshot snapshot{.removals = removals_, .converted = {}};
  // Of all that is known, since a hole may be as long as a file can be.
  const std::uint64_t begin = request.offset / block_size_;
  const std::uint64_t end = (request.offset + request.length + block_size_ - 1) / block_size_;
  for (const auto& [block, marks] : blocks_)
    if (block >= begin && block < end && (marks & kConverted) != 0) snapshot.converted.push_back(block);
  std::ranges::sort(snapshot.converted);
  return snapshot;
}

std::optional<Breach> FileLedger::judge_mapped(std::uint64_t block, std::uint64_t address,
                                               const Device& device, std::uint32_t operation,
                                               std::uint64_t file_size) {
  std::uint8_t& marks = blocks_[block];
  if (adopted_ && marks == 0) marks = kWritten;
  // The kernel writes nothing back that lies behind the end, so zeros would be lost there.
  const bool behind = block * block_size_ >= file_size;
  const bool zeroes_behind = behind && (operation & iomap_abi::kOpZero) != 0;
  if ((marks & kWritten) != 0 && !zeroes_behind) return std::nullopt;
  if (device.is_zero(address, block_size_)) {
    marks = (marks | kWritten) & ~kUnwritten;
    return std::nullopt;
  }
  const auto breach = [&](Rule rule) {
    return Breach{rule, fmt::format("node {} block {} at {} for {:#x}", node_, block, address, operation)};
  };
  if (zeroes_behind) return breach(Rule::kMappedBehindEnd);
  if ((marks & kRefused) != 0) return breach(Rule::kFailedWriteCounted);
  return breach((marks & kUnwritten) != 0 ? Rule::kConvertedTooFar : Rule::kMappedUninitialised);
}

std::optional<Breach> FileLedger::judge_answer(const Snapshot& snapshot, const iomap_abi::Mapping& part,
                                               std::uint32_t operation, std::uint64_t file_size,
                                               const Device* device) {
  if (part.type != iomap_abi::kMapped && part.type != iomap_abi::kUnwritten) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (snapshot.removals != removals_) return std::nullopt;
  const std::uint64_t begin = part.offset / block_size_;
  const std::uint64_t end = (part.offset + part.length) / block_size_;
  for (std::uint64_t block = begin; block < end; ++block) {
    if (block >= removing_begin_ && block < removing_end_) continue;
    const std::uint64_t address = part.address + (block - begin) * block_size_;
    if (part.type == iomap_abi::kMapped) {
      if (!device) continue;
      if (auto breach = judge_mapped(block, address, *device, operation, file_size)) return breach;
      continue;
    }
    if (std::ranges::binary_search(snapshot.converted, block))
      return Breach{Rule::kConversionForgotten,
                    fmt::format("node {} block {} for {:#x}", node_, block, operation)};
    std::uint8_t& marks = blocks_[block];
    if ((marks & kWritten) == 0) marks |= kUnwritten;
  }
  return std::nullopt;
}

}  // namespace fuse4fs::iomap_model
