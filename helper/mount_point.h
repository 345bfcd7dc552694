// SPDX-License-Identifier: GPL-2.0-or-later
// Where the file system is mounted: a directory, opened once, in this or in another mount namespace (-N).
//
// Single-threaded: entering a namespace moves the whole process, and resets its working directory.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

// While it lives the process is in the namespace of a MountPoint.
class [[nodiscard]] NamespaceVisit {
 public:
  NamespaceVisit() = default;
  explicit NamespaceVisit(UniqueFd home) : home_(std::move(home)) {}
  NamespaceVisit(NamespaceVisit&&) = default;
  NamespaceVisit& operator=(NamespaceVisit&&) = delete;
  ~NamespaceVisit();

 private:
  UniqueFd home_;
};

class MountPoint {
 public:
  // `name_space`: a process number or a path; empty: this one.
  static Outcome<MountPoint> open(const std::string& path, const std::string& name_space);
  // A directory that was opened before: `directory` is copied, `path` is what it is called, canonical.
  static Outcome<MountPoint> adopt(const std::string& path, int directory);

  [[nodiscard]] const std::string& path() const { return path_; }   // canonical
  [[nodiscard]] int directory() const { return directory_.get(); }  // O_PATH
  [[nodiscard]] bool is_elsewhere() const { return static_cast<bool>(name_space_); }
  Result<NamespaceVisit> enter() const;

 private:
  MountPoint() = default;

  std::string path_;
  UniqueFd directory_;
  UniqueFd name_space_;
};

}  // namespace fuse4fs::helper
