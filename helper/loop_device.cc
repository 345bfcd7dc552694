// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/loop_device.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "base/quoted.h"
#include "helper/mount_table.h"
#include "helper/waiting.h"

namespace fuse4fs::helper {
namespace {

// Two helpers for one image must not both find it free. The lock lasts until the loop device is made.
class FileLock {
 public:
  static Result<FileLock> take(int file) {
    return retry_while_busy(
        [&]() -> Result<FileLock> {
          if (::flock(file, LOCK_EX | LOCK_NB) != 0) return fail_last();
          return FileLock(file);
        },
        kPatience);
  }
  FileLock(FileLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock() {
    if (file_ >= 0) ::flock(file_, LOCK_UN);
  }

 private:
  explicit FileLock(int file) : file_(file) {}
  int file_;
};

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

std::optional<loop_info64> status_of(const std::string& path) {
  const UniqueFd device(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  loop_info64 info = {};
  if (!device || ::ioctl(device.get(), LOOP_GET_STATUS64, &info) != 0) return std::nullopt;
  return info;
}

struct BoundLoop {
  std::string path;
  loop_info64 info = {};
};

std::vector<BoundLoop> loop_devices_of(const struct stat& image) {
  std::vector<BoundLoop> loops;
  const std::unique_ptr<DIR, CloseDirectory> directory(::opendir("/sys/block"));
  if (!directory) return loops;
  while (const dirent* const entry = ::readdir(directory.get())) {
    const std::string name = entry->d_name;
    if (!name.starts_with("loop")) continue;
    // Opening an unbound loop device is slow and wakes udev: ask sysfs which are bound.
    if (::access(fmt::format("/sys/block/{}/loop/backing_file", name).c_str(), F_OK) != 0) continue;
    const auto info = status_of("/dev/" + name);
    if (info && info->lo_device == image.st_dev && info->lo_inode == image.st_ino)
      loops.push_back({.path = "/dev/" + name, .info = *info});
  }
  return loops;
}

// The loop device that stands in the way of a further one with `access`.
std::optional<std::string> rival_of(const struct stat& image, Access access) {
  for (BoundLoop& loop : loop_devices_of(image)) {
    const bool both_only_read = access == Access::kReadOnly && (loop.info.lo_flags & LO_FLAGS_READ_ONLY) != 0;
    if (!both_only_read) return std::move(loop.path);
  }
  return std::nullopt;
}

// One free loop device, bound to the image. EBUSY if somebody else was faster.
Result<LoopDevice> bind_free_device(int control, int image, Access access) {
  const int number = ::ioctl(control, LOOP_CTL_GET_FREE);
  if (number < 0) return fail_last();
  LoopDevice loop{.device = {}, .path = fmt::format("/dev/loop{}", number)};
  const int mode = access == Access::kReadOnly ? O_RDONLY : O_RDWR;
  loop.device.reset(::open(loop.path.c_str(), mode | O_CLOEXEC));
  if (!loop.device) return fail_last();
  loop_config config = {};
  config.fd = static_cast<std::uint32_t>(image);
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
  if (access == Access::kReadOnly) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  int result = ::ioctl(loop.device.get(), LOOP_CONFIGURE, &config);
  if (result != 0 && errno == EINVAL) {
    // The image's file system has no direct I/O, or not in these units.
    config.info.lo_flags &= ~static_cast<std::uint32_t>(LO_FLAGS_DIRECT_IO);
    result = ::ioctl(loop.device.get(), LOOP_CONFIGURE, &config);
  }
  if (result != 0) return fail_last();
  // A write protection that an earlier user of this device number set by BLKROSET outlives its file.
  const int off = 0;
  if (access == Access::kReadWrite) (void)::ioctl(loop.device.get(), BLKROSET, &off);
  return loop;
}

}  // namespace

std::vector<std::string> whole_loop_devices_of(const struct stat& image) {
  std::vector<std::string> paths;
  for (BoundLoop& loop : loop_devices_of(image))
    if (loop.info.lo_offset == 0 && loop.info.lo_sizelimit == 0) paths.push_back(std::move(loop.path));
  return paths;
}

Outcome<LoopDevice> make_loop_device(int image, const std::string& name, Access access) {
  const auto lock = FileLock::take(image);
  if (!lock) {
    return fail(lock.error(),
                fmt::format("{} is locked by another program ({})", quoted(name), lock.error().message()));
  }
  struct stat status = {};
  if (::fstat(image, &status) != 0)
    return fail(Errno::last(), fmt::format("{}: {}", quoted(name), Errno::last().message()));
  if (const auto rival = rival_of(status, access)) {
    struct stat device = {};
    const dev_t number = ::stat(rival->c_str(), &device) == 0 ? device.st_rdev : 0;
    if (const auto mount_point = mount_point_of(number, *rival)) {
      return fail(Errno(EBUSY),
                  fmt::format("{} is in use already, through {}, which is mounted on {}: unmount that first",
                              quoted(name), *rival, quoted(*mount_point)));
    }
    return fail(Errno(EBUSY),
                fmt::format("{} is in use already, through {}: mount that device, or release it with "
                            "losetup -d {}",
                            quoted(name), *rival, *rival));
  }
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) {
    return fail(Errno::last(),
                fmt::format("{} needs a loop device, and /dev/loop-control cannot be opened: {}",
                            quoted(name), Errno::last().message()));
  }
  auto loop = retry_while_busy([&] { return bind_free_device(control.get(), image, access); }, kPatience);
  if (!loop)
    return fail(loop.error(), fmt::format("no loop device for {}: {}", quoted(name), loop.error().message()));
  return std::move(*loop);
}

}  // namespace fuse4fs::helper
