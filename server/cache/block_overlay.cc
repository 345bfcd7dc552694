// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/block_overlay.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "server/cache/block_device.h"

namespace fuse4fs::cache {

const BlockOverlay::Redirect* BlockOverlay::redirect_of(std::uint64_t block) const {
  const auto found = std::ranges::lower_bound(options_.redirects, block, {}, &Redirect::block);
  return found != options_.redirects.end() && found->block == block ? &*found : nullptr;
}

std::uint64_t BlockOverlay::next_covered(std::uint64_t block) const {
  std::uint64_t next = UINT64_MAX;
  if (const auto found = written_.lower_bound(block); found != written_.end()) next = found->first;
  const auto found = std::ranges::lower_bound(options_.redirects, block, {}, &Redirect::block);
  if (found != options_.redirects.end()) next = std::min(next, found->block);
  return next;
}

bool BlockOverlay::covers(std::uint64_t offset, std::uint64_t length) const {
  if (length == 0) return false;
  const std::uint64_t next = next_covered(offset / options_.block_size);
  return next <= (offset + length - 1) / options_.block_size;
}

Result<void> BlockOverlay::read(std::uint64_t offset, std::span<std::byte> into, const Reader& below) const {
  const std::size_t block_size = options_.block_size;
  while (!into.empty()) {
    const std::uint64_t block = offset / block_size;
    const std::size_t inside = offset % block_size;
    const std::uint64_t covered = next_covered(block);
    std::size_t length = 0;
    if (covered == block) {
      length = std::min(into.size(), block_size - inside);
      RETURN_IF_ERROR(read_covered(block, inside, into.first(length), below));
    } else {
      // Up to the next one, in one piece. Numbers that no device has are not multiplied.
      const std::uint64_t blocks = std::min(covered - block, into.size() / block_size + 2);
      length = std::min<std::uint64_t>(into.size(), blocks * block_size - inside);
      RETURN_IF_ERROR(below(offset, into.first(length)));
    }
    into = into.subspan(length);
    offset += length;
  }
  return {};
}

Result<void> BlockOverlay::read_covered(std::uint64_t block, std::size_t inside, std::span<std::byte> into,
                                        const Reader& below) const {
  if (const auto written = written_.find(block); written != written_.end()) {
    std::memcpy(into.data(), written->second.get() + inside, into.size());
    return {};
  }
  const Redirect& redirect = *redirect_of(block);
  const std::uint64_t offset = std::uint64_t{redirect.at} * options_.block_size + inside;
  RETURN_IF_ERROR(options_.source ? options_.source->read(offset, into) : below(offset, into));
  if (redirect.prefixed != 0 && inside < options_.prefix.size()) {
    const auto length = std::min(options_.prefix.size() - inside, into.size());
    std::memcpy(into.data(), options_.prefix.data() + inside, length);
  }
  return {};
}

Result<void> BlockOverlay::write(std::uint64_t offset, std::span<const std::byte> from, const Reader& below) {
  if (frozen_) return fail(EROFS);
  const std::size_t block_size = options_.block_size;
  while (!from.empty()) {
    const std::uint64_t block = offset / block_size;
    const std::size_t inside = offset % block_size;
    const std::size_t length = std::min(from.size(), block_size - inside);
    auto found = written_.find(block);
    if (found == written_.end()) {
      if ((written_.size() + 1) * std::uint64_t{block_size} > options_.most_written) return fail(ENOMEM);
      auto bytes = std::make_unique<std::byte[]>(block_size);
      if (length != block_size)
        RETURN_IF_ERROR(read(block * block_size, std::span(bytes.get(), block_size), below));
      found = written_.emplace(block, std::move(bytes)).first;
    }
    std::memcpy(found->second.get() + inside, from.data(), length);
    from = from.subspan(length);
    offset += length;
  }
  return {};
}

}  // namespace fuse4fs::cache
