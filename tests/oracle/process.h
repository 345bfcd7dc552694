// SPDX-License-Identifier: GPL-2.0-or-later
// Runs other programs, and copies images.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace fuse4fs::oracle {

struct Ran {
  int status = -1;     // exit status, or 128 + signal
  std::string output;  // standard output and error
};

Ran run(const std::vector<std::string>& command);
std::string contents_of(const std::filesystem::path& path);
// Byte for byte; holes stay holes. Throws std::runtime_error.
void copy_image(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace fuse4fs::oracle
