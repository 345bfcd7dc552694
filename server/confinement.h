// SPDX-License-Identifier: GPL-2.0-or-later
// What is left of the process once the volume may be read: the descriptors that stay, the signals, the
// memory, the sandbox.
//
// One thread. Order: keep() for each descriptor that was received, then enter(), once. What enter() makes
// itself stays too. Errors carry words.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/sandbox/sandbox.h"

namespace fuse4fs {

class Confinement {
 public:
  // Borrowed: it stays open, and belongs to whoever has it. Negative ones do not count.
  void keep(int descriptor);

  struct Needs {
    // Of the volume, in bytes: what is in memory of each block group grows with it.
    std::uint64_t device_size = 0;
    // Of the regular file that is the log, -1 without one: it may grow by so much and no more.
    int log_file = -1;
    // Of metadata, in bytes.
    std::size_t cache_size = 0;
    sandbox::Iomap iomap = sandbox::Iomap::kForbidden;
    // Starts all threads that there will ever be, so many. What it throws as std::system_error is a failure
    // of enter().
    unsigned threads = 0;
    std::function<void()> start_threads;
  };
  // Irreversible. SIGTERM and SIGUSR1 come through signals() from here on.
  Outcome<void> enter(const Needs& needs);

  // Readable when a signal has come; a signalfd, never blocks.
  [[nodiscard]] int signals() const { return signals_.get(); }
  // The name that others see on the volume: the host's.
  [[nodiscard]] const std::string& node_name() const { return node_name_; }
  // The kernel's, as of uname(2).
  [[nodiscard]] const std::string& kernel_release() const { return kernel_release_; }

 private:
  std::vector<int> kept_;
  UniqueFd signals_;
  std::string node_name_;
  std::string kernel_release_;
};

}  // namespace fuse4fs
