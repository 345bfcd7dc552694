// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/connection.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/fuse_iomap_abi.h"
#include "server/fuse/kernel_abi.h"

namespace fuse4fs::iomap_model {
namespace {

// An answer of ENOSYS to these is kept in mind for the life of the connection.
bool is_left_out_once_unsupported(std::uint32_t opcode) {
  switch (opcode) {
    case iomap_abi::kEnd:
    case iomap_abi::kIoend:
    case FUSE_FSYNC:
    case FUSE_FLUSH:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
      return true;
    default:
      return false;
  }
}

}  // namespace

Connection::Connection(UniqueFd socket, Breaches& breaches, Tampering tampering)
    : socket_(std::move(socket)),
      breaches_(breaches),
      tampering_(std::move(tampering)),
      receiver_([this] { receive(); }) {}

Connection::~Connection() {
  ::shutdown(socket_.get(), SHUT_RDWR);
  receiver_.join();
}

bool Connection::send(std::uint32_t opcode, std::uint64_t node, std::uint64_t unique,
                      std::span<const std::byte> in) {
  fuse_in_header header{};
  header.len = static_cast<std::uint32_t>(sizeof header + in.size());
  header.opcode = opcode;
  header.unique = unique;
  header.nodeid = node;
  {
    const std::lock_guard lock(mutex_);
    ++counts_[opcode];
    if (header.unique == 0) header.unique = next_unique_ += 2;
  }
  std::array<iovec, 2> parts{{{&header, sizeof header}, {const_cast<std::byte*>(in.data()), in.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  return ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(header.len);
}

Result<std::vector<std::byte>> Connection::call(std::uint32_t opcode, std::uint64_t node,
                                                std::span<const std::byte> in) {
  Waiter waiter;
  std::uint64_t unique = 0;
  {
    const std::lock_guard lock(mutex_);
    if (gone_) return fail(ENOTCONN);
    if (unsupported_.contains(opcode)) return fail(ENOSYS);
    unique = next_unique_ += 2;
    waiters_.emplace(unique, &waiter);
  }
  if (!send(opcode, node, unique, in)) all_gone();
  {
    std::unique_lock lock(mutex_);
    waiter.answered.wait(lock, [&] { return waiter.state != Waiter::State::kWaiting; });
    waiters_.erase(unique);
    if (waiter.state == Waiter::State::kGone) return fail(ENOTCONN);
  }
  Answer answer{.opcode = opcode,
                .node = node,
                .request = in,
                .error = waiter.error,
                .payload = std::move(waiter.payload)};
  if (tampering_) tampering_(answer);
  if (answer.error == 0) return std::move(answer.payload);
  if (answer.error == -ENOSYS && is_left_out_once_unsupported(opcode)) {
    const std::lock_guard lock(mutex_);
    unsupported_.insert(opcode);
  }
  return fail(-answer.error);
}

Result<void> Connection::take(std::uint32_t opcode, std::span<const std::byte> bytes,
                              std::span<std::byte> into) {
  if (bytes.size() != into.size()) {
    breaches_.add(Rule::kReplySize,
                  fmt::format("{} bytes to opcode {}, {} wanted", bytes.size(), opcode, into.size()));
    return fail(EIO);
  }
  if (!into.empty()) std::memcpy(into.data(), bytes.data(), into.size());
  return {};
}

void Connection::receive() {
  std::vector<std::byte> buffer(2 << 20);
  while (true) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return all_gone();
    const auto bytes = std::span<const std::byte>(buffer).first(static_cast<std::size_t>(got));
    fuse_out_header header{};
    if (bytes.size() < sizeof header) {
      breaches_.add(Rule::kReplySize, fmt::format("{} bytes are no answer", bytes.size()));
      continue;
    }
    std::memcpy(&header, bytes.data(), sizeof header);
    // Of the older notifications the model keeps nothing that they could change.
    if (header.unique == 0) continue;
    const std::lock_guard lock(mutex_);
    const auto waiter = waiters_.find(header.unique);
    // Who asked does not wait for a server that is gone.
    if (waiter == waiters_.end() && gone_) continue;
    if (waiter == waiters_.end() || header.len != bytes.size()) {
      breaches_.add(Rule::kReplySize, fmt::format("an answer to {}, which nobody asked", header.unique));
      continue;
    }
    // A kernel refuses the write(2) of it.
    constexpr int kLeastError = -511;
    if (header.error > 0 || header.error < kLeastError)
      breaches_.add(Rule::kReplySize, fmt::format("an answer with the error {}", header.error));
    waiter->second->error = header.error;
    const auto payload = bytes.subspan(sizeof header);
    waiter->second->payload.assign(payload.begin(), payload.end());
    waiter->second->state = Waiter::State::kAnswered;
    waiter->second->answered.notify_one();
  }
}

void Connection::all_gone() {
  const std::lock_guard lock(mutex_);
  gone_ = true;
  for (const auto& [unique, waiter] : waiters_) {
    if (waiter->state != Waiter::State::kWaiting) continue;
    waiter->state = Waiter::State::kGone;
    waiter->answered.notify_one();
  }
}

UpcallCounts Connection::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace fuse4fs::iomap_model
