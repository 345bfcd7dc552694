// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/access_times.h"

#include <tuple>

#include "server/ext4/credits.h"

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

bool AccessTimePolicy::is_due(const Inode& inode, Timestamp time) const {
  const AccessTimes rule = inode.is_directory() ? directories_ : files_;
  if (rule == AccessTimes::kNever || inode.has(EXT2_NOATIME_FL)) return false;
  return rule == AccessTimes::kStrict || is_news(inode, time);
}

void AccessTimePolicy::touch(Metadata& metadata, const Inode& inode, AccessTime access_time) const {
  if (access_time == AccessTime::kKeep) return;
  const Timestamp time = now();
  if (!is_due(inode, time) || !volume_.check_writable()) return;
  const OwnChanges::Turn turn(metadata.volume.own_changes());
  if (!turn.is_allowed()) return;
  const auto held = metadata.inodes.lock(inode.number);
  auto current = metadata.inodes.read(held);
  // Another reader may have been here.
  if (!current || !is_due(*current, time)) return;
  current->set_accessed(time);
  const auto handle = metadata.volume.journal().start(credits::of_attributes);
  // What goes wrong was told to Events.
  (void)metadata.inodes.write(*current);
}

}  // namespace fuse4fs::ext4
