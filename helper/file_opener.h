// SPDX-License-Identifier: GPL-2.0-or-later
// Opens for the server what the policy allows.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "helper/open_policy.h"
#include "helper/source.h"

namespace fuse4fs::helper {

// Opens the file of -o log=: append only, made with mode 0600 where it is absent, never through a symbolic
// link in the last place, regular.
Outcome<UniqueFd> open_log_file(const std::string& path);

class FileOpener {
 public:
  // `log_file`: empty if the kernel's log is to be used. `fuse_device`: borrowed. Both references must
  // outlive this.
  FileOpener(OpenPolicy policy, const Source& source, int fuse_device, UniqueFd log_file)
      : policy_(std::move(policy)),
        source_(source),
        fuse_device_(fuse_device),
        log_file_(std::move(log_file)) {}

  Result<UniqueFd> open(const protocol::OpenFile& request);
  Result<UniqueFd> open(const protocol::OpenBlockDevice& request);

 private:
  Result<UniqueFd> open_allowed(const OpenVerdict& verdict, const std::string& path) const;
  Result<UniqueFd> open_log() const;
  Result<UniqueFd> open_clone();

  OpenPolicy policy_;
  const Source& source_;
  int fuse_device_;
  UniqueFd log_file_;
  int clones_ = 0;
};

}  // namespace fuse4fs::helper
