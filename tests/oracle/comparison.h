// SPDX-License-Identifier: GPL-2.0-or-later
// Compares what two mounts show.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "tests/oracle/differences.h"
#include "tests/oracle/snapshot.h"
#include "tests/oracle/timeline.h"

namespace fuse4fs::oracle {

// `category` is a word or two, the same for the same kind of fault: what the reducer holds on to.
struct Failure {
  std::string category;
  std::string text;
};

// Inodes of the two images whose ctime does not count: see ctime_is_unsure_after().
using UnsureInodes = std::array<std::set<std::uint64_t>, 2>;

class Comparison {
 public:
  // Two images, each changed by its own side: equal but for what differences.h lets pass.
  // `timeline` lives longer than this.
  Comparison(const Timeline& timeline, const VolumeRules& rules, UnsureInodes unsure)
      : timeline_(&timeline), rules_(rules), unsure_(std::move(unsure)) {}
  // One image, looked at by both: equal in everything, inode numbers and times included.
  static Comparison exact(const VolumeRules& rules, UnsureInodes unsure = {}) {
    return Comparison(rules, std::move(unsure));
  }

  // `first` is image 0's; `names` are for the text.
  [[nodiscard]] std::optional<Failure> compare(const std::string& path, const std::optional<Entry>& first,
                                               const std::optional<Entry>& second, Depth depth) const;
  [[nodiscard]] std::optional<Failure> compare(const Tree& first, const Tree& second, Depth depth) const;

 private:
  Comparison(const VolumeRules& rules, UnsureInodes unsure) : rules_(rules), unsure_(std::move(unsure)) {}
  [[nodiscard]] std::optional<Failure> compare_status(const Entry& first, const Entry& second,
                                                      Depth depth) const;
  [[nodiscard]] std::optional<Failure> compare_contents(const Entry& first, const Entry& second) const;

  const Timeline* timeline_ = nullptr;  // none: exact
  VolumeRules rules_;
  UnsureInodes unsure_;
};

}  // namespace fuse4fs::oracle
