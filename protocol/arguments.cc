// SPDX-License-Identifier: GPL-2.0-or-later
#include "protocol/arguments.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace fuse4fs::protocol {
namespace {

constexpr std::uint32_t kMagic = 0x41524753;  // "ARGS"
constexpr std::size_t kHeaderSize = 8;        // magic, count
constexpr std::size_t kEntrySize = 8;         // position, length

void put(Bytes& blob, std::size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) blob.push_back(static_cast<std::byte>(value >> shift));
}

// `position` is inside the blob: the caller has checked.
std::uint32_t get(ByteView blob, std::size_t position) {
  std::uint32_t value = 0;
  for (const std::byte byte : blob.subspan(position, 4))
    value = value << 8 | std::to_integer<std::uint32_t>(byte);
  return value;
}

}  // namespace

Result<Bytes> encode_arguments(const Arguments& arguments) {
  if (arguments.empty()) return fail(EINVAL);
  if (arguments.size() > kMaxArguments) return fail(E2BIG);
  std::size_t position = kHeaderSize + arguments.size() * kEntrySize;
  Bytes blob;
  put(blob, kMagic);
  put(blob, arguments.size());
  for (const std::string& argument : arguments) {
    if (argument.find('\0') != std::string::npos) return fail(EINVAL);
    const std::size_t size = argument.size() + 1;
    if (size > kMaxArgumentBytes - std::min(position, kMaxArgumentBytes)) return fail(E2BIG);
    put(blob, position);
    put(blob, size);
    position += size;
  }
  for (const std::string& argument : arguments) {
    const auto* const bytes = reinterpret_cast<const std::byte*>(argument.c_str());
    blob.insert(blob.end(), bytes, bytes + argument.size() + 1);
  }
  return blob;
}

Result<Arguments> decode_arguments(ByteView blob) {
  if (blob.size() < kHeaderSize || blob.size() > kMaxArgumentBytes) return fail(EBADMSG);
  if (get(blob, 0) != kMagic) return fail(EBADMSG);
  const std::size_t count = get(blob, 4);
  if (count == 0 || count > kMaxArguments) return fail(EBADMSG);
  const std::size_t strings = kHeaderSize + count * kEntrySize;
  if (strings > blob.size()) return fail(EBADMSG);

  Arguments arguments;
  // Entries that share bytes would let a small blob unfold into a gigabyte of strings.
  std::size_t left = blob.size() - strings;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t position = get(blob, kHeaderSize + i * kEntrySize);
    const std::size_t size = get(blob, kHeaderSize + i * kEntrySize + 4);
    // libfuse leaves a gap before the first string, so only the lower bound of the strings is known.
    if (position < strings || position > blob.size()) return fail(EBADMSG);
    if (size == 0 || size > blob.size() - position || size > left) return fail(EBADMSG);
    left -= size;
    const std::string_view text(reinterpret_cast<const char*>(blob.data()) + position, size);
    if (text.find('\0') != size - 1) return fail(EBADMSG);
    arguments.emplace_back(text.substr(0, size - 1));
  }
  return arguments;
}

Result<UniqueFd> write_arguments(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bytes blob, encode_arguments(arguments));
  UniqueFd memfd(::memfd_create("fuse service argv", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return fail_last();
  std::size_t done = 0;
  while (done < blob.size()) {
    // pwrite leaves the offset at 0, for a server that reads from there.
    const ssize_t written =
        ::pwrite(memfd.get(), blob.data() + done, blob.size() - done, static_cast<off_t>(done));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_last();
    done += static_cast<std::size_t>(written);
  }
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return fail_last();
  return memfd;
}

Result<Arguments> read_arguments(int memfd) {
  struct stat status;
  if (::fstat(memfd, &status) != 0) return fail_last();
  // A pipe or a device would block or never end.
  if (!S_ISREG(status.st_mode)) return fail(EBADMSG);
  if (status.st_size < 0 || static_cast<std::size_t>(status.st_size) > kMaxArgumentBytes)
    return fail(EBADMSG);
  // A copy: the other side may hold the file and change it between check and use (libfuse does not seal it).
  Bytes blob(static_cast<std::size_t>(status.st_size));
  std::size_t done = 0;
  while (done < blob.size()) {
    const ssize_t got = ::pread(memfd, blob.data() + done, blob.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_last();
    if (got == 0) return fail(EBADMSG);
    done += static_cast<std::size_t>(got);
  }
  return decode_arguments(blob);
}

}  // namespace fuse4fs::protocol
