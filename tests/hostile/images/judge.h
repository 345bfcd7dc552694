// SPDX-License-Identifier: GPL-2.0-or-later
// What must be true of whatever volume is mounted, and is tried here with one in memory:
//  - nothing outside of the device is asked for
//  - a mount that only reads writes nothing
//  - a new file that was made, written, fsynced and unmounted, each with success, reads back as it was
//    written: before the unmount, and after another mount
// and, by whoever runs this: no crash, and an end. A promise that is broken ends the process
// (fuzz::require()).
//
// Locking: none, one thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "server/ext4/file_system.h"

namespace fuse4fs::hostile {

struct Verdict {
  enum class Mounted { kRefused, kReadOnly, kReadWrite };
  Mounted mounted = Mounted::kRefused;
  std::string words;   // of a refusal
  int files_read = 0;  // new ones, that were read back after another mount
};

// What the engine tells goes to `events`.
Verdict judge_image(const std::vector<std::byte>& image, ext4::Events& events);
Verdict judge_image(const std::vector<std::byte>& image);

}  // namespace fuse4fs::hostile
