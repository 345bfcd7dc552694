// SPDX-License-Identifier: GPL-2.0-or-later
// mount.fuse4fs and its server where mount(8) looks for them: in /usr, as this test's mount namespace sees
// it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace fuse4fs::test {

// One directory of /usr with a layer of this test's own on top, while it lives.
class Overlay {
 public:
  // `scratch`: an existing directory for the layer.
  Overlay(std::string_view directory, const std::filesystem::path& scratch);
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;
  ~Overlay();

  [[nodiscard]] const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
  std::filesystem::path layer_;
};

// /etc/fstab of this test alone, while it lives: empty at first.
class Fstab {
 public:
  // `scratch`: an existing directory for the file.
  explicit Fstab(const std::filesystem::path& scratch);
  Fstab(const Fstab&) = delete;
  Fstab& operator=(const Fstab&) = delete;
  ~Fstab();

  // The whole of it.
  void write(std::string_view lines) const;

 private:
  std::filesystem::path file_;
};

class Installed {
 public:
  explicit Installed(const std::filesystem::path& scratch);

 private:
  Overlay programs_;
  Overlay servers_;
};

}  // namespace fuse4fs::test
