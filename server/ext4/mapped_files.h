// SPDX-License-Identifier: GPL-2.0-or-later
// What is known in memory of files whose data the caller moves (mapping_service.h) and the volume does not
// show yet: sizes that the caller has reached, writes that failed.
//
// Locking: any thread; one lock (rank kMappedFiles) for moments. Errors: none.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/errno.h"
#include "base/guarded.h"
#include "server/ext4/file_system.h"
#include "server/ext4/inode.h"

namespace fuse4fs::ext4 {

class MappedFiles {
 public:
  // In memory the caller has the file so long.
  void note_size(InodeNumber inode, std::uint64_t bytes);
  // The longer of that and what the volume shows.
  std::uint64_t end_of(const Inode& inode) { return std::max(inode.size(), size_of(inode.number)); }
  // What was noted; 0: nothing.
  [[nodiscard]] std::uint64_t size_of(InodeNumber inode);
  // Notes up to that are void: the file has that size, or another one by request.
  void forget_size(InodeNumber inode, std::uint64_t up_to);

  // The caller's data did not reach the volume: the first sync after it says so, once.
  void note_error(InodeNumber inode, Errno error);
  std::optional<Errno> take_error(InodeNumber inode);
  // Of any file, also of one that was forgotten since; once, and take_error() says it all the same.
  std::optional<Errno> any_error();

  // Those that have a size noted.
  std::vector<InodeNumber> all_with_size();

  [[nodiscard]] bool knows(InodeNumber inode);
  // Nobody knows the inode any more, or it is gone.
  void forget(InodeNumber inode);

 private:
  struct File {
    std::uint64_t size = 0;
    std::optional<Errno> error;
    enum class Told { kNobody, kAnySync } told = Told::kNobody;  // of the error
    [[nodiscard]] bool is_dull() const { return size == 0 && !error; }
  };
  struct Files {
    std::unordered_map<InodeNumber, File> known;
    std::optional<Errno> lost_error;  // of one that is not known any more
  };
  // Of a file that may be none: nothing happens then.
  template <class Change>
  void change(InodeNumber inode, Change change);

  Guarded<Files, LockRank::kMappedFiles> files_;
};

}  // namespace fuse4fs::ext4
