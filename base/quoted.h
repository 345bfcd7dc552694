// SPDX-License-Identifier: GPL-2.0-or-later
// Bytes that came from an image or from the other side of a socket, made safe to print.
#pragma once

#include <string>
#include <string_view>

namespace fuse4fs {

// In double quotes; control bytes, quotes, backslashes and bytes above 126 as \xNN, cut after 255 bytes with
// "…". A name on a hostile volume can so neither forge a log line nor speak to a terminal.
//
// An object, not a function: std::quoted is then not looked at, which a std::string would bring along.
struct Quoted {
  std::string operator()(std::string_view bytes) const;
};
inline constexpr Quoted quoted;

}  // namespace fuse4fs
