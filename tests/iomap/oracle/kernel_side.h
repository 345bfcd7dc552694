// SPDX-License-Identifier: GPL-2.0-or-later
// The side of this machine's own ext4, on a loop device: real system calls.
//
// Needs root and loop devices. The mount is in a namespace of the calling thread's, made once.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/iomap/oracle/side.h"

namespace fuse4fs::iomap_model {

class KernelSide final : public Side {
 public:
  enum class Writing { kAllowed, kForbidden };
  // `image` is mounted at `point`, an empty directory.
  KernelSide(const std::filesystem::path& image, const std::filesystem::path& point, Writing writing,
             std::size_t files);
  ~KernelSide() override;
  KernelSide(const KernelSide&) = delete;
  KernelSide& operator=(const KernelSide&) = delete;

  // Why there can be none here; empty if there can.
  [[nodiscard]] static std::string impossible();

  Outcome apply(const Operation& operation) override;
  [[nodiscard]] std::uint64_t size(std::size_t file) override;
  [[nodiscard]] Layout layout(std::size_t file) override;
  [[nodiscard]] std::uint64_t free_bytes() override;

 private:
  [[nodiscard]] std::string path(std::size_t file) const { return point_ / file_name(file); }
  [[nodiscard]] UniqueFd open(std::size_t file, int flags) const;
  Outcome read(const Operation& operation, int fd);
  Outcome write(const Operation& operation, int fd);
  Outcome direct(const Operation& operation);
  Outcome store(const Operation& operation);
  Outcome seek(const Operation& operation);
  Outcome replace(const Operation& operation);
  void forget_pages(std::size_t file);

  const std::filesystem::path point_;
  const Writing writing_;
  std::vector<UniqueFd> files_;
};

}  // namespace fuse4fs::iomap_model
