// SPDX-License-Identifier: GPL-2.0-or-later
// A loop device made for an image file. It vanishes with its last descriptor (autoclear): nothing has to be
// undone.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

enum class Access { kReadOnly, kReadWrite };

struct LoopDevice {
  UniqueFd device;   // open as asked for
  std::string path;  // /dev/loopN
};

// The loop devices (/dev/loopN) that show this file from its first byte to its last.
std::vector<std::string> whole_loop_devices_of(const struct stat& image);

// `image`: a borrowed descriptor of a regular file, open as `access` says; `name`: for words only.
// EBUSY, with words, if the file is behind a loop device already and one of the two may write: two writers,
// or a reader with its own caches beside a writer, would each see a damaged volume.
Outcome<LoopDevice> make_loop_device(int image, const std::string& name, Access access);

}  // namespace fuse4fs::helper
