// SPDX-License-Identifier: GPL-2.0-or-later
// Owns one file descriptor. By value means the callee takes it over; a borrowed one is passed as a plain int.
#pragma once

#include <utility>

namespace fuse4fs {

class [[nodiscard]] UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  // Gives the descriptor away without closing it.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  // Closes what it holds, and holds `fd` from now on.
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

}  // namespace fuse4fs
