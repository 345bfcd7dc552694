// SPDX-License-Identifier: GPL-2.0-or-later
// What a mount shows of its files, as root sees it: all that two sides are compared in.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace fuse4fs::oracle {

// kLight costs a few system calls and leaves the page cache alone; kWhole reads contents and asks for flags.
enum class Depth { kLight, kWhole };

struct Look {
  Depth depth = Depth::kLight;
  // What a run leaves out is not asked for either.
  bool xattrs = true, flags = true, edges = true;
};

struct Entry {
  struct statx status{};
  std::map<std::string, std::string> xattrs;
  std::string target;                    // of a symlink
  std::optional<std::uint32_t> flags{};  // FS_*_FL, regular files and directories only
  std::optional<std::uint32_t> project{};
  std::vector<std::int64_t> edges{};  // where data and holes begin, in turn
  std::string content;                // of a large sparse file only its data
  std::string trouble;                // what could not be read, and why; both sides must have the same
};
using Tree = std::map<std::string, Entry>;  // by path; the root is "."

// One path below the directory `root`; nothing where there is no such name.
std::optional<Entry> look_at(int root, const std::string& path, const Look& look);
// Everything below it.
Tree walk(int root, const Look& look);

// FS_*_FL; 0 where they cannot be had.
std::uint32_t flags_of(int file);
// Writes a file's dirty pages and drops them: SEEK_DATA and SEEK_HOLE then speak of the volume.
void forget_cached(int file);
// The names of listxattr(2), one a line, sorted.
std::string sorted_names(const std::string& names);

}  // namespace fuse4fs::oracle
