// SPDX-License-Identifier: GPL-2.0-or-later
// write_directory_seeds DIRECTORY: the inputs that fuzz_directory starts from.
#include <filesystem>
#include <fstream>

#include "tests/fuzz/directory_input.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path directory = argv[1];
  std::filesystem::create_directories(directory);
  for (const auto& [name, input] : fuse4fs::ext4::fuzz::directory_seeds()) {
    std::ofstream(directory / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
  }
}
