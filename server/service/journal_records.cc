// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/journal_records.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace fuse4fs::service {
namespace {

void add(std::string& record, std::string_view key, std::string_view value) {
  record += key;
  if (std::ranges::all_of(value, [](char byte) { return static_cast<unsigned char>(byte) >= ' '; })) {
    record += '=';
  } else {
    record += '\n';
    for (unsigned shift = 0; shift < 64; shift += 8)
      record += static_cast<char>(std::uint64_t{value.size()} >> shift & 0xff);
  }
  record += value;
  record += '\n';
}

void add_number(std::string& record, std::string_view key, std::uint64_t value) {
  if (value != 0) add(record, key, fmt::format("{}", value));
}

}  // namespace

std::string journal_record(LogLevel level, std::string_view message, const LogDetails& details,
                           const JournalOrigin& origin) {
  std::string record;
  add(record, "MESSAGE", message.substr(0, kLongestMessage));
  add(record, "PRIORITY", fmt::format("{}", static_cast<int>(level)));
  add(record, "SYSLOG_IDENTIFIER", "fuse4fs");
  if (!details.message_id.empty()) add(record, "MESSAGE_ID", details.message_id);
  for (const auto* const key : {"FUSE4FS_DEVICE", "DEVICE"}) add(record, key, origin.device);
  for (const auto* const key : {"FUSE4FS_MOUNT_POINT", "WHERE"}) add(record, key, origin.mount_point);
  add_number(record, "FUSE4FS_INODE", details.inode);
  add_number(record, "FUSE4FS_BLOCK", details.block);
  add_number(record, "ERRNO", static_cast<std::uint64_t>(std::max(details.error, 0)));
  return record;
}

}  // namespace fuse4fs::service
