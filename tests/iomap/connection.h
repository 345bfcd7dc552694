// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel's end of /dev/fuse: requests with unique numbers from any thread, their answers, and what the
// server says unasked.
//
// Over a SOCK_SEQPACKET socket, a message each. A thread of its own takes the answers. Counts what was asked,
// by opcode: exact figures.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "tests/iomap/breaches.h"

namespace fuse4fs::iomap_model {

// Requests sent, by opcode.
using UpcallCounts = std::map<std::uint32_t, std::uint64_t>;

class Connection {
 public:
  struct Answer {
    std::uint32_t opcode = 0;
    std::uint64_t node = 0;
    std::span<const std::byte> request{};  // what followed its header
    std::int32_t error = 0;                // 0 or a negative errno
    std::vector<std::byte> payload{};
  };
  // Changes an answer on its way: what a wrong server would have said. Called by the thread that asked.
  using Tampering = std::function<void(Answer&)>;

  Connection(UniqueFd socket, Breaches& breaches, Tampering tampering);
  // The server reads the end of the socket from now on.
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // The answer's payload. ENOTCONN once the server is gone; ENOSYS without asking where that was answered
  // before, to one of those that the kernel then leaves out.
  Result<std::vector<std::byte>> call(std::uint32_t opcode, std::uint64_t node,
                                      std::span<const std::byte> in = {});
  // Of an answer whose size must be that of a struct.
  template <class Out, class In>
  Result<Out> ask(std::uint32_t opcode, std::uint64_t node, const In& in, std::string_view tail = {}) {
    ASSIGN_OR_RETURN(const auto bytes, call(opcode, node, joined(in, tail)));
    Out out{};
    RETURN_IF_ERROR(take(opcode, bytes, std::as_writable_bytes(std::span(&out, 1))));
    return out;
  }
  template <class In>
  Result<void> tell(std::uint32_t opcode, std::uint64_t node, const In& in, std::string_view tail = {}) {
    ASSIGN_OR_RETURN(const auto bytes, call(opcode, node, joined(in, tail)));
    return take(opcode, bytes, {});
  }
  // Without an answer: FORGET.
  template <class In>
  void post(std::uint32_t opcode, std::uint64_t node, const In& in) {
    send(opcode, node, 0, joined(in, {}));
  }

  [[nodiscard]] UpcallCounts counts() const;

 private:
  struct Waiter {
    std::condition_variable answered;
    enum class State { kWaiting, kAnswered, kGone } state = State::kWaiting;
    std::int32_t error = 0;
    std::vector<std::byte> payload;
  };

  template <class In>
  static std::vector<std::byte> joined(const In& in, std::string_view tail) {
    const auto head = std::as_bytes(std::span(&in, 1));
    const auto rest = std::as_bytes(std::span(tail));
    std::vector<std::byte> bytes(head.begin(), head.end());
    bytes.insert(bytes.end(), rest.begin(), rest.end());
    return bytes;
  }
  Result<void> take(std::uint32_t opcode, std::span<const std::byte> bytes, std::span<std::byte> into);
  bool send(std::uint32_t opcode, std::uint64_t node, std::uint64_t unique, std::span<const std::byte> in);
  void receive();
  void all_gone();

  const UniqueFd socket_;
  Breaches& breaches_;
  const Tampering tampering_;
  mutable std::mutex mutex_;
  // All guarded by mutex_.
  std::uint64_t next_unique_ = 2;
  std::map<std::uint64_t, Waiter*> waiters_;
  UpcallCounts counts_;
  std::set<std::uint32_t> unsupported_;
  bool gone_ = false;
  std::jthread receiver_;
};

}  // namespace fuse4fs::iomap_model
