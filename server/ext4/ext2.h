// SPDX-License-Identifier: GPL-2.0-or-later
// libext2fs, for the folder's own use: file_system.h must not show it.
#pragma once

// It says so itself for half of its functions only.
extern "C" {
#include <et/com_err.h>
}
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
// 1.47.2 defines it, over std::clamp.
#undef clamp

#include <bit>

// Structures are read from blocks as they lie.
static_assert(std::endian::native == std::endian::little, "big-endian machines are not supported yet");
