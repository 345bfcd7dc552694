// SPDX-License-Identifier: GPL-2.0-or-later
// One file of many extents, on the engine alone, for callgrind to count the instructions of:
//
//   map_cost IMAGE PIECES SAMPLE
//
// Makes a file of so many pieces of 4 KiB with a hole behind each, mounts anew, reads SAMPLE of the pieces in
// no order, reads as many from the beginning in order, and writes as many behind the end. Of each part
// callgrind dumps what it counted:
//
//   valgrind --tool=callgrind --instr-atstart=no map_cost IMAGE 1000 2000
#include <fmt/format.h>

#include <array>
#include <cstdlib>

#include "tests/bench/counted_engine.h"

namespace fuse4fs::bench {
namespace {

constexpr std::size_t kPiece = 4096;

int run(const char* image, std::uint64_t pieces, std::uint64_t sample) {
  Words words;
  std::array<std::byte, kPiece> bytes{};
  auto fs = mount(image, words);
  const auto file = must(fs->make(ext4::kRootInode, "file", {.mode = S_IFREG | 0644}), "make").inode;
  const auto write = [&](std::uint64_t block) {
    must(fs->write(file, block * kPiece, bytes, ext4::AttributeChanges::Privileges::kKeep), "write");
  };
  const auto read = [&](std::uint64_t block) {
    must(fs->read(file, block * kPiece, bytes, ext4::AccessTime::kKeep), "read");
  };
  for (std::uint64_t i = 0; i < pieces; ++i) write(2 * i);
  must(fs->unmount(), "unmount");
  fs = mount(image, words);
  must(fs->lookup(ext4::kRootInode, "file"), "look up");
  // Its nodes come into the cache.
  for (std::uint64_t i = 0; i < pieces; ++i) read(2 * i);
  constexpr std::uint64_t kPrime = 7'368'787;
  counted("random reads", [&] {
    for (std::uint64_t i = 0; i < sample; ++i) read(2 * (i * kPrime % pieces));
  });
  counted("reads in order", [&] {
    for (std::uint64_t i = 0; i < sample; ++i) read(i % (2 * pieces));
  });
  counted("writes in order", [&] {
    for (std::uint64_t i = 0; i < sample; ++i) write(2 * pieces + i);
  });
  must(fs->unmount(), "unmount");
  return 0;
}

}  // namespace
}  // namespace fuse4fs::bench

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "map_cost IMAGE PIECES SAMPLE\n");
    return 2;
  }
  return fuse4fs::bench::run(argv[1], std::strtoull(argv[2], nullptr, 10),
                             std::strtoull(argv[3], nullptr, 10));
}
