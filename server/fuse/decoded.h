// SPDX-License-Identifier: GPL-2.0-or-later
// A whole request as read from /dev/fuse: its header and the struct behind it.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>

#include "server/fuse/kernel_abi.h"

namespace fuse4fs::fuse {

template <class Struct>
struct Decoded {
  fuse_in_header header;
  Struct body;
};

// Nothing if the request is too short for it.
template <class Struct>
std::optional<Decoded<Struct>> decode(std::span<const std::byte> request) {
  Decoded<Struct> decoded;
  if (request.size() < sizeof decoded.header + sizeof decoded.body) return std::nullopt;
  std::memcpy(&decoded.header, request.data(), sizeof decoded.header);
  std::memcpy(&decoded.body, request.data() + sizeof decoded.header, sizeof decoded.body);
  return decoded;
}

}  // namespace fuse4fs::fuse
