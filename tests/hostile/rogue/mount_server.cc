// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/rogue/mount_server.h"

#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

namespace fuse4fs::rogue {
namespace {

constexpr std::uint64_t kDeviceNode = 2;

fuse_attr attributes_of(std::uint64_t inode) {
  fuse_attr attributes{};
  attributes.ino = inode;
  attributes.mode = inode == FUSE_ROOT_ID ? S_IFDIR | 0777 : S_IFCHR | 0666;
  attributes.nlink = 2;
  // /dev/null: every machine has it, and opening it harms nothing.
  if (inode != FUSE_ROOT_ID) attributes.rdev = static_cast<std::uint32_t>(makedev(1, 3));
  return attributes;
}

alignas(fuse_in_header) std::array<std::byte, (1 << 20) + 4096> buffer;

}  // namespace

bool MountServer::answer(std::uint64_t unique, int error, const void* body, std::size_t size) {
  fuse_out_header header{
      .len = static_cast<std::uint32_t>(sizeof header + size), .error = -error, .unique = unique};
  const iovec pieces[] = {{&header, sizeof header}, {const_cast<void*>(body), size}};
  return ::writev(place_.fuse, pieces, size == 0 ? 1 : 2) >= 0;
}

bool MountServer::notify(int code, const void* body, std::size_t size) {
  // A notification's code stands where an answer's error does, with the other sign; its unique is 0.
  return answer(0, -code, body, size);
}

bool MountServer::answer_init() {
  for (;;) {
    const ssize_t length = ::read(place_.fuse, buffer.data(), buffer.size());
    if (length < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (length < static_cast<ssize_t>(sizeof(fuse_in_header))) return false;
    break;
  }
  const auto& request = *reinterpret_cast<const fuse_in_header*>(buffer.data());
  fuse_init_out init{};
  init.major = FUSE_KERNEL_VERSION;
  init.minor = FUSE_KERNEL_MINOR_VERSION;
  init.max_readahead = 131072;
  init.max_write = 131072;
  if (wild_init_) {
    std::memset(&init, 0xff, sizeof init);
    init.major = FUSE_KERNEL_VERSION;
    init.minor = 0x7fffffff;
  }
  return answer(request.unique, 0, &init, sizeof init);
}

void MountServer::answer_attributes(std::uint64_t unique) {
  fuse_attr_out out{};
  out.attr = attributes_of(FUSE_ROOT_ID);
  answer(unique, 0, &out, sizeof out);
}

void MountServer::answer_lookup(std::uint64_t unique, const char* name) {
  if (std::string_view(name) != "device") {
    answer(unique, ENOENT, nullptr, 0);
    return;
  }
  fuse_entry_out out{};
  out.nodeid = kDeviceNode;
  out.attr = attributes_of(kDeviceNode);
  answer(unique, 0, &out, sizeof out);
}

void MountServer::serve_one(const std::byte* bytes) {
  const auto& request = *reinterpret_cast<const fuse_in_header*>(bytes);
  if (unanswered_.contains(request.opcode)) {
    place_.note("hangs on " + std::to_string(request.opcode));
    return;
  }
  switch (request.opcode) {
    case FUSE_GETATTR:
      return answer_attributes(request.unique);
    case FUSE_LOOKUP:
      return answer_lookup(request.unique, reinterpret_cast<const char*>(bytes + sizeof request));
    case FUSE_STATFS: {
      const fuse_statfs_out out{};
      answer(request.unique, 0, &out, sizeof out);
      return;
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return;
    case FUSE_DESTROY:
    case FUSE_SYNCFS:
      answer(request.unique, 0, nullptr, 0);
      return;
    default:
      answer(request.unique, ENOSYS, nullptr, 0);
  }
}

Verdict MountServer::run() {
  for (;;) {
    const ssize_t length = ::read(place_.fuse, buffer.data(), buffer.size());
    if (length < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
    if (length < static_cast<ssize_t>(sizeof(fuse_in_header))) return succeeded("served until the end");
    serve_one(buffer.data());
  }
}

}  // namespace fuse4fs::rogue
