// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/block_cache.h"

#include <algorithm>
#include <cstring>

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kLargestWrite = std::size_t{1} << 20;

}  // namespace

BlockCache::BlockCache(const BlockDevice& device, std::size_t block_size, std::size_t limit)
    : device_(device),
      block_size_(block_size),
      limit_blocks_(std::max<std::size_t>(limit / block_size, 16)) {}

Result<void> BlockCache::read(std::uint64_t offset, std::span<std::byte> into) {
  auto state = state_.lock();
  while (!into.empty()) {
    const std::uint64_t number = offset / block_size_;
    const std::size_t inside = offset % block_size_;
    const std::size_t length = std::min(into.size(), block_size_ - inside);
    ASSIGN_OR_RETURN(const Block* block, obtain(*state, number, Fill::kFromDevice));
    std::memcpy(into.data(), block->bytes.get() + inside, length);
    into = into.subspan(length);
    offset += length;
  }
  return {};
}

Result<void> BlockCache::write(std::uint64_t offset, std::span<const std::byte> from) {
  if (device_.access() != Access::kReadWrite) return fail(EROFS);
  if (offset > device_.size() || from.size() > device_.size() - offset) return fail(EIO);
  auto state = state_.lock();
  while (!from.empty()) {
    const std::uint64_t number = offset / block_size_;
    const std::size_t inside = offset % block_size_;
    const std::size_t length = std::min(from.size(), block_size_ - inside);
    const bool whole = length == block_size_;
    const bool known = state->blocks.contains(number);
    ASSIGN_OR_RETURN(Block * block,
                     obtain(*state, number, whole ? Fill::kWillBeOverwritten : Fill::kFromDevice));
    std::byte* const target = block->bytes.get() + inside;
    if ((whole && !known) || std::memcmp(target, from.data(), length) != 0) {
      std::memcpy(target, from.data(), length);
      if (!block->dirty) {
        block->dirty = true;
        state->dirty.insert(number);
      }
    }
    from = from.subspan(length);
    offset += length;
  }
  return {};
}

void BlockCache::forget(std::uint64_t first_block, std::uint64_t count) {
  auto state = state_.lock();
  const auto drop = [&](std::unordered_map<std::uint64_t, Block>::iterator found) {
    state->dirty.erase(found->first);
    state->by_age.erase(found->second.age);
    return state->blocks.erase(found);
  };
  // A long range is usually file data, of which nothing is here: do not look for each block of it.
  if (count > state->blocks.size()) {
    for (auto block = state->blocks.begin(); block != state->blocks.end();) {
      if (block->first >= first_block && block->first - first_block < count)
        block = drop(block);
      else
        ++block;
    }
    return;
  }
  for (std::uint64_t number = first_block; number - first_block < count; ++number) {
    if (const auto found = state->blocks.find(number); found != state->blocks.end()) drop(found);
  }
}

Result<void> BlockCache::flush() {
  auto state = state_.lock();
  return write_back(*state);
}

std::size_t BlockCache::dirty_blocks() { return state_.lock()->dirty.size(); }

std::size_t BlockCache::cached_blocks() { return state_.lock()->blocks.size(); }

Result<BlockCache::Block*> BlockCache::obtain(State& state, std::uint64_t number, Fill fill) {
  if (const auto found = state.blocks.find(number); found != state.blocks.end()) {
    state.by_age.splice(state.by_age.end(), state.by_age, found->second.age);
    return &found->second;
  }
  make_room(state);
  Block block;
  block.bytes = std::make_unique_for_overwrite<std::byte[]>(block_size_);
  if (fill == Fill::kFromDevice) {
    if (number > device_.size() / block_size_) return fail(EIO);
    RETURN_IF_ERROR(device_.read(number * block_size_, std::span(block.bytes.get(), block_size_)));
  }
  block.age = state.by_age.insert(state.by_age.end(), number);
  return &state.blocks.emplace(number, std::move(block)).first->second;
}

void BlockCache::make_room(State& state) {
  // Half for dirty blocks: beyond it they are written early. Where that fails they stay (nothing that was
  // promised is dropped), the cache outgrows its limit, and the next flush() says why.
  if (state.dirty.size() >= limit_blocks_ / 2) (void)write_back(state);
  auto oldest = state.by_age.begin();
  while (state.blocks.size() >= limit_blocks_ && oldest != state.by_age.end()) {
    const auto found = state.blocks.find(*oldest);
    if (found->second.dirty) {
      ++oldest;
      continue;
    }
    state.blocks.erase(found);
    oldest = state.by_age.erase(oldest);
  }
}

Result<void> BlockCache::write_back(State& state) {
  Result<void> outcome;
  auto next = state.dirty.begin();
  while (next != state.dirty.end()) {
    const std::uint64_t first = *next;
    auto end = next;
    state.gather.clear();
    for (std::uint64_t number = first; end != state.dirty.end() && *end == number; ++number, ++end) {
      if (state.gather.size() + block_size_ > std::max(kLargestWrite, block_size_)) break;
      const std::byte* bytes = state.blocks.at(number).bytes.get();
      state.gather.insert(state.gather.end(), bytes, bytes + block_size_);
    }
    auto written = device_.write(first * block_size_, state.gather);
    if (written) {
      for (auto number = next; number != end; ++number) state.blocks.at(*number).dirty = false;
      next = state.dirty.erase(next, end);
    } else {
      // The others may still reach the device; the first failure is the one that is told.
      if (outcome) outcome = std::unexpected(written.error());
      next = end;
    }
  }
  return outcome;
}

}  // namespace fuse4fs::cache
