// SPDX-License-Identifier: GPL-2.0-or-later
// What a helper leaves behind about its mount, for the one that will stop it: /run/fuse4fs/mounts.
//
// One file a superblock, named by the device number of the mount (7:3), lines of KEY=VALUE; bytes that are
// not printable ASCII, blanks and backslashes are \xNN. The directory is root's alone. A file is made under
// another name and renamed; every change is made under flock(2) of the directory, so that one helper's
// clearing up never takes away another's new record. Nothing in it comes from the server but its process
// number, for which the kernel vouches.
//
// A device number is in use as long as the mount is, so a record can be stale but never another mount's: who
// mounts the number anew replaces it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "helper/process_identity.h"

namespace fuse4fs::helper {

struct MountRecord {
  dev_t device = 0;                  // of the mount: with fuseblk that of the block device
  std::string source;                // as server and kernel know it: /dev/loop3
  std::string origin;                // as the user wrote it
  std::string mount_point;           // the first one, canonical, in `name_space`
  std::uint64_t mount_id = 0;        // of statx(2), unique where the kernel has such
  std::uint64_t name_space = 0;      // inode number of its mount namespace
  std::uint64_t pid_name_space = 0;  // inode number of the pid namespace in which `server` counts; 0: unknown
  ProcessIdentity server;
  std::string unit;  // the server's systemd service; empty: standalone
  std::string user;  // for whom mount(8) mounted it (user=NAME); empty: root
  uid_t owner = 0;   // user_id= of the mount: for whom the users' service mounted it; 0: root
  friend bool operator==(const MountRecord&, const MountRecord&) = default;
};

std::string encode(const MountRecord& record);
// EBADMSG for what encode() never makes. Unknown keys are skipped.
Result<MountRecord> decode_record(std::string_view text);

inline constexpr char kRecordDirectory[] = "/run/fuse4fs/mounts";

class RecordDirectory {
 public:
  // Makes what is absent of the last two parts of the path. EPERM unless both are root's and nobody else may
  // write to the first, or do anything with the second.
  static Result<RecordDirectory> open(const std::string& path = kRecordDirectory);

  // Replaces an older one of that device.
  Result<void> write(const MountRecord& record);
  Result<MountRecord> read(dev_t device) const;
  // All that can be read.
  [[nodiscard]] std::vector<MountRecord> all() const;
  // Those of servers that live.
  [[nodiscard]] std::vector<MountRecord> living() const;
  // Only if it is still of this server; no error if it is not there.
  void remove(const MountRecord& record);
  // A file for locks of the users' service (user_mount_claim.h).
  Result<UniqueFd> open_claims() const;
  // Takes away the records of mounts that are gone (is_stale()), and what a killed helper left of one.
  void remove_stale();

 private:
  explicit RecordDirectory(UniqueFd directory) : directory_(std::move(directory)) {}
  // Of all files, whatever they are.
  [[nodiscard]] std::vector<std::string> names() const;
  Result<MountRecord> read_file(const std::string& name) const;

  UniqueFd directory_;
};

// Its server has ended, and nothing of that device and type is mounted here. (A server that was killed leaves
// its mount behind, and that its record. In another mount namespace such a mount is not looked for; of a
// server in another pid namespace nobody can say whether it has ended.)
bool is_stale(const MountRecord& record);

// Of this process's thread; 0 if /proc is not there.
std::uint64_t own_mount_namespace();
std::uint64_t own_pid_namespace();

}  // namespace fuse4fs::helper
