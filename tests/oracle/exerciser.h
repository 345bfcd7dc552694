// SPDX-License-Identifier: GPL-2.0-or-later
// Random reads, writes and changes of ranges on one file of a mount, against a copy of its bytes in memory.
// A difference or a call that fails is a std::runtime_error with words.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "tests/oracle/volumes.h"

namespace fuse4fs::oracle {

// What goes through the page cache, through mappings too, past the cache too.
enum class Variant { kBuffered, kMapped, kMixed };
// What of fallocate(2) the file's form of map can do.
// kInPlace: nothing that moves bytes (collapse, insert), which the kernel's FUSE refuses.
enum class Ranges { kNone, kPunchOnly, kInPlace, kAll };

class Exerciser {
 public:
  struct Options {
    Variant variant = Variant::kBuffered;
    Ranges ranges = Ranges::kAll;
    std::size_t range_unit = 4096;  // bytes that collapse and insert must be multiples of
    std::uint64_t seed = 1;
  };
  Exerciser(Mounted& mounted, const Options& options);

  void step();
  void compare_whole();
  void close_file();
  // The same file on another mount.
  void move_to(Mounted& mounted);
  [[nodiscard]] const std::string& model() const { return model_; }
  [[nodiscard]] const std::deque<std::string>& log() const { return log_; }

 private:
  struct Free {
    void operator()(char* buffer) const { std::free(buffer); }
  };

  std::size_t below(std::size_t limit) { return random_() % limit; }
  void note(std::string what);
  void open_file();
  void compare(std::string_view found, std::size_t offset, const char* how);
  void grow(std::size_t size);
  std::string some_bytes(std::size_t length);
  std::size_t some_offset();
  std::size_t some_length();

  void read_buffered();
  void write_buffered();
  void read_mapped();
  void write_mapped();
  void read_direct();
  void write_direct();
  void truncate();
  void punch();
  void zero();
  void allocate();
  void collapse();
  void insert();
  void copy();
  void sync();
  void reopen();

  Mounted* mounted_;
  const Options options_;
  std::mt19937_64 random_;
  UniqueFd file_, direct_file_;
  std::unique_ptr<char, Free> direct_;
  std::string model_;
  std::deque<std::string> log_;
};

}  // namespace fuse4fs::oracle
