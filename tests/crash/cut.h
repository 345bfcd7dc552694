// SPDX-License-Identifier: GPL-2.0-or-later
// One volume, written by the kernel's ext4, cut, and recovered by the kernel and by us.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "tests/crash/kinds.h"

namespace fuse4fs::crash {

enum class Verdict {
  kSame,          // the trees are equal, and e2fsck is content with ours
  kKernelFailed,  // the kernel refused its own log, or e2fsck is not content with what it left; ours is clean
  kWrong,
};

struct Outcome {
  Verdict verdict = Verdict::kWrong;
  std::string words;     // what differs, or what the kernel left
  std::string replayed;  // of our log: what was replayed
};

// Makes it, cuts it after about `operations`, and judges:
//  - mounted read-only by us: the image stays as it is, byte by byte (SHA-256), and shows the tree
//  - mounted by us and unmounted: e2fsck -fn finds nothing
//  - mounted by the kernel and unmounted: then both images, mounted read-only by the kernel, show one tree
// Works in `scratch`, an empty directory, and leaves its images there. Throws std::runtime_error where the
// machine does not do what this needs.
Outcome cut_and_compare(const Kind& kind, std::uint64_t seed, std::uint64_t operations,
                        const std::filesystem::path& scratch);

}  // namespace fuse4fs::crash
