// SPDX-License-Identifier: GPL-2.0-or-later
// mount.fuse4fs's command line, as mount(8) and people write it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "helper/mount_options.h"

namespace fuse4fs::helper {

enum class Action { kMount, kRemount, kAbort, kStop, kShowText };

struct CommandLine {
  Action action = Action::kMount;
  std::string text;              // kShowText: what to print (--help, --version)
  std::string source;            // as written
  std::string mount_point;       // as written; the directory of --abort and --stop
  std::string type = "fuse4fs";  // subtype: "fuse." and "fuseblk." are taken off
  MountOptions options;
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
