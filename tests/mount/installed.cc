// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/mount/installed.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstring>

#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace fs = std::filesystem;

Overlay::Overlay(std::string_view directory, const fs::path& scratch)
    : directory_(directory), layer_(scratch / fs::path(directory).filename()) {
  // The upper layer cannot lie on every file system; a tmpfs is always good.
  fs::create_directory(layer_);
  EXPECT_EQ(::mount("tmpfs", layer_.c_str(), "tmpfs", 0, "mode=755"), 0) << std::strerror(errno);
  fs::create_directory(layer_ / "upper");
  fs::create_directory(layer_ / "work");
  const auto options = "lowerdir=" + directory_ + ",upperdir=" + (layer_ / "upper").string() +
                       ",workdir=" + (layer_ / "work").string();
  EXPECT_EQ(::mount("overlay", directory_.c_str(), "overlay", 0, options.c_str()), 0) << std::strerror(errno);
}

Overlay::~Overlay() {
  ::umount2(directory_.c_str(), MNT_DETACH);
  ::umount2(layer_.c_str(), MNT_DETACH);
}

Fstab::Fstab(const fs::path& scratch) : file_(scratch / "fstab") {
  write("");
  if (!fs::exists("/etc/fstab")) write_file("/etc/fstab", "");  // something to mount on
  EXPECT_EQ(::mount(file_.c_str(), "/etc/fstab", nullptr, MS_BIND, nullptr), 0) << std::strerror(errno);
}

Fstab::~Fstab() { ::umount2("/etc/fstab", MNT_DETACH); }

void Fstab::write(std::string_view lines) const { write_file(file_, lines); }

Installed::Installed(const fs::path& scratch)
    : programs_("/usr/sbin", scratch), servers_("/usr/libexec", scratch) {
  const fs::path programs = programs_.directory();
  fs::copy_file(FUSE4FS_HELPER, programs / "mount.fuse4fs", fs::copy_options::overwrite_existing);
  fs::remove(programs / "mount.fuseblk.fuse4fs");
  fs::create_symlink("mount.fuse4fs", programs / "mount.fuseblk.fuse4fs");
  fs::create_directories(fs::path(servers_.directory()) / "fuse4fs");
  fs::copy_file(FUSE4FS_SERVER, fs::path(servers_.directory()) / "fuse4fs/fuse4fs",
                fs::copy_options::overwrite_existing);
}

}  // namespace fuse4fs::test
