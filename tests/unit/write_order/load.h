// SPDX-License-Identifier: GPL-2.0-or-later
// Random changes of a volume, the same for the same seed, and what was promised meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>

#include "tests/unit/write_order/promises.h"

namespace fuse4fs::ext4 {

class Load {
 public:
  // `moment` tells how many operations the device has recorded.
  Load(FileSystem& fs, std::uint64_t seed, std::function<Moment()> moment)
      : fs_(fs), random_(seed), moment_(std::move(moment)) {}

  // A tree with directories of more than one block, synced.
  void prepare();
  void run(std::size_t steps);

  [[nodiscard]] const Promises& promises() const { return promises_; }

 private:
  using Step = void (Load::*)();
  std::size_t draw(std::size_t below) { return random_() % below; }
  std::string new_name();
  InodeNumber a_directory();
  std::optional<Place> a_name(bool of_directories);
  std::optional<InodeNumber> a_file();
  void check(const Result<void>& done, std::string_view doing);

  void make_file_in(InodeNumber parent, std::size_t most);
  void make_file() { make_file_in(a_directory(), 6000); }
  void make_directory();
  void make_symlink();
  void write();
  void truncate();
  void link();
  void unlink();
  void remove_directory();
  void rename();
  void replace();
  void exchange();
  void set_xattr();
  void sync();
  void sync_file();
  void write_back();

  FileSystem& fs_;
  std::mt19937_64 random_;
  std::function<Moment()> moment_;
  Promises promises_;
  std::uint64_t next_tag_ = 1;
};

}  // namespace fuse4fs::ext4
