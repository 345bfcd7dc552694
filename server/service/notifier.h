// SPDX-License-Identifier: GPL-2.0-or-later
// What the server tells the service manager about itself (sd_notify(3)), over the connected datagram socket
// that the helper gave: the server can make none.
//
// Without a socket nothing is said. Never waits, but for ready(): what systemd has no room for is left out,
// and the status is tried again next time. alive() may be called by any thread at any time; the rest by one
// thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace fuse4fs::service {

// What `systemctl status` shows of a mount.
struct MountStatus {
  std::string device;
  std::string mount_point;
  bool read_only = false;
  std::uint64_t size = 0, free = 0;  // bytes; size 0: not known
  std::uint64_t errors = 0;          // of the volume and the device, since the mount
};
// "/dev/sdb1 on /mnt: 12.3 GiB of 57.6 GiB free, no errors". Plain ASCII whatever the names are.
std::string text_of(const MountStatus& status);

class Notifier {
 public:
  // Anything but a datagram socket of the family AF_UNIX is closed.
  explicit Notifier(UniqueFd socket = {});

  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] bool connected() const { return static_cast<bool>(socket_); }

  // The mount serves.
  void ready(std::string_view status);
  // Nothing is sent if systemd has heard the same already.
  void status(std::string_view status);
  void stopping(std::string_view status);
  // Requests move. What systemd is waiting for, be it a sign of life, a start or a stop, may take so much
  // longer.
  void alive(std::chrono::microseconds limit) const;

 private:
  [[nodiscard]] bool send(std::string_view message) const;

  UniqueFd socket_;
  std::string told_;  // the last status that was sent
};

}  // namespace fuse4fs::service
