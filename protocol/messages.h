// SPDX-License-Identifier: GPL-2.0-or-later
// The packets of libfuse's fuse-service protocol, as types. No sockets, no policy: bytes in, values out, and
// back.
//
// docs/protocol.md is the description. One packet is one message; integers are big endian; strings end with a
// NUL that is the packet's last byte. Whatever comes from the other side is hostile: a packet that is short,
// long, has a wrong magic, non-zero padding, a NUL inside a string, no NUL at its end, or is over a limit is
// refused with EBADMSG (EMSGSIZE for the limit, EINVAL if an unknown flag is all that is wrong), and nothing
// of it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace fuse4fs::protocol {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

inline constexpr std::uint16_t kOldestVersion = 1;
inline constexpr std::uint16_t kNewestVersion = 1;
inline constexpr std::size_t kMaxPacket = 65536;     // bytes, of any packet
inline constexpr std::size_t kMaxPathLength = 4096;  // bytes, NUL included
// Names of the two files that the helper sends unasked, in this order.
inline constexpr std::string_view kArgumentsName = "argv";
inline constexpr std::string_view kFuseDeviceName = "fusedev";
// Names that a server may ask for beside its devices, with OPEN and O_PATH. Libfuse's own helper takes them
// for file names: ENOENT, or an O_PATH descriptor. This project's helper answers its own server with a
// descriptor of another kind, whatever the flags, or with EOPNOTSUPP (or EMFILE) where it has none to give.
inline constexpr std::string_view kNotifyName = "fuse4fs:notify";
inline constexpr std::string_view kJournalName = "fuse4fs:journal";
inline constexpr std::string_view kPsiName = "fuse4fs:psi";
inline constexpr std::string_view kCloneName = "fuse4fs:clone";

// ---- helper to server ----

struct Hello {  // SAFT
  std::uint16_t oldest_version = kOldestVersion;
  std::uint16_t newest_version = kNewestVersion;
  bool may_allow_other = false;
  bool may_use_fuseblk = false;
  friend bool operator==(const Hello&, const Hello&) = default;
};

struct FileReply {   // FILE. Carries exactly one descriptor if error is 0, none otherwise.
  int error = 0;     // positive errno, 4095 at most
  std::string name;  // the path or name that was asked for
  friend bool operator==(const FileReply&, const FileReply&) = default;
};

struct SimpleReply {  // REPL
  int error = 0;      // positive errno, 4095 at most
  friend bool operator==(const SimpleReply&, const SimpleReply&) = default;
};

// ---- server to helper; no descriptor ever ----

struct HelloReply {  // LAST
  std::uint16_t version = kNewestVersion;
  friend bool operator==(const HelloReply&, const HelloReply&) = default;
};

struct OpenFile {  // OPEN
  std::string path;
  std::uint32_t open_flags = 0;  // O_* as on this machine
  std::uint32_t create_mode = 0;
  bool quiet = false;  // the helper prints no error
  // An image is wanted as a loop device (libfuse's drafts for iomap). This helper's sources are block devices
  // by then: no answer depends on it.
  bool try_loop = false;
  friend bool operator==(const OpenFile&, const OpenFile&) = default;
};

struct OpenBlockDevice {  // BDEV
  std::string path;
  std::uint32_t open_flags = 0;
  std::uint32_t create_mode = 0;
  bool quiet = false;
  bool try_loop = false;         // as in OpenFile
  std::uint32_t block_size = 0;  // bytes; 0: leave the device's
  friend bool operator==(const OpenBlockDevice&, const OpenBlockDevice&) = default;
};

enum class IomapNeed : std::uint16_t { kOptional = 0x503f, kMandatory = 0x5021 };  // "P?", "P!"

// IOMA: /dev/fuse shall be blessed for iomap. Of libfuse's drafts (series v7); no released helper knows it.
// Our own server never sends it: it asks the descriptor.
struct RequestIomap {
  IomapNeed need = IomapNeed::kOptional;
  friend bool operator==(const RequestIomap&, const RequestIomap&) = default;
};

struct OpenFsContext {  // TYPE
  bool fuseblk = false;
  friend bool operator==(const OpenFsContext&, const OpenFsContext&) = default;
};

struct SetSource {  // NAME
  std::string source;
  friend bool operator==(const SetSource&, const SetSource&) = default;
};

struct SetMountOptions {  // OPTS
  std::string options;    // comma separated
  friend bool operator==(const SetMountOptions&, const SetMountOptions&) = default;
};

enum class MountPointType : std::uint16_t { kAny = 0, kDirectory = 0x4000, kRegularFile = 0x8000 };

struct SetMountPoint {  // MNTP
  std::string path;
  MountPointType expected = MountPointType::kAny;
  friend bool operator==(const SetMountPoint&, const SetMountPoint&) = default;
};

struct SetMtabOptions {  // MTAB
  std::string options;
  friend bool operator==(const SetMtabOptions&, const SetMtabOptions&) = default;
};

struct Mount {              // DOIT
  std::uint32_t flags = 0;  // MS_* of mount(2)
  friend bool operator==(const Mount&, const Mount&) = default;
};

struct Goodbye {  // BYEE: the last packet. No reply.
  std::uint32_t exit_code = 0;
  friend bool operator==(const Goodbye&, const Goodbye&) = default;
};

// What a server may send after the handshake. Each but Goodbye is answered exactly once: OpenFile and
// OpenBlockDevice by a FileReply, the others by a SimpleReply.
using Command = std::variant<OpenFile, OpenBlockDevice, RequestIomap, OpenFsContext, SetSource,
                             SetMountOptions, SetMountPoint, SetMtabOptions, Mount, Goodbye>;

Bytes encode(const Hello&);
Bytes encode(const FileReply&);
Bytes encode(const SimpleReply&);
Bytes encode(const HelloReply&);
Bytes encode(const Command&);

Result<Hello> decode_hello(ByteView packet);
Result<FileReply> decode_file_reply(ByteView packet);
Result<SimpleReply> decode_simple_reply(ByteView packet);
Result<HelloReply> decode_hello_reply(ByteView packet);
Result<Command> decode_command(ByteView packet);

// The answer to a command whose only fault is an unknown flag: EINVAL, in the reply that fits it, so that a
// newer server can try again without. EBADMSG for every other packet.
Result<Bytes> refusal_of(ByteView packet);

}  // namespace fuse4fs::protocol
