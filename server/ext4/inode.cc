// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <ctime>

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint32_t kNanosecondShift = 2;
constexpr std::uint32_t kEpochMask = 3;

#define FUSE4FS_END_OF(field) (offsetof(ext2_inode_large, field) + sizeof(ext2_inode_large::field))

Timestamp decode(std::uint32_t seconds, bool wide, std::uint32_t extra) {
  // The low half counts from 1901 to 2038; two bits of the other say how often it went round.
  Timestamp time{static_cast<std::int32_t>(seconds), 0};
  if (wide) {
    time.seconds += static_cast<std::int64_t>(extra & kEpochMask) << 32;
    time.nanoseconds = std::min<std::uint32_t>(extra >> kNanosecondShift, 999'999'999);
  }
  return time;
}

// Times that do not fit become the nearest that does, as in the kernel.
Timestamp clamped(Timestamp time, bool wide) {
  const auto [first, last] = time_limits(wide);
  if (time.seconds <= first) return {first, 0};
  if (time.seconds >= last) return {last, 0};
  return time;
}

void encode(Timestamp time, bool wide, std::uint32_t& seconds, std::uint32_t& extra) {
  time = clamped(time, wide);
  seconds = static_cast<std::uint32_t>(time.seconds);
  if (!wide) return;
  const auto epoch = static_cast<std::uint32_t>((time.seconds - static_cast<std::int32_t>(seconds)) >> 32);
  extra = (epoch & kEpochMask) | time.nanoseconds << kNanosecondShift;
}

std::atomic<clockid_t> stamp_clock = CLOCK_REALTIME;

}  // namespace

void set_stamp_clock(StampClock clock) {
  stamp_clock = clock == StampClock::kFine ? CLOCK_REALTIME : CLOCK_REALTIME_COARSE;
}

Timestamp now() {
  timespec time{};
  ::clock_gettime(stamp_clock.load(std::memory_order_relaxed), &time);
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

std::uint16_t extra_size_of_new_inodes(ext2_super_block& super) {
  if (EXT2_INODE_SIZE(&super) <= EXT2_GOOD_OLD_INODE_SIZE) return 0;
  const unsigned room = EXT2_INODE_SIZE(&super) - EXT2_GOOD_OLD_INODE_SIZE;
  const unsigned known = sizeof(ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
  // What the volume wants beyond what we know stays zero, as it should be.
  const unsigned wanted = ext2fs_has_feature_extra_isize(&super)
                              ? std::max(known, static_cast<unsigned>(super.s_want_extra_isize))
                              : known;
  return static_cast<std::uint16_t>(std::min(wanted, room) & ~3U);
}

bool Inode::has_blocks_map() const {
  if (has(EXT4_INLINE_DATA_FL)) return false;
  if (is_regular() || is_directory()) return true;
  return is_symlink() && size() >= sizeof raw.i_block;
}

std::uint64_t Inode::size() const {
  std::uint64_t size = raw.i_size;
  if (is_regular() || is_directory()) size |= static_cast<std::uint64_t>(raw.i_size_high) << 32;
  return size;
}

void Inode::set_size(std::uint64_t size) {
  raw.i_size = static_cast<std::uint32_t>(size);
  if (is_regular() || is_directory()) raw.i_size_high = static_cast<std::uint32_t>(size >> 32);
}

void Inode::set_owner(uid_t uid, gid_t gid) {
  raw.i_uid = static_cast<std::uint16_t>(uid);
  raw.i_uid_high = static_cast<std::uint16_t>(uid >> 16);
  raw.i_gid = static_cast<std::uint16_t>(gid);
  raw.i_gid_high = static_cast<std::uint16_t>(gid >> 16);
}

std::uint64_t Inode::xattr_block() const {
  return raw.i_file_acl | static_cast<std::uint64_t>(raw.osd2.linux2.l_i_file_acl_high) << 32;
}

std::uint32_t Inode::project(const ext2_super_block& super) const {
  const bool has_projects = (super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_PROJECT) != 0;
  return has_projects && holds(FUSE4FS_END_OF(i_projid)) ? raw.i_projid : 0;
}

dev_t Inode::device() const {
  if (!S_ISCHR(raw.i_mode) && !S_ISBLK(raw.i_mode)) return 0;
  if (raw.i_block[0] != 0) return makedev((raw.i_block[0] >> 8) & 0xff, raw.i_block[0] & 0xff);
  const std::uint32_t wide = raw.i_block[1];
  return makedev((wide & 0xfff00) >> 8, (wide & 0xff) | ((wide >> 12) & 0xfff00));
}

void Inode::set_device(dev_t device) {
  const std::uint32_t major = gnu_dev_major(device);
  const std::uint32_t minor = gnu_dev_minor(device);
  if (major < 256 && minor < 256) {
    raw.i_block[0] = major << 8 | minor;
    raw.i_block[1] = 0;
  } else {
    raw.i_block[0] = 0;
    raw.i_block[1] = (minor & 0xff) | (major << 8) | ((minor & ~0xffU) << 12);
  }
}

std::uint64_t Inode::sectors(const ext2_super_block& super, std::uint32_t block_size) const {
  std::uint64_t count = raw.i_blocks;
  if ((super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_HUGE_FILE) == 0) return count;
  count |= static_cast<std::uint64_t>(raw.osd2.linux2.l_i_blocks_hi) << 32;
  return has(EXT4_HUGE_FILE_FL) ? count * (block_size / 512) : count;
}

bool Inode::add_blocks(const ext2_super_block& super, std::uint32_t block_size, std::int64_t blocks) {
  const bool is_long = (super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_HUGE_FILE) != 0;
  std::int64_t count = raw.i_blocks;
  if (is_long) count |= static_cast<std::int64_t>(raw.osd2.linux2.l_i_blocks_hi) << 32;
  // In units of its own where it has the flag.
  count += is_long && has(EXT4_HUGE_FILE_FL) ? blocks : blocks * (block_size / 512);
  if (count < 0 || count >> (is_long ? 48 : 32) != 0) return false;
  raw.i_blocks = static_cast<std::uint32_t>(count);
  if (is_long) raw.osd2.linux2.l_i_blocks_hi = static_cast<std::uint16_t>(count >> 32);
  return true;
}

Timestamp Inode::accessed() const {
  return decode(raw.i_atime, holds(FUSE4FS_END_OF(i_atime_extra)), raw.i_atime_extra);
}
Timestamp Inode::modified() const {
  return decode(raw.i_mtime, holds(FUSE4FS_END_OF(i_mtime_extra)), raw.i_mtime_extra);
}
Timestamp Inode::changed() const {
  return decode(raw.i_ctime, holds(FUSE4FS_END_OF(i_ctime_extra)), raw.i_ctime_extra);
}
std::optional<Timestamp> Inode::created() const {
  if (!holds(FUSE4FS_END_OF(i_crtime))) return std::nullopt;
  return decode(raw.i_crtime, holds(FUSE4FS_END_OF(i_crtime_extra)), raw.i_crtime_extra);
}

void Inode::set_accessed(Timestamp time) {
  encode(time, holds(FUSE4FS_END_OF(i_atime_extra)), raw.i_atime, raw.i_atime_extra);
}
void Inode::set_modified(Timestamp time) {
  encode(time, holds(FUSE4FS_END_OF(i_mtime_extra)), raw.i_mtime, raw.i_mtime_extra);
}
void Inode::set_changed(Timestamp time) {
  encode(time, holds(FUSE4FS_END_OF(i_ctime_extra)), raw.i_ctime, raw.i_ctime_extra);
}
void Inode::set_created(Timestamp time) {
  if (holds(FUSE4FS_END_OF(i_crtime)))
    encode(time, holds(FUSE4FS_END_OF(i_crtime_extra)), raw.i_crtime, raw.i_crtime_extra);
}

void Inode::touch() {
  const Timestamp time = now();
  set_modified(time);
  set_changed(time);
  if (++raw.osd1.linux1.l_i_version == 0 && holds(FUSE4FS_END_OF(i_version_hi))) ++raw.i_version_hi;
}

void Inode::touch_changed() {
  set_changed(now());
  if (++raw.osd1.linux1.l_i_version == 0 && holds(FUSE4FS_END_OF(i_version_hi))) ++raw.i_version_hi;
}

void Inode::clear_privileges() {
  if (is_directory()) return;
  raw.i_mode &= static_cast<std::uint16_t>(~S_ISUID);
  if ((raw.i_mode & S_IXGRP) != 0) raw.i_mode &= static_cast<std::uint16_t>(~S_ISGID);
}

}  // namespace fuse4fs::ext4
