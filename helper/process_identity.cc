// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/process_identity.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <limits>
#include <sstream>
#include <string_view>

namespace fuse4fs::helper {
namespace {

constexpr std::string_view kServiceEnding = ".service";

// Empty for a process that has gone, be it while it is read: that is ESRCH, for which a bare stream buffer
// would throw.
std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return std::move(text).str();
}

// The last part of the path that is a service: it may have groups of its own below.
std::string service_in(std::string_view path) {
  while (!path.empty()) {
    const auto slash = path.rfind('/');
    const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
    if (name.size() > kServiceEnding.size() && name.ends_with(kServiceEnding)) return std::string(name);
    if (slash == std::string_view::npos) break;
    path = path.substr(0, slash);
  }
  return {};
}

}  // namespace

Result<ProcessIdentity> identify(pid_t pid) {
  const std::string text = text_of(fmt::format("/proc/{}/stat", pid));
  // "PID (NAME) STATE …": the name may hold blanks and parentheses, what follows may not.
  const auto end_of_name = text.rfind(')');
  if (pid <= 0 || end_of_name == std::string::npos) return fail(ESRCH);
  std::istringstream fields(text.substr(end_of_name + 1));
  constexpr int kFirst = 3;
  constexpr int kStart = 22;
  std::string skipped;
  for (int field = kFirst; field < kStart; ++field) fields >> skipped;
  ProcessIdentity identity{.pid = pid};
  if (!(fields >> identity.start)) return fail(ESRCH);
  return identity;
}

Result<uid_t> effective_user_of(pid_t pid) {
  std::ifstream lines(fmt::format("/proc/{}/status", pid));
  for (std::string word; lines >> word;) {
    uid_t real = 0;
    uid_t effective = 0;
    // The name of the program is quoted so that it never begins a line.
    if (word == "Uid:" && lines >> real >> effective) return effective;
    lines.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return fail(ESRCH);
}

Result<RunningServer> find_running(const ProcessIdentity& identity) {
  if (identity.pid <= 0) return fail(ESRCH);
  // First the descriptor: what is read after it is that process's, or of one that has ended since.
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, identity.pid, 0)));
  if (!process) return fail_last();
  RunningServer server(std::move(process), identity.pid);
  const auto now = identify(identity.pid);
  // One that nobody has waited for is still in /proc.
  if (!now || *now != identity || server.ends_within(std::chrono::milliseconds(0))) return fail(ESRCH);
  return server;
}

std::string unit_of(pid_t pid) {
  std::ifstream lines(fmt::format("/proc/{}/cgroup", pid));
  for (std::string line; std::getline(lines, line);) {
    // "0::PATH" with the unified hierarchy, "N:name=systemd:PATH" without.
    const auto colon = line.find(':');
    const auto second = colon == std::string::npos ? colon : line.find(':', colon + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(colon + 1, second - colon - 1);
    if (!controllers.empty() && controllers != "name=systemd") continue;
    if (std::string unit = service_in(std::string_view(line).substr(second + 1)); !unit.empty()) return unit;
  }
  return {};
}

}  // namespace fuse4fs::helper
