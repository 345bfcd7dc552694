// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/present_mount.h"

#include <sys/stat.h>

#include <vector>

#include "helper/command_line.h"
#include "helper/loop_device.h"
#include "helper/mount_record.h"
#include "helper/mount_table.h"
#include "helper/source.h"

namespace fuse4fs::helper {
namespace {

std::optional<std::string> place_of(dev_t device) {
  const std::string type(kOwnType);
  if (const auto mounts = mounts_of(device, type); !mounts.empty()) return mounts.front().mount_point;
  const auto records = RecordDirectory::open();
  if (!records) return std::nullopt;
  const auto record = records->read(device);
  if (!record || record->name_space == own_mount_namespace() || !find_running(record->server))
    return std::nullopt;
  return record->mount_point;
}

}  // namespace

std::optional<PresentMount> find_present_mount(const std::string& spec, int place) {
  const auto path = place >= 0 ? Outcome<std::string>(spec) : canonical_source(spec);
  struct stat status = {};
  if (!path || (place >= 0 ? ::fstat(place, &status) : ::stat(path->c_str(), &status)) != 0)
    return std::nullopt;
  std::vector<std::string> devices;
  if (S_ISBLK(status.st_mode)) devices.push_back(*path);
  if (S_ISREG(status.st_mode)) devices = whole_loop_devices_of(status);
  for (const std::string& device : devices) {
    if (::stat(device.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) continue;
    if (auto place = place_of(status.st_rdev)) return PresentMount{device, status.st_rdev, std::move(*place)};
  }
  return std::nullopt;
}

}  // namespace fuse4fs::helper
