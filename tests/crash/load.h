// SPDX-License-Identifier: GPL-2.0-or-later
// Several writers at once on a mounted volume, so that its log holds a bit of everything when it is cut.
#pragma once

#include <cstdint>
#include <filesystem>

namespace fuse4fs::crash {

// kFastCommits: only what the kernel can write as a fast commit, and much fsync(2).
enum class Mix { kEverything, kFastCommits };

// Forks four writers below `root`, lets them do at least `operations` in all (or as many as 60 s allow), and
// calls FS_IOC_SHUTDOWN without a flush of the log while they go on. They are gone when this returns; files
// that they had open without a name were still open when it was cut. Throws std::runtime_error.
void load_and_cut(const std::filesystem::path& root, std::uint64_t seed, std::uint64_t operations, Mix mix);

}  // namespace fuse4fs::crash
