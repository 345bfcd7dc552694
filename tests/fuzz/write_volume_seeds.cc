// SPDX-License-Identifier: GPL-2.0-or-later
// write_…_seeds DIRECTORY: the inputs that the fuzzer of FUZZED_AREA starts from.
#include <filesystem>
#include <fstream>

#include "tests/fuzz/volume_input.h"

int main(int argc, char** argv) {
  using namespace fuse4fs::ext4::fuzz;
  if (argc != 2) return 2;
  const std::filesystem::path directory = argv[1];
  std::filesystem::create_directories(directory);
  for (const auto& [name, input] : volume_seeds(Area::FUZZED_AREA)) {
    std::ofstream(directory / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
  }
}
