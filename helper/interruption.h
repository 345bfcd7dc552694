// SPDX-License-Identifier: GPL-2.0-or-later
// SIGINT, SIGTERM and SIGHUP while a mount is under way: the helper stops waiting and undoes what it has
// done.
//
// One object per process. The handler only notes the signal and shuts the watched socket, which ends whatever
// waits for it; no code has to be ready for EINTR.
#pragma once

namespace fuse4fs::helper {

class Interruption {
 public:
  Interruption();   // takes the three signals
  ~Interruption();  // gives them back
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // The borrowed socket that a signal shuts; -1: none. At once, if a signal has come already.
  void watch(int socket);
  [[nodiscard]] static bool requested();
};

}  // namespace fuse4fs::helper
