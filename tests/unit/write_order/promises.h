// SPDX-License-Identifier: GPL-2.0-or-later
// What a power cut must leave of a volume without a journal, once e2fsck has been over it.
//
// A sync promises names and contents. A promise lasts until a change of what it is about; a rename does not
// end it, but adds a name under which the file may be found. Points in time are counts of the recorded
// device's operations: a promise counts for cuts between its sync and its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

using Moment = std::size_t;
inline constexpr Moment kNever = SIZE_MAX;

struct Place {
  InodeNumber parent = 0;
  std::string name;
  auto operator<=>(const Place&) const = default;
};

// What is found behind a name. A missing content: whatever it is.
struct Answer {
  InodeNumber inode = 0;
  Place place;
  std::optional<std::string> content{};
};

// One of the answers must be found.
struct Promise {
  std::vector<Answer> answers;
  Moment from = 0, until = kNever;
};

// A file whose blocks may not show what was never written to it: synced, and not written to since.
struct Purity {
  InodeNumber inode = 0;
  std::uint32_t generation = 0;
  std::uint64_t tag = 0;
  Moment from = 0, until = kNever;
};

// What was found in an image after e2fsck and a mount.
struct Survivors {
  std::map<Place, InodeNumber> names{};  // but for "." and ".."
  struct File {
    std::uint32_t generation = 0;
    std::string content;
  };
  std::map<InodeNumber, File> files{};  // regular ones; symbolic links with their targets
};

// `length` bytes of records that name their file.
std::string tagged(std::uint64_t tag, std::uint64_t salt, std::size_t length);
// Whether there is nothing else in it but records of this file and zeros.
bool is_pure(std::uint64_t tag, const std::string& content);

// The tree that was made, and what was promised of it.
class Promises {
 public:
  struct Node {
    InodeNumber inode = 0;
    std::uint32_t generation = 0;
    bool is_directory = false;
    std::uint64_t tag = 0;
    std::string content{};
    std::set<Place> places{};
    bool is_synced = false;  // its present content
    std::optional<std::size_t> purity{};
  };

  // The moment before what is noted next.
  void at(Moment moment) { now_ = moment; }

  void made(const Node& node, const Place& place);
  void linked(InodeNumber inode, const Place& place);
  void changed(InodeNumber inode, std::string content);
  // Only shortened.
  void truncated(InodeNumber inode, std::size_t length);
  // Another attribute than content.
  void touched(InodeNumber inode);
  void unlinked(const Place& place);
  // Over `to`, if that is there.
  void renamed(const Place& from, const Place& to);
  // No order of two writes keeps both names of both: it ends what was promised.
  void exchanged(const Place& first, const Place& second);
  // All of it, as it is, at `moment`.
  void synced(Moment moment);
  // One inode, with all its names.
  void synced(InodeNumber inode, Moment moment);

  [[nodiscard]] const std::map<InodeNumber, Node>& nodes() const { return nodes_; }
  [[nodiscard]] const std::map<Place, InodeNumber>& names() const { return names_; }

  // What is broken at this cut, a line each.
  [[nodiscard]] std::vector<std::string> broken(Moment cut, const Survivors& found) const;
  [[nodiscard]] std::size_t count_at(Moment cut) const;

 private:
  void end_of(InodeNumber inode);
  void end_purity(Node& node);
  void end_at(const Place& place);
  void drop(const Place& place);

  Moment now_ = 0;
  std::map<InodeNumber, Node> nodes_;
  std::map<Place, InodeNumber> names_;
  std::vector<Promise> promises_;
  std::map<Place, std::set<std::size_t>> open_;  // the promises about what is behind this name
  std::vector<Purity> purities_;
};

}  // namespace fuse4fs::ext4
