// SPDX-License-Identifier: GPL-2.0-or-later
// The requests of fuse-iomap: CONFIG, BEGIN, END, IOEND, FREEZE_FS, UNFREEZE_FS, SHUTDOWN_FS.
//
// None is ever answered with ENOSYS: the kernel would not send its like again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "server/ext4/file_system.h"
#include "server/ext4/mapping_service.h"
#include "server/fuse/mapping_notifier.h"
#include "server/fuse/negotiation.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {

class MappingRequests {
 public:
  // `file_system` has mappings(), and outlives this, as `options.kernel`.
  MappingRequests(ext4::FileSystem& file_system, const SessionOptions& options);

  // Any thread. Answers the current request if its opcode is one of these.
  bool serve(std::uint32_t opcode, std::span<const std::byte> request);
  // CONFIG was answered: from now on the kernel sends everything else.
  [[nodiscard]] bool configured() const { return configured_; }
  // CONFIG could not be answered well, and why: the kernel gives the mount up.
  [[nodiscard]] std::optional<Errno> failure() const { return failure_; }

 private:
  void serve_known(Reply& reply, std::uint32_t opcode, std::span<const std::byte> request);
  void configure(Reply& reply, std::span<const std::byte> request);
  void begin(Reply& reply, std::span<const std::byte> request);
  void end(Reply& reply, std::span<const std::byte> request);
  void complete(Reply& reply, std::span<const std::byte> request);

  ext4::FileSystem& file_system_;
  ext4::MappingService& mappings_;
  const SessionOptions options_;
  std::uint32_t device_ = 0;  // set by CONFIG, before any other of these
  std::optional<MappingNotifier> notifier_;
  std::atomic<bool> configured_ = false;
  std::optional<Errno> failure_;  // of CONFIG, which one thread serves before there are others
};

}  // namespace fuse4fs::fuse
