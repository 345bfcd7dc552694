// SPDX-License-Identifier: GPL-2.0-or-later
// Volumes in memory for fuzzers: made once by mke2fs and the engine, copied for each input.
//
// Locking: none, one thread. What cannot happen to a fuzzer in its right place ends the process (require()).
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4::fuzz {

inline constexpr std::size_t kBlockSize = 1024;

// Ends the process, as a finding, where a promise is broken.
void require(bool holds, const char* promise);

class QuietEvents : public Events {
 public:
  void corruption(std::string_view, const EventSubject&) override {}
  void device_error(std::string_view, const EventSubject&) override {}
  void notice(Notice, std::string_view) override {}
};

class MemoryVolume {
 public:
  // Pages of zeros stay holes: most of a volume is free, and a fuzzer lives of how often it can do this.
  explicit MemoryVolume(std::string_view bytes);

  // A device of its own on the same memory.
  [[nodiscard]] cache::BlockDevice device(cache::Access access = cache::Access::kReadWrite) const;
  [[nodiscard]] std::string bytes() const;
  // Whether these are its bytes, where `bytes` are those that it was made of: no hole was written to.
  [[nodiscard]] bool still_holds(std::string_view bytes) const;

 private:
  UniqueFd file_;
  std::size_t size_;
};

// `mke2fs_options` as on its command line, without the block size (1 KiB), the device and its size (as mke2fs
// takes it). `fill` gets the mounted volume.
std::string make_volume(const std::string& mke2fs_options, const std::string& size,
                        const std::function<void(FileSystem&)>& fill);

// The structure that lies there.
template <class T>
T at(std::string_view bytes, std::size_t offset) {
  require(offset <= bytes.size() && sizeof(T) <= bytes.size() - offset, "a structure inside the volume");
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// A new inode with this many pieces of 1 KiB, each 4 KiB behind the last.
InodeNumber make_inode(FileSystem& fs, InodeNumber parent, std::string_view name, mode_t mode,
                       std::size_t pieces = 0);

}  // namespace fuse4fs::ext4::fuzz
