// SPDX-License-Identifier: GPL-2.0-or-later
// The -o lists of the command line, sorted into what the kernel, the server and the helper do about them.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fuse4fs::helper {

enum class Purpose { kMount, kRemount };
// -s: an unknown option is left out rather than refused.
enum class UnknownOptions { kRefused, kLeftOut };
// A service that is not ours has options of its own: what is not the VFS's goes to it unjudged.
enum class Vocabulary { kFuse4fs, kForeignService };
enum class BdiTuning { kTune, kKeep };
// What the user wants of the kernel's own I/O on the device (iomap).
enum class IomapWish { kIfOffered, kRequired, kRefused };

// MS_LAZYTIME: newer than the C library's list. It is for mounts whose times the kernel keeps: elsewhere it
// is left out, with this remark.
inline constexpr unsigned long kLazyTime = 1UL << 25;
inline constexpr std::string_view kNoLazyTime =
    "option \"lazytime\" has no effect: without iomap, times are written with the rest of the metadata, "
    "every "
    "few seconds";

struct MountOptions {
  unsigned long flags = 0;      // MS_*, without MS_REMOUNT
  unsigned long mentioned = 0;  // the MS_* bits that any option set or cleared
  Purpose purpose = Purpose::kMount;
  // As they were written: what a remount cannot change.
  std::vector<std::string> for_new_mounts;
  std::vector<std::string> for_server;  // beside what server_options() makes of the flags
  std::string log_file;                 // absolute; empty: none
  BdiTuning bdi = BdiTuning::kTune;
  IomapWish iomap = IomapWish::kIfOffered;
  bool trusted_service = false;
  std::string service;  // absolute; empty: the usual one, if it is there
  bool standalone = false;
  std::chrono::seconds start_timeout{900};
  std::string journal_path;  // as for the source: a path or a tag; empty: the journal is on the volume
  bool no_fail = false;
  std::string user;                  // user=NAME
  std::vector<std::string> remarks;  // for -v: what was left out, and why
};

struct OptionRules {
  UnknownOptions unknown = UnknownOptions::kRefused;
  Vocabulary vocabulary = Vocabulary::kFuse4fs;
};

// `lists`: the value of each -o, in order; the last word on a subject counts. A value may stand in double
// quotes, and may then hold commas. EINVAL, with the option's name and a reason, for what is refused.
Outcome<MountOptions> parse_mount_options(const std::vector<std::string>& lists, const OptionRules& rules);

// The options that the server is started with, without "-o", joined by commas; empty if there are none.
std::string server_options(const MountOptions& options);

// The names of the MS_* flags that differ from the default ("ro,nosuid"); empty if none does.
std::string flag_names(unsigned long flags);

// The flag of a name as /proc/self/mountinfo prints it.
std::optional<unsigned long> flag_of_name(std::string_view name);

}  // namespace fuse4fs::helper
