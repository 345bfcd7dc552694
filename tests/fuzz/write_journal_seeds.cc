// SPDX-License-Identifier: GPL-2.0-or-later
// write_journal_seeds DIRECTORY: the inputs that fuzz_journal starts from.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "journal_input.h"

int main(int count, char** words) {
  if (count != 2) {
    std::fprintf(stderr, "usage: write_journal_seeds DIRECTORY\n");
    return 2;
  }
  const std::filesystem::path directory = words[1];
  std::filesystem::create_directories(directory);
  for (const auto& seed : fuse4fs::journal::fuzz::journal_seeds()) {
    std::ofstream file(directory / seed.name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(seed.bytes.data()),
               static_cast<std::streamsize>(seed.bytes.size()));
    if (!file) {
      std::fprintf(stderr, "cannot write %s\n", (directory / seed.name).c_str());
      return 1;
    }
  }
}
