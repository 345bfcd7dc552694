// SPDX-License-Identifier: GPL-2.0-or-later
// For loads on the engine alone, of which callgrind counts the instructions: an image mounted in this
// process, and parts that are counted and dumped each by itself. What fails ends the program, with words.
//
// Locking: none, one thread.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
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
inline void must(const Result<void>& result, std::string_view what) {
  if (result) return;
  fmt::print(stderr, "{}: {}\n", what, result.error().message());
  std::exit(1);
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

inline std::unique_ptr<ext4::FileSystem> mount(const char* image, Words& words) {
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

}  // namespace fuse4fs::bench
