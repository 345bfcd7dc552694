// SPDX-License-Identifier: GPL-2.0-or-later
// How the kernel is to keep the data of files that goes through the server.
//
// Kernels from 6.19 on read files through iomap, which knows of each block in a page whether it is valid; but
// what they put a part of a page into they clear first, as a whole (fs/fuse/dev.c, fuse_copy_folio; seen on
// 7.0). With blocks smaller than a page that takes along what was written beside that part and is not written
// back yet. Where writes go through the page cache, no page is valid in part. What they clear is a folio:
// with folios of several pages, which files without iomap do not have there, no block size would be safe.
#pragma once

#include <cstdint>
#include <string_view>

namespace fuse4fs::fuse {

enum class PageCache { kWriteBack, kWriteThrough };

// `kernel_release`: as of uname(2). Sizes in bytes.
PageCache page_cache_for(std::string_view kernel_release, std::uint32_t block_size, std::uint32_t page_size);

}  // namespace fuse4fs::fuse
