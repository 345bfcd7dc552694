// SPDX-License-Identifier: GPL-2.0-or-later
// A FUSE server of a few lines, that serves an empty directory, or misbehaves as it is told.
#pragma once

#include <string>

#include "base/unique_fd.h"

namespace fuse4fs::helper::testing {

// How the fake server behaves: it reads it from its option threads=N, the one number that the helper hands
// on.
enum class Behaviour : int {
  kServe = 1,
  kGiveUpBeforeMount,   // words on standard error, BYEE 3
  kGiveUpAfterMount,    // BYEE 3 after DOIT
  kVanishAfterMount,    // exits after DOIT without a goodbye
  kCrashAfterMount,     // the same by a signal
  kHangAfterMount,      // never answers INIT, never says goodbye
  kGarbage,             // a packet that is no command
  kHostileWords,        // control characters and 1 MiB of them on standard error, then gives up
  kReportSurroundings,  // descriptors, environment, ids, capabilities on standard error, then gives up
  kHangInGreeting,      // takes no part in anything
  kServeDeaf,           // says that it serves and then answers nothing but INIT: the later hang
};

// What it does before a step of the protocol, whatever its behaviour, if the file beside its program says so:
// two numbers, Attack and step.
enum class Attack : int {
  kNone,
  kClose,     // ends without a goodbye
  kHang,      // says "at step N", and nothing more for ever
  kGarbage,   // a packet that is no command
  kShort,     // a command cut off in its head
  kLong,      // a command longer than a packet may be
  kFlood,     // asks without end for what it may not have
  kPush,      // hands the helper a descriptor
  kImpostor,  // another process goes on in its place
};
// 0: the greeting; 1: BDEV; 2 to 6: TYPE, NAME, MNTP, OPTS, DOIT; 7: INIT; 8: OPEN of a clone; 9: BYEE.
inline constexpr int kSteps = 10;
std::string attack_file(const std::string& program);

// Answers requests on a mounted /dev/fuse until DESTROY or the end of the mount. Returns after INIT alone if
// asked.
enum class Until { kInitAnswered, kEnd };
void serve_fuse(int fuse_device, Until until);

}  // namespace fuse4fs::helper::testing
