// SPDX-License-Identifier: GPL-2.0-or-later
// Does one step on one side, as one of a few users, and says what came of it.
//
// The process is root; a step runs with another user's real and effective ids, groups and umask, and the
// thread becomes root again after it. One thread only: credentials and working directory belong to it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "tests/oracle/step.h"

namespace fuse4fs::oracle {

// Open on one mount. Closed before it is unmounted.
struct OpenFiles {
  UniqueFd root;
  std::array<UniqueFd, kSlots> slots;
};

// What two sides must agree in.
struct Returned {
  int error = 0;           // errno, 0: done
  std::int64_t value = 0;  // bytes moved, offset found, flags
  std::string at{};        // which call failed, where a step makes several
  std::string data{};      // bytes read, names listed, link's target
  bool operator==(const Returned&) const = default;
};

std::string to_text(const Returned& returned);

// kCheck, kDropCaches, kRemount and kSwap are not for it.
Returned execute(const Step& step, OpenFiles& files);

// The parts, by kind of work. Each runs with the step's user already taken on.
using Execute = Returned (*)(const Step&, OpenFiles&);
Execute name_operation(Operation operation);       // directories, links, special files, open
Execute data_operation(Operation operation);       // contents and ranges
Execute attribute_operation(Operation operation);  // modes, times, xattrs, ACLs, flags

// Helpers of the parts.
Returned failed(std::string at);
Returned done(std::int64_t value = 0, std::string data = {});
// The step's slot, or its path opened with `flags`.
class Target {
 public:
  Target(const Step& step, const OpenFiles& files, int flags);
  [[nodiscard]] int get() const { return fd_; }  // -1: errno says why

 private:
  UniqueFd opened_;
  int fd_ = -1;
};

}  // namespace fuse4fs::oracle
