// SPDX-License-Identifier: GPL-2.0-or-later
// Each packet as bytes and as a value. The bytes are written by hand from docs/protocol.md, not by our
// encoder.
#pragma once

#include <string_view>
#include <vector>

#include "protocol/messages.h"

namespace fuse4fs::protocol::testing {

struct CommandVector {
  std::string_view bytes;
  Command value;
};

inline const std::vector<CommandVector>& command_vectors() {
  static const std::vector<CommandVector> vectors{
      // magic    open_flags create_mode request_flags block_size path
      {"4f50454e 00080002   00000000    00000001      00000000 '/dev/sdb1' 00",
       OpenFile{.path = "/dev/sdb1", .open_flags = 0x80002, .create_mode = 0, .quiet = true}},
      {"4f50454e 00000041   000001a4    00000000      00000000 'x' 00",
       OpenFile{.path = "x", .open_flags = 0x41, .create_mode = 0644, .quiet = false}},
      {"42444556 00000082   00000000    00000000      00001000 '/dev/loop0' 00",
       OpenBlockDevice{
           .path = "/dev/loop0", .open_flags = 0x82, .create_mode = 0, .quiet = false, .block_size = 4096}},
      {"42444556 ffffffff   01020304    00000001      05060708 ff 00",
       OpenBlockDevice{.path = "\xff",
                       .open_flags = 0xffffffff,
                       .create_mode = 0x01020304,
                       .quiet = true,
                       .block_size = 0x05060708}},
      {"4f50454e 00000000   00000000    00000002      00000000 '/i' 00",
       OpenFile{.path = "/i", .try_loop = true}},
      {"42444556 00000002   00000000    00000003      00000400 '/d' 00",
       OpenBlockDevice{.path = "/d", .open_flags = 2, .quiet = true, .try_loop = true, .block_size = 1024}},
      // magic    mode padding
      {"494f4d41 503f 0000", RequestIomap{IomapNeed::kOptional}},
      {"494f4d41 5021 0000", RequestIomap{IomapNeed::kMandatory}},
      {"54595045 00000001", OpenFsContext{.fuseblk = true}},
      {"54595045 00000000", OpenFsContext{.fuseblk = false}},
      {"4e414d45 '/dev/sdb1' 00", SetSource{"/dev/sdb1"}},
      {"4f505453 'allow_other,blksize=1024' 00", SetMountOptions{"allow_other,blksize=1024"}},
      // magic    expected padding path
      {"4d4e5450 4000     0000    '/mnt' 00", SetMountPoint{"/mnt", MountPointType::kDirectory}},
      {"4d4e5450 8000     0000    '/f' 00", SetMountPoint{"/f", MountPointType::kRegularFile}},
      {"4d4e5450 0000     0000    '/' 00", SetMountPoint{"/", MountPointType::kAny}},
      {"4d544142 'user=me' 00", SetMtabOptions{"user=me"}},
      {"444f4954 00000007", Mount{.flags = 7}},
      {"42594545 00000000", Goodbye{.exit_code = 0}},
      {"42594545 80000001", Goodbye{.exit_code = 0x80000001}},
  };
  return vectors;
}

}  // namespace fuse4fs::protocol::testing
