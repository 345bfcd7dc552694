// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/block_owners.h"

#include <fmt/format.h>

#include <vector>

namespace fuse4fs::iomap_model {
namespace {

bool holds(ByteRange range, std::uint64_t offset) { return offset - range.offset < range.length; }

}  // namespace

std::optional<Breach> BlockOwners::claim(std::uint64_t node, ByteRange range, std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  Place& places = by_file_[node];
  for (std::uint64_t done = 0; done < range.length; done += block_size_) {
    const std::uint64_t offset = range.offset + done, at = address + done;
    if (watched_ && !allocated_.contains(at))
      return Breach{Rule::kMappedFreeBlocks, fmt::format("node {} at {}: {} is free", node, offset, at)};
    const auto known = by_address_.find(at);
    if (known != by_address_.end()) {
      const Claim& other = known->second;
      // Also where it is being released: an answer from before may come after.
      if (other.node == node && other.offset == offset) continue;
      if (other.state == State::kLive)
        return Breach{Rule::kMappedTwice, fmt::format("{} belongs to node {} at {} and to node {} at {}", at,
                                                      other.node, other.offset, node, offset)};
      by_file_[other.node].erase(other.offset);
    }
    const auto [place, is_new] = places.try_emplace(offset, at);
    if (!is_new && place->second != at) {
      by_address_.erase(place->second);
      place->second = at;
    }
    by_address_[at] = {.node = node, .offset = offset, .state = State::kLive};
  }
  return std::nullopt;
}

void BlockOwners::releasing(std::uint64_t node, ByteRange range) {
  set_state(node, range, State::kReleasing);
}

void BlockOwners::kept(std::uint64_t node, ByteRange range) { set_state(node, range, State::kLive); }

void BlockOwners::set_state(std::uint64_t node, ByteRange range, State state) {
  const std::lock_guard lock(mutex_);
  const auto places = by_file_.find(node);
  if (places == by_file_.end()) return;
  for (auto place = places->second.lower_bound(range.offset);
       place != places->second.end() && holds(range, place->first); ++place)
    if (const auto claim = by_address_.find(place->second); claim != by_address_.end())
      claim->second.state = state;
}

void BlockOwners::released(std::uint64_t node, ByteRange range) {
  const std::lock_guard lock(mutex_);
  const auto places = by_file_.find(node);
  if (places == by_file_.end()) return;
  auto place = places->second.lower_bound(range.offset);
  while (place != places->second.end() && holds(range, place->first)) {
    by_address_.erase(place->second);
    place = places->second.erase(place);
  }
}

BlockOwners::InFlight::InFlight(BlockOwners& owners, ByteRange range) : owners_(owners) {
  const std::lock_guard lock(owners_.mutex_);
  place_ = owners_.in_flight_.emplace(range.offset, range.length);
}

BlockOwners::InFlight::~InFlight() {
  const std::lock_guard lock(owners_.mutex_);
  owners_.in_flight_.erase(place_);
}

void BlockOwners::allocated(ByteRange range) {
  const std::lock_guard lock(mutex_);
  watched_ = true;
  for (std::uint64_t done = 0; done < range.length; done += block_size_)
    allocated_.insert(range.offset + done);
}

void BlockOwners::freed(ByteRange range) {
  struct Freed {
    Claim claim;
    std::uint64_t address;
  };
  std::vector<Freed> claimed;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [address, length] : in_flight_)
      if (address < range.offset + range.length && range.offset < address + length)
        breaches_.add(Rule::kFreedUnderIo, fmt::format("{}+{}", address, length));
    for (std::uint64_t done = 0; done < range.length; done += block_size_) {
      const std::uint64_t at = range.offset + done;
      if (watched_ && allocated_.erase(at) == 0) breaches_.add(Rule::kFreedTwice, fmt::format("{}", at));
      const auto claim = by_address_.find(at);
      if (claim == by_address_.end()) continue;
      claimed.push_back({.claim = claim->second, .address = at});
      by_file_[claim->second.node].erase(claim->second.offset);
      by_address_.erase(claim);
    }
  }
  // Without the lock: it looks into the caches of mappings.
  for (const auto& [claim, at] : claimed) {
    if (claim.state == State::kReleasing && invalidation_ == Invalidation::kUnlessTheKernelDoes) continue;
    if (is_cached_(claim.node, claim.offset, at))
      breaches_.add(Rule::kInvalidationForgotten,
                    fmt::format("{} is freed, and cached as node {} at {}", at, claim.node, claim.offset));
  }
}

}  // namespace fuse4fs::iomap_model
