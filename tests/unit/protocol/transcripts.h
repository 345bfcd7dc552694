// SPDX-License-Identifier: GPL-2.0-or-later
// Two conversations with libfuse's own ends, byte by byte: what was said when libfuse's master of August 2026
// (commit e8d407ce) and this project were tried with each other, checked against docs/protocol.md field by
// field. Only the device's name is this machine's: /dev/loop3 stands for it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fuse4fs::protocol::testing {

enum class Speaker { kHelper, kServer };

struct Line {
  Speaker speaker;
  std::string_view packet;      // as bytes_of() reads it
  std::string_view attachment;  // the contents of a memfd, "any" for a descriptor of another kind, or nothing
};

inline constexpr std::string_view kDeviceInTranscripts = "/dev/loop3";

// mount.fuse4fs starts libfuse's example service_ll:
//   mount.fuse4fs /dev/loop3 /mnt/x -t fuse.service_ll -o require_bdev,blocksize=1024
// It claims the device itself, sets the block size on that descriptor, is no fuseblk, and names its type.
inline const std::vector<Line>& transcript_of_libfuses_server() {
  static const std::vector<Line> lines{
      //                 magic       oldest newest flags: allow_other, fuseblk
      {Speaker::kHelper, "'SAFT'     0001   0001   00000003", ""},
      {Speaker::kServer, "'LAST'     0001   0000", ""},
      {Speaker::kHelper, "'FILE'     00000000 'argv' 00",
       "'ARGS' 00000005"
       " 00000030 0000000b  0000003b 0000000b  00000046 00000007  0000004d 00000003  00000050 0000001c"
       " 'service_ll' 00 '/dev/loop3' 00 '/mnt/x' 00 '-o' 00 'require_bdev,blocksize=1024' 00"},
      {Speaker::kHelper, "'FILE'     00000000 'fusedev' 00", "any"},
      //                             O_RDWR|O_EXCL  mode  flags  block size
      {Speaker::kServer, "'BDEV'     00000082   00000000  00000000 00000400 '/dev/loop3' 00", ""},
      {Speaker::kHelper, "'FILE'     00000000 '/dev/loop3' 00", "any"},
      {Speaker::kServer, "'TYPE'     00000000", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      {Speaker::kServer, "'NAME'     'service_ll' 00", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      {Speaker::kServer, "'MNTP'     4000 0000 '/mnt/x' 00", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      //                             MS_NOSUID|MS_NODEV
      {Speaker::kServer, "'DOIT'     00000006", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      {Speaker::kServer, "'BYEE'     00000000", ""},
  };
  return lines;
}

// Libfuse's helper starts this project's server:
//   fuservicemount3 /dev/loop3 /mnt/x -t fuse.fuse4fs -o nosuid,noatime,nodev
// It knows no reserved names. Its arguments have a gap where "-t fuse.fuse4fs" was left out.
inline const std::vector<Line>& transcript_of_libfuses_helper() {
  static const std::vector<Line> lines{
      {Speaker::kHelper, "'SAFT'     0001   0001   00000003", ""},
      {Speaker::kServer, "'LAST'     0001   0000", ""},
      {Speaker::kHelper, "'FILE'     00000000 'argv' 00",
       "'ARGS' 00000005"
       " 00000040 00000008  00000048 0000000b  00000053 00000007  0000005a 00000003  0000005d 00000015"
       " 0000000000000000 0000000000000000"
       " 'fuse4fs' 00 '/dev/loop3' 00 '/mnt/x' 00 '-o' 00 'nosuid,noatime,nodev' 00"},
      {Speaker::kHelper, "'FILE'     00000000 'fusedev' 00", "any"},
      //                             O_PATH|O_CLOEXEC mode  quiet
      {Speaker::kServer, "'OPEN'     00280000   00000000  00000001 00000000 'fuse4fs:journal' 00", ""},
      {Speaker::kHelper, "'FILE'     00000002 'fuse4fs:journal' 00", ""},
      {Speaker::kServer, "'BDEV'     00080082   00000000  00000000 00000000 '/dev/loop3' 00", ""},
      {Speaker::kHelper, "'FILE'     00000000 '/dev/loop3' 00", "any"},
      {Speaker::kServer, "'BDEV'     00080002   00000000  00000000 00000000 '/dev/loop3' 00", ""},
      {Speaker::kHelper, "'FILE'     00000000 '/dev/loop3' 00", "any"},
      //                             O_RDWR|O_DIRECT|O_CLOEXEC
      {Speaker::kServer, "'BDEV'     00084002   00000000  00000001 00000000 '/dev/loop3' 00", ""},
      {Speaker::kHelper, "'FILE'     00000000 '/dev/loop3' 00", "any"},
      {Speaker::kServer, "'TYPE'     00000001", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      {Speaker::kServer, "'NAME'     '/dev/loop3' 00", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      {Speaker::kServer, "'MNTP'     4000 0000 '/mnt/x' 00", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      {Speaker::kServer, "'OPTS'     'default_permissions,allow_other,blksize=1024' 00", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      //                             MS_NOSUID|MS_NODEV|MS_NOATIME
      {Speaker::kServer, "'DOIT'     00000406", ""},
      {Speaker::kHelper, "'REPL'     00000000", ""},
      {Speaker::kServer, "'OPEN'     00280000   00000000  00000001 00000000 'fuse4fs:clone' 00", ""},
      {Speaker::kHelper, "'FILE'     00000002 'fuse4fs:clone' 00", ""},
      {Speaker::kServer, "'BYEE'     00000000", ""},
  };
  return lines;
}

}  // namespace fuse4fs::protocol::testing
