// SPDX-License-Identifier: GPL-2.0-or-later
// What is left of a volume that was in use when the power failed, or its server died: put in order, mounted
// by the engine, read, used, and judged by e2fsck.
//
// Not locked.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/iomap/load_history.h"

namespace fuse4fs::iomap_model {

// A directory for images, which goes with it.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct RecoveredVolume {
  // kNone: e2fsck 1.47.0 dies of some volumes (SIGABRT, its heap overwritten).
  enum class Judgement { kDone, kNone };
  Judgement judgement = Judgement::kDone;
  std::string repair;                   // what e2fsck said
  Mended mended;                        // the same of single files
  FoundFiles files;                     // of the root directory
  std::vector<std::string> complaints;  // a line each; empty: all is well

  // No journal is written yet, so it is e2fsck -fy that puts it in order. Then the engine mounts it for
  // writing and lengthens each file; after the unmount e2fsck -fn finds nothing.
  static RecoveredVolume from(const std::vector<std::byte>& image, const ScratchDirectory& scratch);
};

}  // namespace fuse4fs::iomap_model
