// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/crash/kinds.h"

#include <algorithm>

namespace fuse4fs::crash {
namespace {

constexpr std::string_view kJournal4k = "-b 4096";
constexpr std::string_view kJournal1k = "-b 1024";

constexpr Kind kKinds[] = {
    {{"4k", "64M", "-b 4096", "as mkfs.ext4 makes it: checksums v3, 64-bit tags"}},
    {{"1k", "32M", "-b 1024", "blocks smaller than pages"}},
    {{"2k", "48M", "-b 2048", "the same"}},
    {{"no-64bit", "64M", "-b 4096 -O ^64bit", "32-bit tags with checksums v3"}},
    {{"no-csum", "64M", "-b 4096 -O ^metadata_csum", "no checksums in the journal"}},
    {{"no-csum-32", "32M", "-b 1024 -O ^metadata_csum,^64bit", "the shortest tags"}},
    {{"csum-v1", "64M", "-b 4096 -O ^metadata_csum", "checksums over transactions"}, "journal_checksum"},
    {{"async", "64M", "-b 4096 -O ^metadata_csum", "commit blocks that wait for nothing"},
     "data=writeback,journal_async_commit"},
    {{"async-v3", "64M", "-b 4096", "the same with checksums v3"}, "data=writeback,journal_async_commit"},
    {{"data-journal", "64M", "-b 4096", "contents are in the log, escaped blocks with them"}, "data=journal"},
    {{"data-journal-1k", "48M", "-b 1024 -O ^metadata_csum", "the same in small"}, "data=journal"},
    {{"writeback", "64M", "-b 4096", "contents in no order"}, "data=writeback"},
    {{"ext3", "64M", "-t ext3 -b 4096", "indirect maps, that of the journal too"}},
    {{"ext3-1k", "32M", "-t ext3 -b 1024", "the same, three levels"}},
    {{"small", "64M", "-b 4096 -J size=4", "a log that wraps"}, "data=journal"},
    {{"small-1k", "32M", "-b 1024 -J size=1", "the same in small"}, "data=journal"},
    {{"external", "64M", "-b 4096", "the journal on a device of its own"}, "", kJournal4k},
    {{"external-1k", "32M", "-b 1024", "the same, with its superblock in block 2"}, "", kJournal1k},
    {{"bigalloc", "128M", "-b 4096 -O bigalloc -C 16384", "clusters of four blocks"}},
    {{"orphan_file", "64M", "-b 4096 -O orphan_file", "what is being deleted, in a file"}},
    {{"inline_data", "64M", "-b 4096 -O inline_data -I 256", "small files inside of their inodes"}},
    {{"meta_bg", "64M", "-b 1024 -O meta_bg,^resize_inode -g 1024", "descriptors all over the volume"}},
    {{"fast_commit", "64M", "-b 4096 -O fast_commit", "fast commits"}, "", "", true},
    {{"fast_commit-1k", "32M", "-b 1024 -O fast_commit", "the same in small"}, "", "", true},
    {{"fast_commit-orphan", "64M", "-b 4096 -O fast_commit,orphan_file", "both"}, "", "", true},
};

}  // namespace

std::span<const Kind> kinds() { return kKinds; }
const Kind* find_kind(std::string_view name) {
  const auto* const found = std::ranges::find(kKinds, name, &Kind::name);
  return found == std::end(kKinds) ? nullptr : found;
}

}  // namespace fuse4fs::crash
