// SPDX-License-Identifier: GPL-2.0-or-later
// The server's options, from the arguments that the helper handed over.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace fuse4fs::service {

// File I/O that the kernel does by itself: as it offers it; it must; it must not.
enum class IomapOption { kIfOffered, kRequired, kRefused };
enum class ErrorsOption { kContinue, kRemountReadOnly, kPanic };

inline constexpr unsigned kLongestCommit = 86'400;  // a day
// As ext4's.
inline constexpr unsigned kDefaultInitPause = 10;
inline constexpr unsigned kLongestInitPause = 1'000'000;

struct Options {
  std::string subtype;  // argument 0
  std::string source;   // the device, as the helper opened it: /dev/sdb1, /dev/loop0
  std::string mount_point;
  bool read_only = false;       // what the user asked for, whatever device and volume allow
  bool ignore_journal = false;  // noload, norecovery
  std::string journal_path;     // journal_path=: the device of an external journal; empty: none was named
  bool no_acls = false;         // noacl
  bool discard = false;         // discard: freed blocks are handed back to the device
  // init_itable=N: unused parts of inode tables get their zeros, with pauses of N times the work; none:
  // noinit_itable
  std::optional<unsigned> init_itable = kDefaultInitPause;
  std::optional<ErrorsOption> errors;     // errors=; panic ends the server's service, never the machine
  std::optional<unsigned> threads;        // threads=N, 1 to 64
  std::optional<std::size_t> cache_size;  // cache_size=, bytes, kLeastCache to kLargestCache
  std::optional<unsigned> commit;         // commit=N, seconds, 1 to kLongestCommit; commit=0 is the default
  bool id_mapped_mounts = false;          // idmap: copies of the mount may translate user and group ids
  IomapOption iomap = IomapOption::kIfOffered;  // iomap, noiomap
  bool debug = false;                           // debug: log each request
  // What is passed on to the kernel's mount (OPTS) and as MS_* flags (DOIT).
  std::vector<std::string> kernel_options;
  unsigned long mount_flags = 0;
};

// `arguments` is subtype, source, mount point and any number of "-o LIST" or "-oLIST", in any order after the
// first. Of options that contradict each other the last one counts, as with mount(8).
// EINVAL for an option that the server does not know, by name: the helper has sorted out everything else
// before.
Outcome<Options> parse_options(const std::vector<std::string>& arguments);

}  // namespace fuse4fs::service
