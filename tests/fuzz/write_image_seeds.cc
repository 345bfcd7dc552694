// SPDX-License-Identifier: GPL-2.0-or-later
// write_image_seeds DIRECTORY: the inputs that fuzz_image starts from.
#include <filesystem>
#include <fstream>

#include "tests/hostile/images/damage.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path directory = argv[1];
  std::filesystem::create_directories(directory);
  for (const auto& [name, program] : fuse4fs::hostile::damage_seeds()) {
    std::ofstream(directory / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(program.data()), static_cast<std::streamsize>(program.size()));
  }
}
