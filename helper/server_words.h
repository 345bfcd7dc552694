// SPDX-License-Identifier: GPL-2.0-or-later
// What the server says on its standard error while the mount is under way, shown to the user of mount(8).
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

// Only printable ASCII, newlines and tabs get through: the server may have been taken over, and a terminal
// obeys.
std::string without_control_characters(std::string_view bytes);

class ServerWords {
 public:
  // `pipe`: not blocking; may be empty. `out`: borrowed, where the words go.
  ServerWords(UniqueFd pipe, int out) : pipe_(std::move(pipe)), out_(out) {}

  // Shows what has come so far. 64 KiB at most in all: a server must not fill a disk through its caller's
  // log.
  void forward();
  // Until `socket` has something to read or has ended, shows what comes. ETIMEDOUT at `deadline`.
  Result<void> forward_until_readable(int socket, std::chrono::steady_clock::time_point deadline);

 private:
  UniqueFd pipe_;
  int out_;
  std::size_t shown_ = 0;
};

}  // namespace fuse4fs::helper
