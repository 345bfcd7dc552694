// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/helper/support.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "base/unique_fd.h"

namespace fuse4fs::helper::testing {

namespace fs = std::filesystem;

bool mount_in_private() {
  static const bool done =
      ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  return done;
}

TemporaryDirectory::TemporaryDirectory() {
  std::string name = "/tmp/helper-test-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
  // The server is another user, and comes here for its program.
  fs::permissions(path_, fs::perms::owner_all | fs::perms::others_exec | fs::perms::others_read);
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string TemporaryDirectory::make_image(const std::string& name, std::uintmax_t bytes) const {
  std::ofstream(path(name)).close();
  fs::resize_file(path(name), bytes);
  return path(name);
}

std::string TemporaryDirectory::make_directory(const std::string& name) const {
  fs::create_directories(path(name));
  fs::permissions(path(name), fs::perms::owner_all | fs::perms::others_exec | fs::perms::others_read);
  return path(name);
}

int loop_devices_of(const std::string& image) {
  struct stat status = {};
  if (::stat(image.c_str(), &status) != 0) return -1;
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/sys/block")) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop") || !fs::exists(entry.path() / "loop/backing_file")) continue;
    const UniqueFd device(::open(("/dev/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 info = {};
    if (device && ::ioctl(device.get(), LOOP_GET_STATUS64, &info) == 0 && info.lo_device == status.st_dev &&
        info.lo_inode == status.st_ino)
      ++count;
  }
  return count;
}

int loop_devices_left(const std::string& image) {
  // A minute at most.
  for (int i = 0; i < 600 && loop_devices_of(image) > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  return loop_devices_of(image);
}

dev_t device_number_of(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_rdev : 0;
}

}  // namespace fuse4fs::helper::testing
