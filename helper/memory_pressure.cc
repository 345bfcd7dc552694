// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/memory_pressure.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string_view>

#include "helper/mount_table.h"

namespace fuse4fs::helper {
namespace {

// "some STALL WINDOW", in microseconds: what sd_event_add_memory_pressure(3) asks for if nothing is said. Two
// seconds are the only window that the kernel gives without CAP_SYS_RESOURCE (6.4 and later).
constexpr std::string_view kTrigger = "some 200000 2000000";

// Of the unified hierarchy, from its root as this control-group namespace sees it; empty if unknown.
std::string group_of(pid_t pid) {
  constexpr std::string_view kUnified = "0::";
  std::ifstream lines(fmt::format("/proc/{}/cgroup", pid));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(kUnified)) return line.substr(kUnified.size());
  return {};
}

}  // namespace

Result<UniqueFd> watch_memory_pressure(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY));
  if (!file) return fail_last();
  // With its NUL, as the kernel takes the last byte for one.
  if (::write(file.get(), kTrigger.data(), kTrigger.size() + 1) < 0) return fail_last();
  return file;
}

std::string pressure_file_of(pid_t pid) {
  const std::string group = group_of(pid);
  // "/..": above what this namespace sees.
  if (group.size() < 2 || group.starts_with("/..")) return {};
  const auto root = whole_mount_of_type("cgroup2");
  if (!root) return {};
  std::string path = root->mount_point + group + "/memory.pressure";
  return ::access(path.c_str(), F_OK) == 0 ? path : std::string();
}

}  // namespace fuse4fs::helper
