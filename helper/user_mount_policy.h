// SPDX-License-Identifier: GPL-2.0-or-later
// What an ordinary user may have mounted, and with which options. Pure: decides on what others have read.
//
// The rules are those of mount(8) of util-linux for the fstab words user, users, owner and group, with two
// differences: nosuid and nodev stay, whatever the line says, and a source or a directory is the one that is
// written in the line, never what a symbolic link makes of it (user_mount_service.h opens them so). The
// line's options are used, not the user's, who may only take away.
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace fuse4fs::helper {

struct Person {
  uid_t user = 0;
  gid_t group = 0;
  std::vector<gid_t> groups;  // supplementary

  [[nodiscard]] bool is_in(gid_t wanted) const;
};

// A line of fstab. The fields are as written, but without the octal escapes.
struct FstabLine {
  std::string source;
  std::string target;
  std::string type;
  std::string options;
};

struct UserWish {
  std::string source;   // from the root, links followed: /dev/sdb1, /srv/image
  std::string target;   // from the root, links followed
  std::string options;  // as in -o; may be empty
};

// Who owns the node of a source below /dev. No other source has an owner that counts.
struct DeviceOwner {
  uid_t user = 0;
  gid_t group = 0;
};

// The line that the wish means: its target as written, and a source that means the same thing now. `resolve`:
// what a source as written in fstab means, empty if nothing.
template <class Resolve>
const FstabLine* find_line(std::span<const FstabLine> lines, const UserWish& wish, Resolve resolve) {
  const auto without_slashes = [](std::string path) {
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    return path;
  };
  for (const FstabLine& line : lines)
    if (without_slashes(line.target) == wish.target && resolve(line.source) == wish.source) return &line;
  return nullptr;
}

// The options to mount with, if the line gives `person` the right. EPERM, with words, if it does not, or if
// the wish wants more than the line gives.
Outcome<std::string> options_by_fstab(const FstabLine& line, const Person& person,
                                      const std::optional<DeviceOwner>& owner, const std::string& wished);

// The options to mount with where an administrator is asked instead: those that give nobody anything.
Outcome<std::string> options_by_consent(const std::string& wished);

}  // namespace fuse4fs::helper
