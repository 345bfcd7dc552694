// SPDX-License-Identifier: GPL-2.0-or-later
// The kinds of volumes that are cut.
#pragma once

#include <span>
#include <string_view>

#include "tests/oracle/volumes.h"

namespace fuse4fs::crash {

struct Kind : oracle::Kind {
  std::string_view kernel_options{};  // of the kernel's mount
  std::string_view journal{};         // mkfs arguments of an external journal; empty: it is inside
  // The kernel's own replay of these is wrong now and then (6.18): where it fails, or e2fsck finds fault with
  // what it left, only ours is judged. Always volumes with extents: without them that kernel hits a BUG.
  bool fast_commit = false;
};
std::span<const Kind> kinds();
const Kind* find_kind(std::string_view name);

}  // namespace fuse4fs::crash
