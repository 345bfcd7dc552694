// SPDX-License-Identifier: GPL-2.0-or-later
// mount.fuse4fs's command line, as mount(8) and people write it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "helper/mount_options.h"
#include "helper/mount_place.h"

namespace fuse4fs::helper {

enum class Action { kMount, kRemount, kAbort, kStop, kServeUser, kShowText };

// For whom root mounts, where user_mount_service.h has judged an ordinary user's wish.
struct OnBehalf {
  uid_t user = 0;  // user_id= and group_id= of the mount
  gid_t group = 0;
  // O_PATH, borrowed: what was judged, whatever the paths lead to by now.
  int source = -1;
  int directory = -1;
  std::optional<MountIdentity> mount = {};  // kStop: the one
};

struct CommandLine {
  Action action = Action::kMount;
  std::string text;              // kShowText: what to print (--help, --version)
  std::string source;            // as written
  std::string mount_point;       // as written; the directory of --abort and --stop
  std::string type = "fuse4fs";  // subtype: "fuse." and "fuseblk." are taken off
  MountOptions options;
  std::string option_text;  // the lists of -o as written, commas between them; -r and -w among them
  std::optional<OnBehalf> on_behalf;
  std::string unit;              // --stop: the server's unit
  pid_t server = 0;              // --stop: its process
  bool lazy = false;             // --stop: at once, whoever uses it still
  std::string name_space;        // -N: a path, or a process number; empty: this one
  bool verbose = false;          // -v
  bool fake = false;             // -f
  bool demand_writable = false;  // -w: no falling back to read-only
};

inline constexpr std::string_view kOwnType = "fuse4fs";

// EINVAL with words for a wrong call.
Outcome<CommandLine> parse_command_line(const std::vector<std::string>& arguments);

}  // namespace fuse4fs::helper
