// SPDX-License-Identifier: GPL-2.0-or-later
// What a server may have opened for it. Decides only; file_opener.h opens.
//
// The server that asks has parsed hostile blocks already: what is not on this list is EACCES, and no right
// goes beyond what the user of mount(8) asked for.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "helper/loop_device.h"
#include "protocol/messages.h"

namespace fuse4fs::helper {

enum class Trust {
  kOwnServer,       // fuse4fs: its device and the reserved names
  kPlainService,    // another service: its device, whose claim it takes itself
  kTrustedService,  // -o trusted-service: any path, too
};

struct OpenVerdict {
  enum class What { kDevice, kLog, kClone, kAnyPath } what = What::kDevice;
  int flags = 0;  // O_*, as the file is to be opened (kDevice, kAnyPath)
  friend bool operator==(const OpenVerdict&, const OpenVerdict&) = default;
};

class OpenPolicy {
 public:
  // `source`: the name of the device in the server's arguments.
  OpenPolicy(Trust trust, std::string source, Access access)
      : trust_(trust), source_(std::move(source)), access_(access) {}

  // EACCES for what may not be, EROFS for writing to a device that was asked for or is read-only, EOPNOTSUPP
  // for a reserved name that this helper has nothing to give for, EINVAL for a block size that no device has.
  [[nodiscard]] Result<OpenVerdict> judge(const protocol::OpenFile& request) const;
  [[nodiscard]] Result<OpenVerdict> judge(const protocol::OpenBlockDevice& request) const;

 private:
  [[nodiscard]] Result<OpenVerdict> judge_device(std::uint32_t flags) const;
  [[nodiscard]] Result<OpenVerdict> judge_any_path(const std::string& path, std::uint32_t flags) const;

  Trust trust_;
  std::string source_;
  Access access_;
};

// 0 (leave it) or a power of two from 512 to the page size.
bool is_block_size(std::uint32_t size);

}  // namespace fuse4fs::helper
