// SPDX-License-Identifier: GPL-2.0-or-later
// write_journal_seeds DIRECTORY [IMAGE...]: the inputs that fuzz_journal starts from. Each image is a volume
// with blocks of 1 KiB and a dirty journal, whose log becomes one as well.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "image_journal.h"
#include "journal_input.h"

namespace {

using namespace fuse4fs;
namespace fuzz = fuse4fs::journal::fuzz;

Outcome<std::vector<std::byte>> from_image(const char* path) {
  ASSIGN_OR_RETURN(const auto journal, journal::tools::ImageJournal::open(path));
  if (journal->expectation().block_size != fuzz::kBlockSize)
    return fail(Errno(EINVAL), "its blocks are not of 1 KiB");
  ASSIGN_OR_RETURN(const auto superblock, journal::read_superblock(journal->log(), journal->expectation()));
  if (!superblock.needs_recovery()) return fail(Errno(EINVAL), "its journal is clean");
  return fuzz::as_input(journal->log(), superblock);
}

}  // namespace

int main(int count, char** words) {
  if (count < 2) {
    std::fprintf(stderr, "usage: write_journal_seeds DIRECTORY [IMAGE...]\n");
    return 2;
  }
  auto seeds = fuzz::journal_seeds();
  for (int index = 2; index < count; ++index) {
    auto bytes = from_image(words[index]);
    if (!bytes) {
      std::fprintf(stderr, "%s: %s\n", words[index], bytes.error().message.c_str());
      return 1;
    }
    seeds.push_back({std::filesystem::path(words[index]).filename().string(), std::move(*bytes)});
  }
  const std::filesystem::path directory = words[1];
  std::filesystem::create_directories(directory);
  for (const auto& seed : seeds) {
    std::ofstream file(directory / seed.name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(seed.bytes.data()),
               static_cast<std::streamsize>(seed.bytes.size()));
    if (!file) {
      std::fprintf(stderr, "cannot write %s\n", (directory / seed.name).c_str());
      return 1;
    }
  }
}
