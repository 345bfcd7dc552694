// SPDX-License-Identifier: GPL-2.0-or-later
// Errors as values: Result<T> holds a T or an Errno; Outcome<T> holds a T or a Failure with words for people.
#pragma once

#include <expected>
#include <string>
#include <utility>

#include "base/errno.h"

namespace fuse4fs {

template <class T>
using Result = std::expected<T, Errno>;

// Why something that a user asked for was not done: the number for programs, the words for people.
// The words name the thing they are about (device, directory, option) and what to do where that is known.
struct Failure {
  Errno error;
  std::string message;
};

template <class T>
using Outcome = std::expected<T, Failure>;

// `return fail(EINVAL);` in a function that returns Result.
inline std::unexpected<Errno> fail(int error) { return std::unexpected(Errno(error)); }
inline std::unexpected<Errno> fail(Errno error) { return std::unexpected(error); }
// The failure of the C library call just made.
inline std::unexpected<Errno> fail_last() { return std::unexpected(Errno::last()); }
// `return fail(Errno(EBUSY), "…");` in a function that returns Outcome.
inline std::unexpected<Failure> fail(Errno error, std::string message) {
  return std::unexpected(Failure{error, std::move(message)});
}

}  // namespace fuse4fs

#define FUSE4FS_CONCAT_INNER(a, b) a##b
#define FUSE4FS_CONCAT(a, b) FUSE4FS_CONCAT_INNER(a, b)

// ASSIGN_OR_RETURN(auto fd, open_it(path)); hands a failure on to the caller, whatever it is expected to
// hold.
#define ASSIGN_OR_RETURN(declaration, ...) \
  ASSIGN_OR_RETURN_INNER(FUSE4FS_CONCAT(result_at_, __LINE__), declaration, __VA_ARGS__)
#define ASSIGN_OR_RETURN_INNER(result, declaration, ...)          \
  auto result = (__VA_ARGS__);                                    \
  if (!result) return std::unexpected(std::move(result.error())); \
  declaration = std::move(*result)

// RETURN_IF_ERROR(flush()); the same for a call that returns nothing else.
#define RETURN_IF_ERROR(...)                                  \
  do {                                                        \
    if (auto result_here = (__VA_ARGS__); !result_here)       \
      return std::unexpected(std::move(result_here.error())); \
  } while (false)
