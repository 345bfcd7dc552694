// SPDX-License-Identifier: GPL-2.0-or-later
// Opens for the server what the policy allows.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "helper/datagram_sockets.h"
#include "helper/open_policy.h"
#include "helper/source.h"

namespace fuse4fs::helper {

// Opens the file of -o log=: append only, made with mode 0600 where it is absent, never through a symbolic
// link in the last place, regular.
Outcome<UniqueFd> open_log_file(const std::string& path);

// What there is to give beside the source. The borrowed ones must outlive the opener.
struct Belongings {
  int fuse_device = -1;             // borrowed
  UniqueFd log_file;                // empty: journald, or else the kernel's log
  const Source* journal = nullptr;  // borrowed; the device of journal_path=, claimed. Null: none was named
  // The manager's socket: empty for a server that is no service of its.
  std::string notify_socket;
  std::string journal_socket = kJournalSocket;
  // Pressure files to watch, one an answer; those that cannot be had are passed over.
  std::vector<std::string> pressure_files = {};
};

class FileOpener {
 public:
  FileOpener(OpenPolicy policy, const Source& source, Belongings belongings)
      : policy_(std::move(policy)), source_(source), belongings_(std::move(belongings)) {}

  Result<UniqueFd> open(const protocol::OpenFile& request);
  Result<UniqueFd> open(const protocol::OpenBlockDevice& request);

 private:
  Result<UniqueFd> open_allowed(const OpenVerdict& verdict, const std::string& path);
  Result<UniqueFd> open_journal_device(int flags) const;
  Result<UniqueFd> open_log();
  Result<UniqueFd> open_notify();
  Result<UniqueFd> open_pressure();
  Result<UniqueFd> open_clone();

  OpenPolicy policy_;
  const Source& source_;
  Belongings belongings_;
  DatagramSockets sockets_;
  int logs_ = 0;
  int notifiers_ = 0;
  std::size_t pressure_files_ = 0;  // so many of them were tried
  int clones_ = 0;
};

}  // namespace fuse4fs::helper
