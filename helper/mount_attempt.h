// SPDX-License-Identifier: GPL-2.0-or-later
// One attempt to mount, from the first word to the server until it serves, with all that has to be undone if
// it fails.
//
// Whatever the server does, and whenever SIGINT, SIGTERM or SIGHUP comes: run() ends within the
// start-timeout, and if it fails, then mount, record and (if it is this program's to end) server are gone.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "helper/command_line.h"
#include "helper/fuse_mount.h"
#include "helper/interruption.h"
#include "helper/mount_point.h"
#include "helper/mount_record.h"
#include "helper/open_policy.h"
#include "helper/server_process.h"
#include "helper/server_words.h"
#include "helper/source.h"
#include "protocol/arguments.h"
#include "protocol/channel.h"

namespace fuse4fs::helper {

// Who the kernel's mount is given to.
MountOwner owner_of(const CommandLine& line);

// All that was opened for the mount. The references must outlive the attempt.
struct MountPlan {
  const CommandLine& line;
  MountOptions options;  // those of the line, and what the devices made of them
  Source& source;
  const Source* journal = nullptr;  // the device of journal_path=
  const MountPoint& mount_point;
  UniqueFd fuse_device;
  Outcome<void> iomap;  // whether it is blessed, or why it is not
  UniqueFd log_file;
};

class MountAttempt {
 public:
  explicit MountAttempt(MountPlan plan);

  // Once. The words of a Failure say what is not mounted where, and why.
  Outcome<void> run();

 private:
  // The other end, from wherever it comes.
  struct Server {
    UniqueFd socket;
    std::optional<ServerProcess> process;  // only if the helper started it
    UniqueFd words;
  };

  [[nodiscard]] Outcome<Server> reach_server() const;
  Outcome<protocol::HelperEnd> greet(Server& server);
  Outcome<void> converse(Server& server, ServerWords& words);
  void write_record(int mount);
  void undo(Server& server, Failure& failure, ServerWords& words);
  void end_service() const;
  void tune() const;
  [[nodiscard]] Trust trust() const;
  [[nodiscard]] protocol::Arguments arguments() const;
  [[nodiscard]] std::string words_for(Errno error) const;
  [[nodiscard]] std::unexpected<Failure> not_mounted(Errno error, std::string_view why) const;

  MountPlan plan_;
  FuseMount mount_;
  std::chrono::steady_clock::time_point deadline_;
  // Known after the greeting.
  ProcessIdentity server_;
  std::string unit_;
  // Opened before any other mount namespace is entered.
  std::optional<RecordDirectory> records_;
  std::optional<MountRecord> record_;  // written
  Interruption interruption_;
};

}  // namespace fuse4fs::helper
