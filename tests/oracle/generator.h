// SPDX-License-Identifier: GPL-2.0-or-later
// Makes random steps from a seed. Looks at what there is (on the kernel's side), so that most steps have
// something to work on; a run is repeated from its list of steps, not from its seed alone.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/oracle/executor.h"
#include "tests/oracle/snapshot.h"
#include "tests/oracle/step.h"

namespace fuse4fs::oracle {

// What kinds of operations a run has.
enum class Class {
  kNames,
  kData,
  kRanges,
  kAttributes,
  kXattrs,
  kAcls,
  kFlags,
  kProjects,
  kTemporary,
  kMounts
};
struct ClassName {
  std::string_view name;
  Class value;
};
std::span<const ClassName> class_names();
using Classes = std::set<Class>;
Classes all_classes();

// The names that there are, by type: 'f'ile, 'd'irectory, 'l'ink, 's'pecial.
class Known {
 public:
  void learn(const Tree& tree);
  // What a step that went well has done to the names.
  void follow(const Step& step, const Returned& returned);
  [[nodiscard]] std::vector<std::string> of(char type) const;
  [[nodiscard]] const std::map<std::string, char>& all() const { return types_; }
  [[nodiscard]] const std::set<std::string>& locked() const { return locked_; }  // immutable or append-only
  [[nodiscard]] bool is_open(int slot) const { return open_.contains(slot); }
  [[nodiscard]] const std::set<int>& open() const { return open_; }

 private:
  void move(const std::string& from, const std::string& to);
  void remove(const std::string& path);

  std::map<std::string, char> types_{{".", 'd'}};
  std::set<std::string> locked_;
  std::set<int> open_;
};

class Generator {
 public:
  Generator(std::uint64_t seed, Classes classes) : random_(seed), classes_(std::move(classes)) {}

  // `free_percent`: below a quarter it makes room.
  Step next(std::uint64_t free_percent);
  Known& known() { return known_; }

 private:
  using Make = Step (Generator::*)();
  struct Choice {
    Class of;
    unsigned weight;
    Make make;
  };
  static std::span<const Choice> choices();

  // generator_names.cc
  Step create();
  Step make_directory();
  Step remove_directory();
  Step unlink_name();
  Step rename_name();
  Step link_name();
  Step make_symlink();
  Step read_link();
  Step make_node();
  Step open_file();
  Step close_file();
  Step list();
  Step temporary();
  Step link_slot();
  Step remount();
  Step swap();
  Step drop_caches();
  // generator_data.cc
  Step write_bytes();
  Step read_bytes();
  Step direct_write();
  Step direct_read();
  Step truncate_file();
  Step sync_file();
  Step change_range();
  Step seek();
  Step copy();
  // generator_attributes.cc
  Step change_mode();
  Step change_owner();
  Step set_times();
  Step may_access();
  Step status();
  Step volume();
  Step set_xattr();
  Step get_xattr();
  Step list_xattrs();
  Step remove_xattr();
  Step set_acl();
  Step drop_acl();
  Step get_flags();
  Step set_flags();
  Step get_project();
  Step set_project();

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool one_in(std::uint64_t count) { return below(count) == 0; }
  template <class Container>
  auto pick(const Container& from) {
    return *std::next(std::begin(from), static_cast<std::ptrdiff_t>(below(std::size(from))));
  }
  int somebody() { return one_in(2) ? 0 : static_cast<int>(below(kActors)); }
  // A path that is there, of that type if there is one; now and then another, or one that is not there.
  std::string some(char type);
  std::string fresh();  // in a directory that is there
  std::string entry_name();
  // By path, or through an open file.
  void aim(Step& step, char type);
  std::string xattr_name();
  std::string acl_text();
  timespec some_time();
  std::int64_t some_offset();

  std::mt19937_64 random_;
  Classes classes_;
  Known known_;
};

}  // namespace fuse4fs::oracle
