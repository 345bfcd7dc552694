// SPDX-License-Identifier: GPL-2.0-or-later
// What a server may have opened for it. Decides only; file_opener.h opens.
//
// The server that asks has parsed hostile blocks already: what is not on this list is EACCES, and no right
// goes beyond what the user of mount(8) asked for.
#pragma once

#include <cstdint>
#include <optional>
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
  enum class What {
    kDevice,
    kJournalDevice,
    kLog,
    kNotify,
    kPressure,
    kClone,
    kAnyPath
  } what = What::kDevice;
  int flags = 0;  // O_*, as the file is to be opened (the devices, kAnyPath)
  friend bool operator==(const OpenVerdict&, const OpenVerdict&) = default;
};

// A block device that the user named, and what of it the mount may use.
struct NamedDevice {
  std::string path;  // as in the server's arguments
  Access access = Access::kReadOnly;
};

class OpenPolicy {
 public:
  // `journal`: the device of journal_path=, for our own server.
  OpenPolicy(Trust trust, std::string source, Access access, std::optional<NamedDevice> journal = {})
      : trust_(trust), source_{.path = std::move(source), .access = access}, journal_(std::move(journal)) {}

  // EACCES for what may not be, EROFS for writing to a device that was asked for or is read-only, EOPNOTSUPP
  // for a reserved name that this helper has nothing to give for, EINVAL for a block size that no device has.
  [[nodiscard]] Result<OpenVerdict> judge(const protocol::OpenFile& request) const;
  [[nodiscard]] Result<OpenVerdict> judge(const protocol::OpenBlockDevice& request) const;

 private:
  [[nodiscard]] Result<OpenVerdict> judge_path(const std::string& path, std::uint32_t flags) const;
  [[nodiscard]] Result<OpenVerdict> judge_device(OpenVerdict::What what, Access access,
                                                 std::uint32_t flags) const;
  [[nodiscard]] Result<OpenVerdict> judge_any_path(const std::string& path, std::uint32_t flags) const;

  Trust trust_;
  NamedDevice source_;
  std::optional<NamedDevice> journal_;
};

// 0 (leave it) or a power of two from 512 to the page size.
bool is_block_size(std::uint32_t size);

}  // namespace fuse4fs::helper
