// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/page_cache.h"

namespace fuse4fs::iomap_model {

bool Folio::any_dirty() const { return std::ranges::find(dirty, true) != dirty.end(); }

ByteRange Folio::part(ByteRange range) const {
  const std::uint64_t begin = std::max(range.offset, offset);
  const std::uint64_t last = range.length > ~range.offset ? ~std::uint64_t{0} : range.offset + range.length;
  const std::uint64_t stop = std::min(last, end());
  return {.offset = begin, .length = stop > begin ? stop - begin : 0};
}

bool Folio::is_uptodate(ByteRange range) const {
  for (std::uint64_t at = range.offset / block * block; at < range.offset + range.length; at += block)
    if (!uptodate[(at - offset) / block]) return false;
  return true;
}

void Folio::mark(std::vector<bool>& which, ByteRange range) const {
  for (std::uint64_t at = range.offset / block * block; at < range.offset + range.length; at += block)
    which[(at - offset) / block] = true;
}

LockedFolio PageCache::lock(std::uint64_t position) {
  const std::uint64_t offset = position / folio_size_ * folio_size_;
  while (true) {
    std::shared_ptr<Folio> folio;
    {
      const std::lock_guard guard(mutex_);
      auto& place = folios_[offset];
      if (!place) place = std::make_shared<Folio>(offset, folio_size_, block_size_);
      folio = place;
    }
    std::unique_lock lock(folio->lock);
    if (!folio->removed) return {.folio = std::move(folio), .lock = std::move(lock)};
  }
}

LockedFolio PageCache::lock_existing(std::uint64_t position) {
  const std::uint64_t offset = position / folio_size_ * folio_size_;
  while (true) {
    std::shared_ptr<Folio> folio;
    {
      const std::lock_guard guard(mutex_);
      const auto found = folios_.find(offset);
      if (found == folios_.end()) return {};
      folio = found->second;
    }
    std::unique_lock lock(folio->lock);
    if (!folio->removed) return {.folio = std::move(folio), .lock = std::move(lock)};
  }
}

std::vector<std::shared_ptr<Folio>> PageCache::within(ByteRange range) const {
  const std::lock_guard guard(mutex_);
  std::vector<std::shared_ptr<Folio>> found;
  for (auto at = folios_.lower_bound(range.offset / folio_size_ * folio_size_); at != folios_.end(); ++at) {
    if (at->first >= range.offset && at->first - range.offset >= range.length) break;
    found.push_back(at->second);
  }
  return found;
}

void PageCache::remove(Folio& folio) {
  const std::lock_guard guard(mutex_);
  folio.removed = true;
  folios_.erase(folio.offset);
}

std::vector<std::shared_ptr<Folio>> PageCache::dirty_within(ByteRange range) const {
  auto found = within(range);
  std::erase_if(found, [](const auto& folio) {
    const std::lock_guard guard(folio->lock);
    return folio->removed || (!folio->any_dirty() && folio->in_writeback == 0);
  });
  return found;
}

std::shared_ptr<Folio> PageCache::first_from(std::uint64_t position) const {
  const std::lock_guard guard(mutex_);
  const auto found = folios_.lower_bound(position);
  return found == folios_.end() ? nullptr : found->second;
}

}  // namespace fuse4fs::iomap_model
