// SPDX-License-Identifier: GPL-2.0-or-later
// The bits of a bitmap's block, as the format counts them: bit 0 is the lowest of byte 0. A word at a time.
//
// Whoever changes bits holds their group's lock; others may look at the same time, so words are read and
// written whole. The bytes begin at a word's place, and there is a whole number of words of them.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace fuse4fs::ext4::bits {

namespace internal {
using Word [[gnu::may_alias]] = std::uint64_t;
inline constexpr std::size_t kBits = 64;
inline std::uint64_t load(std::span<const std::byte> bytes, std::size_t word) {
  return __atomic_load_n(reinterpret_cast<const Word*>(bytes.data()) + word, __ATOMIC_RELAXED);
}
inline void store(std::span<std::byte> bytes, std::size_t word, std::uint64_t value) {
  __atomic_store_n(reinterpret_cast<Word*>(bytes.data()) + word, value, __ATOMIC_RELAXED);
}
// The first one of `kFlip` ^ the words, or `end`.
template <std::uint64_t kFlip>
std::size_t first(std::span<const std::byte> bytes, std::size_t from, std::size_t end) {
  if (from >= end) return end;
  std::size_t word = from / kBits;
  std::uint64_t value = (load(bytes, word) ^ kFlip) & (~std::uint64_t{0} << from % kBits);
  while (value == 0) {
    if (++word * kBits >= end) return end;
    value = load(bytes, word) ^ kFlip;
  }
  return std::min(end, word * kBits + static_cast<std::size_t>(std::countr_zero(value)));
}
// Calls `change` with each word from `from` to before `end`, and its bits that are meant.
template <class Change>
void for_words(std::size_t from, std::size_t end, const Change& change) {
  while (from < end) {
    const std::size_t word = from / kBits;
    const std::size_t behind = std::min(end, (word + 1) * kBits);
    std::uint64_t mask = ~std::uint64_t{0} << from % kBits;
    if (behind % kBits != 0) mask &= ~(~std::uint64_t{0} << behind % kBits);
    change(word, mask);
    from = behind;
  }
}
}  // namespace internal

inline bool test(std::span<const std::byte> bytes, std::size_t bit) {
  return (internal::load(bytes, bit / internal::kBits) >> bit % internal::kBits & 1) != 0;
}
// Of those from `from` to before `end`; `end` if there is none.
inline std::size_t first_zero(std::span<const std::byte> bytes, std::size_t from, std::size_t end) {
  return internal::first<~std::uint64_t{0}>(bytes, from, end);
}
inline std::size_t first_one(std::span<const std::byte> bytes, std::size_t from, std::size_t end) {
  return internal::first<0>(bytes, from, end);
}
inline std::size_t count_zeros(std::span<const std::byte> bytes, std::size_t from, std::size_t end) {
  std::size_t zeros = 0;
  internal::for_words(from, end, [&](std::size_t word, std::uint64_t mask) {
    zeros += static_cast<std::size_t>(std::popcount(~internal::load(bytes, word) & mask));
  });
  return zeros;
}
inline void set(std::span<std::byte> bytes, std::size_t from, std::size_t end) {
  internal::for_words(from, end, [&](std::size_t word, std::uint64_t mask) {
    internal::store(bytes, word, internal::load(bytes, word) | mask);
  });
}
inline void clear(std::span<std::byte> bytes, std::size_t from, std::size_t end) {
  internal::for_words(from, end, [&](std::size_t word, std::uint64_t mask) {
    internal::store(bytes, word, internal::load(bytes, word) & ~mask);
  });
}

}  // namespace fuse4fs::ext4::bits
