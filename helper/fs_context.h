// SPDX-License-Identifier: GPL-2.0-or-later
// One superblock in the making: fsopen(2) to fsmount(2). Keeps the first error with the kernel's own words
// for it.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

class FsContext {
 public:
  explicit FsContext(const char* type);

  // Nothing is done after a failure.
  void set(const char* key, const std::string& value);
  void set(const char* flag);
  void create();
  // `attributes`: MOUNT_ATTR_*.
  Result<UniqueFd> mount(unsigned attributes);

  [[nodiscard]] bool ok() const { return error_ == Errno(0); }
  [[nodiscard]] Errno error() const { return error_; }
  [[nodiscard]] const std::string& words() const { return words_; }

 private:
  void note(int result, const char* step);

  UniqueFd fd_;
  Errno error_{0};
  std::string words_;
};

// Whether file systems of the type know this option, by trying it on one that is never made.
bool takes_option(const char* type, const char* key, const std::string& value);

}  // namespace fuse4fs::helper
