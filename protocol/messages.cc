// SPDX-License-Identifier: GPL-2.0-or-later
#include "protocol/messages.h"

#include <utility>

#include "protocol/wire.h"

namespace fuse4fs::protocol {
namespace {

using internal::Decoder;
using internal::Encoder;

constexpr std::uint32_t magic(const char (&name)[5]) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(name[i]);
  return value;
}

template <class T>
constexpr std::uint32_t kMagic = 0;
template <>
constexpr std::uint32_t kMagic<Hello> = magic("SAFT");
template <>
constexpr std::uint32_t kMagic<HelloReply> = magic("LAST");
template <>
constexpr std::uint32_t kMagic<FileReply> = magic("FILE");
template <>
constexpr std::uint32_t kMagic<SimpleReply> = magic("REPL");
template <>
constexpr std::uint32_t kMagic<OpenFile> = magic("OPEN");
template <>
constexpr std::uint32_t kMagic<OpenBlockDevice> = magic("BDEV");
template <>
constexpr std::uint32_t kMagic<RequestIomap> = magic("IOMA");
template <>
constexpr std::uint32_t kMagic<OpenFsContext> = magic("TYPE");
template <>
constexpr std::uint32_t kMagic<SetSource> = magic("NAME");
template <>
constexpr std::uint32_t kMagic<SetMountOptions> = magic("OPTS");
template <>
constexpr std::uint32_t kMagic<SetMountPoint> = magic("MNTP");
template <>
constexpr std::uint32_t kMagic<SetMtabOptions> = magic("MTAB");
template <>
constexpr std::uint32_t kMagic<Mount> = magic("DOIT");
template <>
constexpr std::uint32_t kMagic<Goodbye> = magic("BYEE");

// The table: what follows the magic, in the order of the wire, for the encoder and the decoder alike.

void fields(auto& io, Hello& m) {
  io.u16(m.oldest_version);
  io.u16(m.newest_version);
  io.flags(m.may_allow_other, m.may_use_fuseblk);
}

void fields(auto& io, HelloReply& m) {
  io.u16(m.version);
  io.constant16(0);
}

void fields(auto& io, FileReply& m) {
  io.error(m.error);
  io.text(m.name, kMaxPathLength);
}

void fields(auto& io, SimpleReply& m) { io.error(m.error); }

void fields(auto& io, OpenFile& m) {
  io.u32(m.open_flags);
  io.u32(m.create_mode);
  io.flags(m.quiet, m.try_loop);
  io.constant32(0);  // where BDEV has its block size
  io.text(m.path, kMaxPathLength);
}

void fields(auto& io, OpenBlockDevice& m) {
  io.u32(m.open_flags);
  io.u32(m.create_mode);
  io.flags(m.quiet, m.try_loop);
  io.u32(m.block_size);
  io.text(m.path, kMaxPathLength);
}

void fields(auto& io, RequestIomap& m) {
  io.one_of(m.need, IomapNeed::kOptional, IomapNeed::kMandatory);
  io.constant16(0);
}

void fields(auto& io, OpenFsContext& m) { io.flags(m.fuseblk); }

void fields(auto& io, SetSource& m) { io.text(m.source, kMaxPacket); }

void fields(auto& io, SetMountOptions& m) { io.text(m.options, kMaxPacket); }

void fields(auto& io, SetMountPoint& m) {
  auto type = std::to_underlying(m.expected);
  io.u16(type);
  m.expected = MountPointType{type};
  io.constant16(0);
  io.text(m.path, kMaxPathLength);
}

void fields(auto& io, SetMtabOptions& m) { io.text(m.options, kMaxPacket); }

void fields(auto& io, Mount& m) { io.u32(m.flags); }

void fields(auto& io, Goodbye& m) { io.u32(m.exit_code); }

// What the wire can say and the type cannot.
template <class T>
bool is_known(const T&) {
  return true;
}
bool is_known(const SetMountPoint& m) {
  switch (m.expected) {
    case MountPointType::kAny:
    case MountPointType::kDirectory:
    case MountPointType::kRegularFile:
      return true;
  }
  return false;
}

template <class T>
Bytes encode_as(T message) {
  Encoder out;
  out.constant32(kMagic<T>);
  fields(out, message);
  return out.take();
}

template <class T>
Result<T> decode_as(ByteView packet) {
  Decoder in(packet);
  T message;
  in.constant32(kMagic<T>);
  fields(in, message);
  RETURN_IF_ERROR(in.finish());
  if (!is_known(message)) return fail(EBADMSG);
  return message;
}

std::uint32_t magic_of(ByteView packet) {
  std::uint32_t value = 0;
  Decoder(packet).u32(value);
  return value;
}

// Tries the commands one after the other; a magic belongs to one of them at most.
template <class... Ts>
Result<Command> decode_one_of(ByteView packet, const std::variant<Ts...>*) {
  Result<Command> decoded = fail(EBADMSG);
  const auto try_as = [&]<class T>(const T*) {
    if (magic_of(packet) != kMagic<T>) return false;
    if (auto message = decode_as<T>(packet))
      decoded = *std::move(message);
    else
      decoded = fail(message.error());
    return true;
  };
  (try_as(static_cast<const Ts*>(nullptr)) || ...);
  return decoded;
}

}  // namespace

Bytes encode(const Hello& message) { return encode_as(message); }
Bytes encode(const FileReply& message) { return encode_as(message); }
Bytes encode(const SimpleReply& message) { return encode_as(message); }
Bytes encode(const HelloReply& message) { return encode_as(message); }
Bytes encode(const Command& command) {
  return std::visit([](const auto& message) { return encode_as(message); }, command);
}

Result<Hello> decode_hello(ByteView packet) { return decode_as<Hello>(packet); }
Result<FileReply> decode_file_reply(ByteView packet) { return decode_as<FileReply>(packet); }
Result<SimpleReply> decode_simple_reply(ByteView packet) { return decode_as<SimpleReply>(packet); }
Result<HelloReply> decode_hello_reply(ByteView packet) { return decode_as<HelloReply>(packet); }
Result<Command> decode_command(ByteView packet) {
  return decode_one_of(packet, static_cast<const Command*>(nullptr));
}

Result<Bytes> refusal_of(ByteView packet) {
  const auto decoded = decode_command(packet);
  if (decoded || decoded.error() != Errno(EINVAL)) return fail(EBADMSG);
  if (magic_of(packet) == kMagic<OpenFsContext>) return encode(SimpleReply{.error = EINVAL});
  Decoder in(packet);
  OpenBlockDevice what;  // the layout of OPEN as well, but for a field that is zero there
  in.constant32(magic_of(packet));
  fields(in, what);
  return encode(FileReply{.error = EINVAL, .name = what.path});
}

}  // namespace fuse4fs::protocol
