// SPDX-License-Identifier: GPL-2.0-or-later
// How many lines a log takes in an interval: what is said without end, by a hostile volume for instance, must
// neither fill a disk nor hide what others say.
//
// One thread at a time. The clock is the caller's.
#pragma once

#include <chrono>
#include <optional>
#include <utility>

namespace fuse4fs::service {

class LineLimit {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  LineLimit(unsigned lines, std::chrono::seconds interval) : lines_(lines), interval_(interval) {}

  // Empty: the line is to be left out. Else how many were left out before it and not told yet.
  std::optional<unsigned> admit(TimePoint now) {
    if (!started_ || now - *started_ >= interval_) {
      started_ = now;
      taken_ = 0;
    }
    if (taken_ == lines_) {
      ++left_out_;
      return std::nullopt;
    }
    ++taken_;
    return std::exchange(left_out_, 0U);
  }
  // Of lines that were admitted so many got lost all the same.
  void lost(unsigned lines) { left_out_ += lines; }

 private:
  const unsigned lines_;
  const std::chrono::seconds interval_;
  std::optional<TimePoint> started_;
  unsigned taken_ = 0;
  unsigned left_out_ = 0;
};

}  // namespace fuse4fs::service
