// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/server_search.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "helper/fuse_numbers.h"

namespace fuse4fs::helper {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

std::string target_of(const std::string& link) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  return length <= 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

bool is_this_program(const std::string& process) {
  const auto own = cached_status("/proc/self/exe");
  const auto other = cached_status(process + "/exe");
  return own && other && own->stx_ino == other->stx_ino && own->stx_dev_major == other->stx_dev_major &&
         own->stx_dev_minor == other->stx_dev_minor;
}

// The open(2) flags of a descriptor of another process, in octal behind "flags:".
std::optional<int> open_flags(const std::string& process, const std::string& descriptor) {
  std::ifstream info(fmt::format("{}/fdinfo/{}", process, descriptor));
  for (std::string word; info >> word;) {
    int flags = 0;
    if (word == "flags:" && info >> std::oct >> flags) return flags;
  }
  return std::nullopt;
}

bool may_write(const std::string& process, dev_t device) {
  for (const std::string& descriptor : names_in(process + "/fd")) {
    const auto status = cached_status(fmt::format("{}/fd/{}", process, descriptor));
    if (!status || !S_ISBLK(status->stx_mode) ||
        makedev(status->stx_rdev_major, status->stx_rdev_minor) != device)
      continue;
    const auto flags = open_flags(process, descriptor);
    if (flags && (*flags & O_ACCMODE) == O_RDWR) return true;
  }
  return false;
}

bool serves(const std::string& process, dev_t device) {
  std::vector<std::string> files = names_in(process + "/fd");
  bool has_fuse_by_name = false;
  for (std::string& file : files) {
    file = fmt::format("{}/fd/{}", process, file);
    has_fuse_by_name = has_fuse_by_name || target_of(file).ends_with("/fuse");
  }
  // Nearly every process ends here, and nothing of its files was touched.
  if (!has_fuse_by_name) return false;
  bool has_fuse = false;
  bool has_device = false;
  for (const std::string& file : files) {
    const auto status = cached_status(file);
    if (!status) continue;
    const dev_t number = makedev(status->stx_rdev_major, status->stx_rdev_minor);
    has_fuse =
        has_fuse || (S_ISCHR(status->stx_mode) && number == makedev(kFuseDeviceMajor, kFuseDeviceMinor));
    has_device = has_device || (S_ISBLK(status->stx_mode) && number == device);
  }
  return has_fuse && has_device && !is_this_program(process);
}

}  // namespace

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, CloseDirectory> directory(::opendir(path.c_str()));
  if (!directory) return names;
  while (const dirent* const entry = ::readdir(directory.get()))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  return names;
}

std::optional<struct statx> cached_status(const std::string& path) {
  struct statx status = {};
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO,
              &status) != 0)
    return std::nullopt;
  return status;
}

bool RunningServer::ends_within(std::chrono::milliseconds patience) const {
  pollfd wait{.fd = process_.get(), .events = POLLIN, .revents = 0};
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    const int ready = ::poll(&wait, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready >= 0 || errno != EINTR) return ready == 1;
  }
}

Result<void> RunningServer::send_signal(int signal) const {
  if (::syscall(SYS_pidfd_send_signal, process_.get(), signal, nullptr, 0) != 0) return fail_last();
  return {};
}

std::vector<RunningServer> servers_of(dev_t device) {
  std::vector<RunningServer> servers;
  for (const std::string& name : names_in("/proc")) {
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    // First the process, then its files: still alive after that, the files were its own and not those of a
    // later process of this number.
    RunningServer server(UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))), pid);
    if (serves("/proc/" + name, device) && server.send_signal(0)) servers.push_back(std::move(server));
  }
  return servers;
}

bool has_writing_server(dev_t device) {
  return std::ranges::any_of(servers_of(device), [&](const RunningServer& server) {
    return may_write(fmt::format("/proc/{}", server.pid()), device);
  });
}

}  // namespace fuse4fs::helper
