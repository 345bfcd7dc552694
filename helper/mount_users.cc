// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_users.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <string_view>
#include <vector>

#include "base/quoted.h"
#include "helper/server_search.h"

namespace fuse4fs::helper {
namespace {

constexpr std::size_t kMostNamed = 5;

bool lies_on(const std::string& path, dev_t device) {
  const auto status = cached_status(path);
  return status && makedev(status->stx_dev_major, status->stx_dev_minor) == device;
}

std::optional<std::string> use_of(const std::string& process, dev_t device) {
  if (lies_on(process + "/cwd", device)) return "works in it";
  if (lies_on(process + "/root", device)) return "has its root in it";
  if (lies_on(process + "/exe", device)) return "is a program of it";
  const auto files = names_in(process + "/fd");
  const bool has_open =
      std::ranges::any_of(files, [&](const auto& file) { return lies_on(process + "/fd/" + file, device); });
  if (has_open) return "has files of it open";
  return std::nullopt;
}

}  // namespace

std::string users_of(const MountEntry& mount) {
  std::vector<std::string> users;
  for (const MountEntry& other : mounts_on(mount.id))
    users.push_back(fmt::format("{} is mounted on it", quoted(other.mount_point)));
  for (const std::string& name : names_in("/proc")) {
    if (users.size() > kMostNamed) break;
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string process = "/proc/" + name;
    const auto use = use_of(process, mount.device);
    if (!use) continue;
    std::string title;
    std::getline(std::ifstream(process + "/comm"), title);
    users.push_back(fmt::format("process {} ({}) {}", name, quoted(title), *use));
  }
  if (users.size() > kMostNamed) {
    users.resize(kMostNamed);
    users.emplace_back("and more");
  }
  return fmt::format("{}", fmt::join(users, "; "));
}

}  // namespace fuse4fs::helper
