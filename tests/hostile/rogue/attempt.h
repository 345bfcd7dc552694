// SPDX-License-Identifier: GPL-2.0-or-later
// The table of what a taken-over server tries: one row an attempt, one file a theme.
//
// The server's place (rogue.cc) runs one attempt a process and records what came of it; the runner
// (runner.cc), which links the same table, starts them through the real helper, judges, and makes the table
// of docs/security.md.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "server/service/options.h"

namespace fuse4fs::rogue {

// What the attacker holds once it has the process: what the server held.
struct Place {
  int socket = -1;    // to the helper
  int fuse = -1;      // /dev/fuse
  int device = -1;    // the device, through the page cache
  int direct = -1;    // the same with O_DIRECT, or -1
  int log = -1;       // the log file
  int notify = -1;    // systemd's notify socket, connected; -1 where the server is not a service
  int pressure = -1;  // the machine's memory pressure, to poll; -1 where the kernel tells none
  const service::Options* options = nullptr;

  // A line into the record, which is the log: the runner waits for it.
  void note(std::string_view words) const;
  std::string_view attempt;  // its name
};

// What came of it, as the attacker sees it. A process that the filter killed cannot say so: the runner finds
// that.
struct Verdict {
  enum class Kind {
    kErrno,      // the kernel refused
    kRefused,    // the helper answered with an error
    kEnded,      // the helper ended the conversation
    kSucceeded,  // it worked
  };
  Kind kind = Kind::kSucceeded;
  int error = 0;      // kErrno, kRefused
  std::string words;  // of success: what was reached
};

// By the result of a system call: negative is errno, all else is success.
Verdict by_errno(long result, std::string_view success = "");
Verdict refused_with(int error);
inline Verdict conversation_ended() { return {Verdict::Kind::kEnded, 0, {}}; }
inline Verdict succeeded(std::string words) { return {Verdict::Kind::kSucceeded, 0, std::move(words)}; }

// What must come of it for the attempt to count as stopped.
enum class Expected {
  kKilled,   // by the system-call filter
  kErrno,    // refused by the kernel
  kRefused,  // refused by the helper in an answer
  kEnded,    // the helper breaks off: nothing is mounted
  kAllowed,  // works, harms its own mount only: docs/security.md tells of it
};

// What stands behind the layer that stops it first.
struct Behind {
  std::string_view layers;
  enum class Alone { kNo, kYes } alone = Alone::kNo;
};
// Without the filter the attempt fails as well, because of these.
constexpr Behind behind(std::string_view layers) { return {layers, Behind::Alone::kNo}; }
// Nothing: without the filter it would be possible, and this is what would be gained.
constexpr Behind filter_alone(std::string_view gain) { return {gain, Behind::Alone::kYes}; }

// How the runner's own look at the mount ended, for attempts that mount.
struct Outside {
  std::string mount_point;
  std::string record;  // the file
  std::string helper;  // the program
};

struct Attempt {
  const char* name;  // letters, digits, underscores: also the name of its mount point
  const char* what;  // for people
  Verdict (*run)(Place&);
  Expected expected = Expected::kKilled;
  Behind behind{};
  const char* options = "";  // of the mount, beside log=
  Verdict (*outside)(const Outside&) =
      nullptr;  // runs beside the mount, if it was made, and has the last word
};

struct Theme {
  const char* title;
  std::span<const Attempt> attempts;
};

std::span<const Theme> themes();
const Attempt* find_attempt(std::string_view name);

// One for each file.
extern const Theme kNames, kDescriptors, kProcesses, kRights, kMounts, kSockets, kMemory, kKernelDoors,
    kIoctls, kLog, kHelperOpens, kHelperMounts, kHelperPackets, kServing;

}  // namespace fuse4fs::rogue
