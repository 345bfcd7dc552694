// SPDX-License-Identifier: GPL-2.0-or-later
// One directory of many names, on the engine alone: what directory-cost has callgrind count the instructions
// of.
//
//   directory_cost IMAGE NAMES SAMPLE
//
// Makes "d" with NAMES names; of the last SAMPLE of them the instructions are counted. Mounted anew, it is
// listed whole, then SAMPLE names in it, in no order, are looked up, and taken away. Of each part callgrind
// dumps what it counted.
#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "tests/bench/counted_engine.h"

namespace fuse4fs::bench {
namespace {

struct Load {
  std::unique_ptr<ext4::FileSystem> fs;
  ext4::InodeNumber directory = 0;
  std::uint64_t names = 0;
  std::uint64_t sample = 0;
  [[nodiscard]] std::string name(std::uint64_t i) const { return fmt::format("file{:07}", i); }
  // Each of the names once, in no order that helps.
  [[nodiscard]] std::string any_name(std::uint64_t i) const {
    constexpr std::uint64_t kPrime = 7'368'787;
    return name(i * kPrime % names);
  }
};

void make(Load& load, std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t i = begin; i < end; ++i) {
    const auto made = must(load.fs->make(load.directory, load.name(i), {.mode = S_IFREG | 0644}), "make");
    load.fs->forget(made.inode, 1);
  }
}

void look_up(Load& load) {
  for (std::uint64_t i = 0; i < load.sample; ++i) {
    const auto found = must(load.fs->lookup(load.directory, load.any_name(i)), "lookup");
    load.fs->forget(found.inode, 1);
  }
}

// As READDIR asks for it: 32 KiB at a time.
std::uint64_t list(Load& load) {
  constexpr std::size_t kRequest = 32768;
  std::uint64_t listed = 0;
  std::uint64_t cookie = 0;
  for (bool more = true; more;) {
    more = false;
    std::size_t room = kRequest;
    must(load.fs->read_directory(load.directory, cookie,
                                 [&](const ext4::DirectoryEntry& entry) {
                                   const std::size_t needed =
                                       24 + ((entry.name.size() + 7) & ~std::size_t{7});
                                   if (needed > room) return false;
                                   room -= needed;
                                   cookie = entry.next;
                                   ++listed;
                                   return more = true;
                                 }),
         "list");
  }
  return listed;
}

void unlink(Load& load) {
  for (std::uint64_t i = 0; i < load.sample; ++i)
    must(load.fs->unlink(load.directory, load.any_name(i)), "unlink");
}

int run(const char* image, std::uint64_t names, std::uint64_t sample) {
  Words words;
  Load load{.fs = mount(image, words), .names = names, .sample = sample};
  load.directory = must(load.fs->make(ext4::kRootInode, "d", {.mode = S_IFDIR | 0755}), "mkdir").inode;
  make(load, 0, names - sample);
  counted("create", [&] { make(load, names - sample, names); });
  must(load.fs->unmount(), "unmount");
  load.fs = mount(image, words);
  load.directory = must(load.fs->lookup(ext4::kRootInode, "d"), "lookup").inode;
  const std::uint64_t listed = counted("list", [&] { return list(load); });
  if (listed != names + 2) {
    fmt::print(stderr, "{} names listed, of {}\n", listed, names + 2);
    return 1;
  }
  counted("look up", [&] { look_up(load); });
  counted("unlink", [&] { unlink(load); });
  must(load.fs->unmount(), "unmount");
  return 0;
}

}  // namespace
}  // namespace fuse4fs::bench

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "directory_cost IMAGE NAMES SAMPLE\n");
    return 2;
  }
  return fuse4fs::bench::run(argv[1], std::strtoull(argv[2], nullptr, 10),
                             std::strtoull(argv[3], nullptr, 10));
}
