// SPDX-License-Identifier: GPL-2.0-or-later
// The helper's side of the conversation after the greeting: judges and carries out one command after the
// other.
//
// States: commands may come in any order before DOIT, TYPE, NAME, MNTP, OPTS, MTAB and DOIT once each, IOMA
// before TYPE; files may be asked for until BYEE. A packet that is no command ends the session; a command
// that may not be is answered by its error. The server is hostile: no command gives it more than its own
// mount, with the flags that the user chose.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "helper/file_opener.h"
#include "helper/fs_context.h"
#include "helper/fuse_mount.h"
#include "protocol/channel.h"

namespace fuse4fs::helper {

struct SessionRules {
  Trust trust = Trust::kOwnServer;
  std::string source;       // as in the server's arguments
  std::string mount_point;  // as in the server's arguments
  unsigned long flags = 0;  // MS_*: what the user asked for, which the server may only narrow
  std::string type = {};    // subtype, as in the server's arguments
  // Whether /dev/fuse is blessed for iomap, or why it is not (iomap_blessing.h): what IOMA is told.
  Outcome<void> iomap = fail(Errno(EPERM), "/dev/fuse was not blessed");
  // Whether the kernel knows a mount option of FUSE.
  std::function<bool(const char* key, const std::string& value)> kernel_takes =
      [](const char* key, const std::string& value) { return takes_option("fuse", key, value); };
};

class CommandSession {
 public:
  using MountAction = std::function<Outcome<void>(const MountRequest&)>;
  // Returns when the channel has something to read (or has ended), or with the error that ends the session.
  using Wait = protocol::HelperEnd::Wait;

  CommandSession(SessionRules rules, FileOpener& opener, MountAction mount)
      : rules_(std::move(rules)), opener_(opener), mount_(std::move(mount)) {}

  // Until BYEE: its exit code; or the channel's error (ECONNRESET: the server is gone without a goodbye),
  // that of `wait`, E2BIG when there is no end of commands, or that of an IOMA that was refused.
  Result<std::uint32_t> run(protocol::HelperEnd& end, const Wait& wait);

  [[nodiscard]] bool mounted() const { return state_ == State::kMounted; }
  // Why DOIT, or an IOMA that the service does not do without, failed, if one did.
  [[nodiscard]] const std::optional<Failure>& failure() const { return failure_; }

 private:
  enum class State { kPreparing, kMounted, kMountFailed };

  Result<void> answer(protocol::HelperEnd& end, const protocol::Command& command);
  template <class Request>
  Result<void> answer_open(protocol::HelperEnd& end, const Request& request);
  Result<void> answer_iomap(protocol::HelperEnd& end, const protocol::RequestIomap& command);
  Result<void> carry_out(const protocol::OpenFsContext& command);
  Result<void> carry_out(const protocol::SetSource& command);
  Result<void> carry_out(const protocol::SetMountOptions& command);
  Result<void> carry_out(const protocol::SetMountPoint& command);
  Result<void> carry_out(const protocol::SetMtabOptions& command);
  Result<void> carry_out(const protocol::Mount& command);
  Result<void> take_option(std::string_view option, MountRequest& request) const;

  SessionRules rules_;
  FileOpener& opener_;
  MountAction mount_;
  State state_ = State::kPreparing;
  MountRequest request_;
  bool type_known_ = false;
  bool source_known_ = false;
  bool mount_point_known_ = false;
  bool options_known_ = false;
  bool mtab_known_ = false;
  int complaints_ = 0;  // of refused files, shown to the user
  std::optional<Failure> failure_;
};

}  // namespace fuse4fs::helper
