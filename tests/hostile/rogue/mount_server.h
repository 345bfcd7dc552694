// SPDX-License-Identifier: GPL-2.0-or-later
// The least that the kernel takes for a FUSE server: an empty root directory with one device node, and the
// misdeeds that it is told to do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {

class MountServer {
 public:
  explicit MountServer(const Place& place) : place_(place) {}

  // Requests of this kind are never answered; the first one is noted: "hangs on CODE".
  void hang_on(std::uint32_t opcode) { unanswered_.insert(opcode); }
  // The answer to INIT offers everything.
  void wild_init() { wild_init_ = true; }

  // Reads and answers the first request. False with errno.
  bool answer_init();
  // Until the mount is gone.
  Verdict run();
  // False with errno.
  bool answer(std::uint64_t unique, int error, const void* body, std::size_t size);
  bool notify(int code, const void* body, std::size_t size);

 private:
  void serve_one(const std::byte* request);
  void answer_attributes(std::uint64_t unique);
  void answer_lookup(std::uint64_t unique, const char* name);

  const Place& place_;
  std::set<std::uint32_t> unanswered_;
  bool wild_init_ = false;
};

}  // namespace fuse4fs::rogue
