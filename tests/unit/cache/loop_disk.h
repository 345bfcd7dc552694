// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"

namespace fuse4fs::cache {

// A loop device over a file without a name, free again when its last descriptor is closed; where there are
// none, the file: its page cache and direct transfers are to be as coherent.
class LoopDisk {
 public:
  static constexpr std::size_t kSize = std::size_t{1} << 20;  // bytes

  explicit LoopDisk(std::size_t sector = 512) : file_(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
    path_ = fmt::format("/proc/self/fd/{}", file_.get());
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!file_ || ::ftruncate(file_.get(), kSize) != 0 || !control) return;
    constexpr int kTries = 20;  // others look for a free one, too
    for (int tried = 0; tried < kTries && !loop_; ++tried) {
      const std::string path = fmt::format("/dev/loop{}", ::ioctl(control.get(), LOOP_CTL_GET_FREE));
      loop_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
      loop_config config{};
      config.fd = static_cast<std::uint32_t>(file_.get());
      config.block_size = static_cast<std::uint32_t>(sector);
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
      if (!loop_ || ::ioctl(loop_.get(), LOOP_CONFIGURE, &config) != 0)
        loop_.reset();
      else
        path_ = path;
    }
  }
  [[nodiscard]] UniqueFd open(int flags) const {
    return UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC | flags));
  }

 private:
  UniqueFd file_;
  UniqueFd loop_;
  std::string path_;
};

}  // namespace fuse4fs::cache
