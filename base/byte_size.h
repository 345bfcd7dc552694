// SPDX-License-Identifier: GPL-2.0-or-later
// Amounts of memory as people write them in options.
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace fuse4fs {

// Bytes: a number, and k, m or g behind it for powers of 1024, in small or capital letters. Nothing where the
// text is anything else, or more than fits.
inline std::optional<std::uint64_t> parse_byte_size(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  constexpr std::string_view kUnits = "kmg";
  unsigned bits = 0;
  if (!unit.empty()) {
    const std::size_t which = kUnits.find(static_cast<char>(unit[0] | 0x20));
    if (unit.size() != 1 || which == std::string_view::npos) return std::nullopt;
    bits = 10 * static_cast<unsigned>(which + 1);
  }
  if (number > std::numeric_limits<std::uint64_t>::max() >> bits) return std::nullopt;
  return number << bits;
}

}  // namespace fuse4fs
