// SPDX-License-Identifier: GPL-2.0-or-later
// One inode as it lies on the volume, with its fields joined from their halves.
//
// A value: read by InodeTable, changed, written back by it. No lock of its own.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "server/ext4/ext2.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

// Of hard links to one inode (EXT4_LINK_MAX of the kernel).
inline constexpr std::uint32_t kMostLinks = 65000;

// What inodes can hold: 32 bits of seconds, and two more where they are wide enough for the other half of a
// stamp.
struct TimeLimits {
  std::int64_t first = 0, last = 0;  // seconds since 1970
};
constexpr TimeLimits time_limits(bool wide) {
  return {.first = INT32_MIN, .last = wide ? (std::int64_t{3} << 32) + INT32_MAX : std::int64_t{INT32_MAX}};
}

Timestamp now();
// Of all stamps of this process. kCoarse: as the kernel's own, so that who sets some beside it never goes
// back.
enum class StampClock { kFine, kCoarse };
void set_stamp_clock(StampClock clock);

// How long a new inode's fields are beyond the first 128 bytes; i_extra_isize.
std::uint16_t extra_size_of_new_inodes(ext2_super_block& super);

class Inode {
 public:
  InodeNumber number = 0;
  ext2_inode_large raw{};
  // Who asks for blocks of it, where that is known; else it is as if its owner did.
  std::optional<Caller> caller = std::nullopt;
  // What lies in i_block of its map, and its block of attributes, are in use as far as the bitmaps say.
  bool found_in_use = false;

  // libext2fs's short view of the same bytes.
  [[nodiscard]] ext2_inode* brief() { return reinterpret_cast<ext2_inode*>(&raw); }
  // As they lie on the volume, which may have fewer or more of them.
  [[nodiscard]] std::span<const std::byte> bytes() const { return std::as_bytes(std::span(&raw, 1)); }
  [[nodiscard]] std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(&raw, 1)); }

  [[nodiscard]] mode_t mode() const { return raw.i_mode; }
  [[nodiscard]] bool is_directory() const { return S_ISDIR(raw.i_mode); }
  [[nodiscard]] bool is_regular() const { return S_ISREG(raw.i_mode); }
  [[nodiscard]] bool is_symlink() const { return S_ISLNK(raw.i_mode); }
  [[nodiscard]] bool has(std::uint32_t flag) const { return (raw.i_flags & flag) != 0; }
  [[nodiscard]] bool has_blocks_map() const;  // i_block is a map, not a target, a device or inline data

  [[nodiscard]] std::uint64_t size() const;
  void set_size(std::uint64_t size);
  [[nodiscard]] uid_t uid() const { return raw.i_uid | static_cast<uid_t>(raw.i_uid_high) << 16; }
  [[nodiscard]] gid_t gid() const { return raw.i_gid | static_cast<gid_t>(raw.i_gid_high) << 16; }
  void set_owner(uid_t uid, gid_t gid);
  [[nodiscard]] std::uint64_t xattr_block() const;
  // 0 where the volume or the inode has no room for it.
  [[nodiscard]] std::uint32_t project(const ext2_super_block& super) const;
  [[nodiscard]] dev_t device() const;
  void set_device(dev_t device);

  // In 512 bytes.
  [[nodiscard]] std::uint64_t sectors(const ext2_super_block& super, std::uint32_t block_size) const;
  // In whole blocks more or less. False, and as it was, where the field cannot hold that.
  [[nodiscard]] bool add_blocks(const ext2_super_block& super, std::uint32_t block_size, std::int64_t blocks);

  [[nodiscard]] Timestamp accessed() const;
  [[nodiscard]] Timestamp modified() const;
  [[nodiscard]] Timestamp changed() const;
  [[nodiscard]] std::optional<Timestamp> created() const;  // none where the inode is too short
  void set_accessed(Timestamp time);
  void set_modified(Timestamp time);
  void set_changed(Timestamp time);
  void set_created(Timestamp time);
  // Content changed: modified and changed are now, the version counts on.
  void touch();
  // Only metadata did.
  void touch_changed();

  // setuid, and setgid where the group may execute, go.
  void clear_privileges();

 private:
  // Whether the inode is long enough to hold the bytes up to `end`.
  [[nodiscard]] bool holds(std::size_t end) const { return raw.i_extra_isize + std::size_t{128} >= end; }
};

}  // namespace fuse4fs::ext4
