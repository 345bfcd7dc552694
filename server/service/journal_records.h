// SPDX-License-Identifier: GPL-2.0-or-later
// One record of the journal, in the native protocol of systemd-journald: one datagram.
//
// Source of the format: systemd's documentation "Native Journal Protocol". A field is KEY=value and a
// newline; where the value has bytes below the blank (a newline above all) it is KEY, a newline, its length
// as 64 bits, little endian, the value and a newline: so a name on a volume can forge no field.
#pragma once

#include <string>
#include <string_view>

#include "base/log.h"

namespace fuse4fs::service {

// What all records of one mount have in common, as it is, whatever bytes it has.
struct JournalOrigin {
  std::string device;       // FUSE4FS_DEVICE, and DEVICE for the catalog, whose @FIELDS@ have no digits
  std::string mount_point;  // FUSE4FS_MOUNT_POINT, and WHERE, which systemd's own records have as well
};

// MESSAGE is at most kLongestMessage bytes of `message`: a record must fit into the socket's buffer.
inline constexpr std::size_t kLongestMessage = 16 << 10;
std::string journal_record(LogLevel level, std::string_view message, const LogDetails& details,
                           const JournalOrigin& origin);

}  // namespace fuse4fs::service
