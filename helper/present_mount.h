// SPDX-License-Identifier: GPL-2.0-or-later
// Whether a source is mounted already by a server of ours: then a further mount shows the same file system.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace fuse4fs::helper {

struct PresentMount {
  std::string device_path;  // /dev/sdb1, or the loop device of the image
  dev_t device = 0;
  std::string mount_point;  // one of its places, for words
};

// `spec`: as for Source::open(): a device, an image, a tag; `place`: as SourceOptions::place. Seen in this
// mount namespace, or by the record of a server that lives (its mounts may all be in other namespaces).
std::optional<PresentMount> find_present_mount(const std::string& spec, int place = -1);

}  // namespace fuse4fs::helper
