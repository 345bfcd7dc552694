// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/bdi.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace fuse4fs::helper {

namespace {

std::string plain_directory(dev_t mount, MountType type) {
  return fmt::format("/sys/class/bdi/{}:{}{}", major(mount), minor(mount),
                     type == MountType::kFuseBlock ? "-fuseblk" : "");
}
// The names are as the public patches have them.
std::string iomap_directory(dev_t mount, MountType type) {
  return fmt::format("/sys/class/bdi/{}:{}{}.iomap", major(mount), minor(mount),
                     type == MountType::kFuseBlock ? "-fuseblk" : "-fuse");
}

}  // namespace

bool has_iomap(dev_t mount, MountType type) {
  return ::access(iomap_directory(mount, type).c_str(), F_OK) == 0;
}

std::string bdi_directory(dev_t mount, MountType type) {
  return has_iomap(mount, type) ? iomap_directory(mount, type) : plain_directory(mount, type);
}

std::vector<std::string> tune_bdi(dev_t mount, MountType type) {
  struct Setting {
    const char* file;
    std::string_view value;
  };
  constexpr Setting kSettings[] = {{"max_ratio", "100"}, {"strict_limit", "0"}, {"read_ahead_kb", "1024"}};
  std::vector<std::string> remarks;
  for (const auto& [file, value] : kSettings) {
    const std::string path = fmt::format("{}/{}", bdi_directory(mount, type), file);
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd || ::write(fd.get(), value.data(), value.size()) < 0)
      remarks.push_back(fmt::format("{} is left as it is: {}", path, Errno::last().message()));
  }
  return remarks;
}

}  // namespace fuse4fs::helper
