// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/server_words.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

namespace fuse4fs::helper {

std::string without_control_characters(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    if ((c >= ' ' && c <= '~') || c == '\n' || c == '\t') {
      text += c;
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      text += '?';
    }
  }
  return text;
}

void ServerWords::forward() {
  constexpr std::size_t kMost = 64 << 10;
  std::array<char, 4096> bytes{};
  while (pipe_) {
    const ssize_t length = ::read(pipe_.get(), bytes.data(), bytes.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) {
      pipe_.reset();
      return;
    }
    // Read on even if nothing more is shown: a server must not stop at a full pipe either.
    const std::size_t wanted = std::min(static_cast<std::size_t>(length), kMost - shown_);
    shown_ += wanted;
    const std::string text = without_control_characters({bytes.data(), wanted});
    (void)!::write(out_, text.data(), text.size());
    // A server that writes without end must not keep the helper from its socket.
    if (wanted == 0) return;
  }
}

Result<void> ServerWords::forward_until_readable(int socket, std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return fail(ETIMEDOUT);
    pollfd waits[] = {{.fd = socket, .events = POLLIN, .revents = 0},
                      {.fd = pipe_ ? pipe_.get() : -1, .events = POLLIN, .revents = 0}};
    const int ready = ::poll(waits, std::size(waits), static_cast<int>(left));
    if (ready < 0 && errno != EINTR) return fail_last();
    if (ready > 0 && waits[1].revents != 0) forward();
    if (ready > 0 && waits[0].revents != 0) return {};
  }
}

}  // namespace fuse4fs::helper
