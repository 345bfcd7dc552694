// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/access_times.h"

#include <tuple>

namespace fuse4fs::ext4 {
namespace {

constexpr std::int64_t kDay = 86400;

bool is_later(Timestamp one, Timestamp other) {
  return std::tie(one.seconds, one.nanoseconds) > std::tie(other.seconds, other.nanoseconds);
}

// relatime: only if it would say something new, or once a day.
bool is_news(const Inode& inode, Timestamp time) {
  const Timestamp accessed = inode.accessed();
  return !is_later(accessed, inode.modified()) || !is_later(accessed, inode.changed()) ||
         time.seconds - accessed.seconds >= kDay;
}

}  // namespace

void AccessTimePolicy::touch(Metadata& metadata, Inode& inode, AccessTime access_time) const {
  const AccessTimes rule = inode.is_directory() ? directories_ : files_;
  if (access_time == AccessTime::kKeep || rule == AccessTimes::kNever || inode.has(EXT2_NOATIME_FL)) return;
  if (!volume_.check_writable()) return;
  const Timestamp time = now();
  if (rule == AccessTimes::kRelative && !is_news(inode, time)) return;
  inode.set_accessed(time);
  // What goes wrong was told to Events.
  (void)metadata.inodes.write(inode);
}

}  // namespace fuse4fs::ext4
