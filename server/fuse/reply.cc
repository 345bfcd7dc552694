// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/reply.h"

#include <fuse_lowlevel.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/log.h"
#include "server/fuse/conversions.h"
#include "server/fuse/kernel_abi.h"

namespace fuse4fs::fuse {
namespace {

constexpr Connection kNoConnection;

struct Current {
  const Connection* connection = &kNoConnection;
  int device_fd = -1;
  std::uint64_t unique = 0;
  std::uint32_t opcode = 0;
  std::span<const std::byte> payload;
};
thread_local Current current;

}  // namespace

CurrentRequest::Scope::Scope(const Connection& connection, int device_fd, std::uint64_t unique,
                             std::uint32_t opcode, std::span<const std::byte> payload) {
  current = Current{&connection, device_fd, unique, opcode, payload};
}
CurrentRequest::Scope::~Scope() { current = Current{}; }

int CurrentRequest::device_fd() { return current.device_fd; }
const Connection& CurrentRequest::connection() { return *current.connection; }
AttributeStyle CurrentRequest::attribute_style(std::uint32_t block_size) {
  return {.block_size = block_size,
          .data_path = current.connection->data_path.load(std::memory_order_relaxed),
          .sector_size = current.connection->sector_size,
          .atomic_write_unit = current.connection->atomic_write_unit};
}
std::uint32_t CurrentRequest::opcode() { return current.opcode; }

unsigned CurrentRequest::open_flags() {
  fuse_read_in in{};
  const bool reads =
      current.opcode == FUSE_READ || current.opcode == FUSE_READDIR || current.opcode == FUSE_READDIRPLUS;
  if (!reads || current.payload.size() < sizeof in) return 0;
  std::memcpy(&in, current.payload.data(), sizeof in);
  return in.flags;
}

Reply::~Reply() {
  // A request without an answer would hang its caller for ever.
  if (!answered_) error(Errno(EIO));
  if (request_ != nullptr) fuse_reply_none(request_);
}

void Reply::send(int negative_errno, std::span<const std::byte> payload) {
  answered_ = true;
  fuse_out_header header{};
  header.len = static_cast<std::uint32_t>(sizeof header + payload.size());
  header.error = negative_errno;
  header.unique = current.unique;
  std::array<iovec, 2> parts{
      {{&header, sizeof header}, {const_cast<std::byte*>(payload.data()), payload.size()}}};
  // ENOENT: the request was aborted meanwhile, nobody waits. ENODEV: unmounted.
  if (::writev(current.device_fd, parts.data(), payload.empty() ? 1 : 2) < 0 && errno != ENOENT &&
      errno != ENODEV)
    log_warning("the kernel refused the answer to request {} (opcode {}): {}", current.unique, current.opcode,
                Errno::last().message());
}

void Reply::error(Errno error) {
  log_debug("opcode {}: {}", current.opcode, error.message());
  send(-error.value(), {});
}
void Reply::ok() { send(0, {}); }
void Reply::entry(const ext4::Attributes& attributes, std::uint32_t block_size) {
  structure(entry_reply(attributes, CurrentRequest::attribute_style(block_size)));
}
void Reply::no_entry() { structure(negative_entry_reply()); }
void Reply::attributes(const ext4::Attributes& attributes, std::uint32_t block_size) {
  structure(attribute_reply(attributes, CurrentRequest::attribute_style(block_size)));
}
void Reply::data(std::span<const std::byte> bytes) { send(0, bytes); }
void Reply::ioctl(std::span<const std::byte> bytes) {
  const fuse_ioctl_out out{};
  std::vector<std::byte> whole(sizeof out + bytes.size());
  std::memcpy(whole.data(), &out, sizeof out);
  std::ranges::copy(bytes, whole.begin() + sizeof out);
  data(whole);
}
void Reply::written(std::uint32_t bytes) { structure(fuse_write_out{.size = bytes, .padding = 0}); }

}  // namespace fuse4fs::fuse
