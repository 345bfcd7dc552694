// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers in variables of the environment.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace fuse4fs::service {

// Empty if the variable is not there (null) or is anything but a decimal number, from its first byte to its
// last.
inline std::optional<std::int64_t> number_in(const char* variable) {
  if (variable == nullptr) return std::nullopt;
  const std::string_view digits(variable);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace fuse4fs::service
