// SPDX-License-Identifier: GPL-2.0-or-later
// An image that the kernel's ext4 wrote one file of zeros into, behind a loop device; and what ext4 and
// e2fsck say of it afterwards. Needs root.
//
// Not for several threads. Errors are std::runtime_error: nothing can go on after them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace fuse4fs::iomap_model {

class Ext4Image {
 public:
  static constexpr const char* kFileName = "file0";

  // The file lies in several pieces, beside those of another.
  explicit Ext4Image(std::uint64_t file_bytes);
  ~Ext4Image();
  Ext4Image(const Ext4Image&) = delete;
  Ext4Image& operator=(const Ext4Image&) = delete;

  // FIEMAP. Bytes.
  struct Extent {
    std::uint64_t offset = 0, length = 0, address = 0;
  };
  [[nodiscard]] const std::vector<Extent>& extents() const { return extents_; }
  [[nodiscard]] std::uint64_t file_bytes() const { return file_bytes_; }
  // The loop device.
  [[nodiscard]] int device() const { return device_.get(); }

  // What e2fsck -fn says against it; empty if nothing.
  [[nodiscard]] std::string check() const;
  // Calls judge(offset, bytes) with all of the file, as the kernel's ext4 reads it.
  using Judge = std::function<void(std::uint64_t offset, std::span<const std::byte> bytes)>;
  void read_back(const Judge& judge) const;

 private:
  void fill() const;
  void find_extents();
  void mount(unsigned long flags) const;
  void unmount() const;

  const std::uint64_t file_bytes_;
  std::filesystem::path directory_;
  std::string device_path_;
  UniqueFd device_;
  std::vector<Extent> extents_;
};

}  // namespace fuse4fs::iomap_model
