// SPDX-License-Identifier: GPL-2.0-or-later
// What was seen lately that equal things may share (blocks, inodes: by number), by the hash of what it holds.
//
// Nothing but a hint, as the kernel's mbcache: whoever finds a number there looks at what it holds now.
//
// Locking: any thread; one lock (rank kDedupIndex) for moments. Errors: none.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/guarded.h"

namespace fuse4fs::ext4 {

template <class Number>
class DedupIndex {
 public:
  // It holds this now, whatever it held before.
  void add(std::uint32_t hash, Number number) {
    auto state = state_.lock();
    if (const auto known = state->hashes.find(number); known != state->hashes.end()) {
      if (known->second == hash) return;
      state->erase(number);
    }
    if (state->hashes.size() >= kMost) *state = {};
    state->hashes.emplace(number, hash);
    state->numbers.emplace(hash, number);
  }
  void forget(Number number) { state_.lock()->erase(number); }
  [[nodiscard]] std::vector<Number> find(std::uint32_t hash) {
    auto state = state_.lock();
    std::vector<Number> found;
    const auto [from, to] = state->numbers.equal_range(hash);
    for (auto known = from; known != to; ++known) found.push_back(known->second);
    return found;
  }

 private:
  static constexpr std::size_t kMost = 4096;
  struct State {
    std::unordered_multimap<std::uint32_t, Number> numbers;
    std::unordered_map<Number, std::uint32_t> hashes;  // each number is there once

    void erase(Number number) {
      const auto known = hashes.find(number);
      if (known == hashes.end()) return;
      const auto [from, to] = numbers.equal_range(known->second);
      numbers.erase(std::find_if(from, to, [&](const auto& pair) { return pair.second == number; }));
      hashes.erase(known);
    }
  };
  Guarded<State, LockRank::kDedupIndex> state_;
};

}  // namespace fuse4fs::ext4
