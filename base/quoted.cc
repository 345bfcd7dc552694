// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/quoted.h"

#include <fmt/format.h>

#include <cstddef>

namespace fuse4fs {

std::string Quoted::operator()(std::string_view bytes) const {
  constexpr std::size_t kLongest = 255;
  std::string text = "\"";
  for (const char c : bytes.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e || c == '"' || c == '\\')
      text += fmt::format("\\x{:02x}", byte);
    else
      text += c;
  }
  text += bytes.size() > kLongest ? "\"…" : "\"";
  return text;
}

}  // namespace fuse4fs
