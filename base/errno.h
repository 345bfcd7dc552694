// SPDX-License-Identifier: GPL-2.0-or-later
// An error number, as its own type, so that it can be mixed up neither with a count nor with a sign.
//
// Always positive inside the project. It is negated at one border only: server/fuse/reply.cc.
#pragma once

#include <cerrno>
#include <string>

namespace fuse4fs {

class [[nodiscard]] Errno {
 public:
  // `positive` is a value of errno(3), above 0.
  constexpr explicit Errno(int positive) noexcept : value_(positive) {}

  // What the last failed C library call left in errno.
  static Errno last() noexcept { return Errno(errno); }

  [[nodiscard]] constexpr int value() const noexcept { return value_; }

  // The words of strerror(3), for people.
  [[nodiscard]] std::string message() const;

  friend constexpr bool operator==(Errno, Errno) noexcept = default;

 private:
  int value_;
};

// What the kernel calls EFSCORRUPTED: the file system says something that cannot be.
inline constexpr Errno kCorrupted{EUCLEAN};

}  // namespace fuse4fs
