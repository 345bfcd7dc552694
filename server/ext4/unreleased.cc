// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/unreleased.h"

namespace fuse4fs::ext4 {

Unreleased::Discard::Discard(Unreleased& unreleased) : unreleased_(unreleased) {
  auto state = unreleased_.state_.lock();
  unreleased_.changed_.wait(state.lock(), [&] { return state->held_off == 0; });
  ++state->discards;
  ++unreleased_.discards_begun_;
}

void Unreleased::Discard::add(std::uint64_t first, std::uint64_t count) {
  blocks_.add(first, count);
  unreleased_.state_.lock()->discarded.add(first, count);
}

Unreleased::Discard::~Discard() {
  auto state = unreleased_.state_.lock();
  state->discarded.remove(blocks_);
  --state->discards;
  ++unreleased_.discards_ended_;
  unreleased_.changed_.notify_all();
}

std::unique_ptr<Unreleased::Discard> Unreleased::release_to_discard() {
  auto state = state_.lock();
  BlockRuns blocks = std::exchange(state->begun.blocks, {});
  state->begun.clear();
  if (blocks.count() == 0 || state->held_off != 0) return nullptr;
  // Counted when nothing can fail any more: who wants none would wait for it for ever.
  state->discarded.add(blocks);
  std::unique_ptr<Discard> discard(new Discard(*this, std::move(blocks), Discard::Already::kCounted));
  ++state->discards;
  ++discards_begun_;
  return discard;
}

Unreleased::NoDiscards::NoDiscards(Unreleased& unreleased) : unreleased_(unreleased) {
  auto state = unreleased_.state_.lock();
  ++state->held_off;
  unreleased_.changed_.wait(state.lock(), [&] { return state->discards == 0; });
}

Unreleased::NoDiscards::~NoDiscards() {
  auto state = unreleased_.state_.lock();
  --state->held_off;
  unreleased_.changed_.notify_all();
}

}  // namespace fuse4fs::ext4
