// SPDX-License-Identifier: GPL-2.0-or-later
// Where the server's log lines go: to the user who mounts, through the helper, until the mount serves; and to
// the descriptor that the helper gave for good (a file, the kernel log, a socket of systemd's journal).
//
// Installed as the log writer of base/log.h, which calls it from one thread at a time. It never waits: the
// journal may lie on the very mount that this server serves. What there is no room for is left out and
// counted, and so are lines beyond the limit; the next line that gets through says how many. Lines of level
// debug, which a user asked for, have no limit.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/unique_fd.h"
#include "server/service/journal_records.h"
#include "server/service/line_limit.h"

namespace fuse4fs::service {

class LogOutput {
 public:
  // `origin` names the volume in lines that many mounts share: "/dev/sdb1 on /mnt".
  LogOutput(UniqueFd lasting, JournalOrigin origin);

  void write(LogLevel level, std::string_view line, const LogDetails& details = {}) {
    write_at(LineLimit::TimePoint::clock::now(), level, line, details);
  }
  // The same at a time of the caller's, for tests.
  void write_at(LineLimit::TimePoint now, LogLevel level, std::string_view line, const LogDetails& details);
  // The helper leaves, and standard error with it. Without a lasting descriptor standard error is kept.
  void forget_standard_error();

  [[nodiscard]] int fd() const { return lasting_.get(); }

 private:
  enum class Kind { kNone, kFile, kKernelLog, kJournal };
  static Kind kind_of(int descriptor);
  // False if there was no room for it.
  bool pass_on(LogLevel level, std::string_view line, const LogDetails& details);

  UniqueFd lasting_;
  const Kind kind_;
  const JournalOrigin origin_;
  const std::string about_;
  std::atomic<bool> to_standard_error_ = true;
  // Far above what a mount has to say, and some 10 MB a day at the most.
  LineLimit limit_{200, std::chrono::seconds(60)};
};

}  // namespace fuse4fs::service
