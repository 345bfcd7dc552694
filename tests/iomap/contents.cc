// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/contents.h"

#include <algorithm>
#include <cstring>

#include "base/zeros.h"

namespace fuse4fs::iomap_model {
namespace {

// Calls piece(chunk, offset in it, length, offset in the whole) for each chunk of the range.
template <class Piece>
void each_piece(std::uint64_t position, std::uint64_t length, std::size_t chunk, const Piece& piece) {
  for (std::uint64_t done = 0; done < length;) {
    const std::uint64_t at = position + done;
    const std::uint64_t part = std::min<std::uint64_t>(chunk - at % chunk, length - done);
    piece(at / chunk, at % chunk, part, done);
    done += part;
  }
}

}  // namespace

void Contents::write(std::uint64_t position, std::span<const std::byte> bytes) {
  each_piece(position, bytes.size(), kChunk, [&](auto number, auto offset, auto length, auto done) {
    const auto piece = bytes.subspan(done, length);
    auto chunk = chunks_.find(number);
    if (chunk == chunks_.end()) {
      if (is_zero(piece)) return;
      chunk = chunks_.emplace(number, std::make_unique<Chunk>()).first;
    }
    std::ranges::copy(piece, chunk->second->data() + offset);
  });
  size_ = std::max(size_, position + bytes.size());
}

void Contents::zero(std::uint64_t position, std::uint64_t length) {
  if (position >= size_) return;
  each_piece(position, std::min(length, size_ - position), kChunk,
             [&](auto number, auto offset, auto part, auto) {
               const auto chunk = chunks_.find(number);
               if (chunk == chunks_.end()) return;
               std::memset(chunk->second->data() + offset, 0, part);
             });
}

void Contents::resize(std::uint64_t size) {
  if (size < size_) {
    zero(size, kChunk);
    chunks_.erase(chunks_.lower_bound((size + kChunk - 1) / kChunk), chunks_.end());
  }
  size_ = size;
}

std::optional<std::uint64_t> Contents::first_data(std::uint64_t position, std::uint64_t length) const {
  const std::uint64_t end = std::min(size_, position + std::min(length, ~position));
  for (auto at = chunks_.lower_bound(position / kChunk); at != chunks_.end() && at->first * kChunk < end;
       ++at) {
    const std::uint64_t begin = at->first * kChunk;
    const std::uint64_t first = std::max(begin, position), last = std::min(begin + kChunk, end);
    for (std::uint64_t byte = first; byte < last; ++byte)
      if ((*at->second)[byte - begin] != std::byte{0}) return byte;
  }
  return std::nullopt;
}

void Contents::read(std::uint64_t position, std::span<std::byte> into) const {
  each_piece(position, into.size(), kChunk, [&](auto number, auto offset, auto length, auto done) {
    const auto chunk = chunks_.find(number);
    if (chunk == chunks_.end())
      std::memset(into.data() + done, 0, length);
    else
      std::memcpy(into.data() + done, chunk->second->data() + offset, length);
  });
}

}  // namespace fuse4fs::iomap_model
