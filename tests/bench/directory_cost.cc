// SPDX-License-Identifier: GPL-2.0-or-later
// One directory of many names, on the engine alone: what directory-cost has callgrind count the instructions
// of.
//
//   directory_cost IMAGE NAMES SAMPLE
//
// Makes "d" with NAMES names; of the last SAMPLE of them the instructions are counted. Mounted anew, it is
// listed whole, then SAMPLE names in it, in no order, are looked up, and taken away. Of each part callgrind
// dumps what it counted.
#include <fcntl.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_DUMP_STATS_AT(name)
#endif

#include "base/unique_fd.h"
#include "server/cache/block_device.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::bench {
namespace {

class Words final : public ext4::Events {
 public:
  void corruption(std::string_view words, const ext4::EventSubject&) override { say(words); }
  void device_error(std::string_view words, const ext4::EventSubject&) override { say(words); }
  void notice(ext4::Notice, std::string_view words) override { say(words); }

 private:
  static void say(std::string_view words) { fmt::print(stderr, "{}\n", words); }
};

template <class T>
T must(Result<T> result, std::string_view what) {
  if (result) return std::move(*result);
  fmt::print(stderr, "{}: {}\n", what, result.error().message());
  std::exit(1);
}
void must(const Result<void>& result, std::string_view what) {
  if (result) return;
  fmt::print(stderr, "{}: {}\n", what, result.error().message());
  std::exit(1);
}

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

template <class Part>
auto counted(const char* name, Part part) {
  struct Counting {
    const char* name;
    ~Counting() {
      CALLGRIND_STOP_INSTRUMENTATION;
      CALLGRIND_DUMP_STATS_AT(name);
    }
  } const counting{name};
  CALLGRIND_START_INSTRUMENTATION;
  return part();
}

std::unique_ptr<ext4::FileSystem> mount(const char* image, Words& words) {
  auto device =
      cache::BlockDevice::adopt(UniqueFd(::open(image, O_RDWR | O_CLOEXEC)), {}, cache::Access::kReadWrite);
  if (!device) {
    fmt::print(stderr, "{}: {}\n", image, device.error().message);
    std::exit(1);
  }
  auto mounted = ext4::FileSystem::mount(std::move(*device), {}, words);
  if (mounted) return std::move(*mounted);
  fmt::print(stderr, "{}: {}\n", image, mounted.error().message);
  std::exit(1);
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
