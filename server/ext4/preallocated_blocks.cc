// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/preallocated_blocks.h"

#include <algorithm>
#include <utility>

namespace fuse4fs::ext4 {

template <class Change>
void PreallocatedBlocks::counted(Files& files, File& file, Change change) {
  const auto ahead = [&] { return file.ahead.end - file.ahead.first; };
  const std::uint64_t ahead_before = ahead(), beside_before = file.blocks_beside();
  change(file);
  files.blocks_ahead += ahead() - ahead_before;
  files.blocks_beside += file.blocks_beside() - beside_before;
}

template <class Change>
void PreallocatedBlocks::change(InodeNumber inode, Change change) {
  auto files = files_.lock();
  const auto found = files->known.find(inode);
  if (found == files->known.end()) return;
  counted(*files, found->second, change);
  if (found->second.is_empty()) files->known.erase(found);
}

template <class Change>
void PreallocatedBlocks::add(InodeNumber inode, Change change) {
  const TimePoint now = clock_();
  auto files = files_.lock();
  auto& file = files->known[inode];
  file.used = now;
  counted(*files, file, [&](File& known) { change(known, now); });
  if (file.is_empty()) files->known.erase(inode);
}

void PreallocatedBlocks::note_ahead(InodeNumber inode, Ahead ahead) {
  if (ahead.is_empty()) return;
  add(inode, [&](File& file, TimePoint) {
    const Ahead& old = file.ahead;
    // A write before it.
    if (!old.is_empty() && ahead.end <= old.first) return;
    if (!old.is_empty() && old.end >= ahead.floor)
      ahead = {.floor = std::min(ahead.floor, old.floor),
               .first = std::max(ahead.first, old.first),
               .end = std::max(ahead.end, old.end)};
    file.ahead = ahead;
    file.departure = {};
  });
}

void PreallocatedBlocks::shorten(InodeNumber inode, std::uint64_t asked, std::uint64_t behind) {
  change(inode, [&](File& file) {
    if (asked < file.ahead.first) return;
    file.ahead.first = std::min(file.ahead.first, std::max(behind, file.ahead.floor));
  });
}

void PreallocatedBlocks::forget_ahead(InodeNumber inode, std::uint64_t from) {
  change(inode, [&](File& file) {
    Ahead& ahead = file.ahead;
    ahead = {.floor = std::min(ahead.floor, from),
             .first = std::min(ahead.first, from),
             .end = std::min(ahead.end, from)};
    file.departure = {};
  });
}

PreallocatedBlocks::Ahead PreallocatedBlocks::ahead_of(InodeNumber inode) {
  Ahead ahead;
  change(inode, [&](const File& file) { ahead = file.ahead; });
  return ahead;
}

std::uint64_t PreallocatedBlocks::blocks_ahead() { return files_.lock()->blocks_ahead; }

void PreallocatedBlocks::add_beside(File& file, std::uint64_t first, std::uint64_t count, TimePoint now) {
  if (file.beside.count() == 0) file.beside_since = now;
  file.beside.add(first, count);
}

void PreallocatedBlocks::note_beside(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  if (first < end) add(inode, [&](File& file, TimePoint now) { add_beside(file, first, end - first, now); });
}

void PreallocatedBlocks::forget_beside(InodeNumber inode) {
  change(inode, [](File& file) {
    file.beside.clear();
    file.leaving.clear();
  });
}

void PreallocatedBlocks::forget_beside(InodeNumber inode, const BlockRuns& gone) {
  change(inode, [&](File& file) {
    file.beside.remove(gone);
    file.leaving.remove(gone);
  });
}

BlockRuns PreallocatedBlocks::beside_of(InodeNumber inode) {
  BlockRuns beside;
  change(inode, [&](const File& file) {
    beside = file.leaving;
    beside.add(file.beside);
  });
  return beside;
}

std::uint64_t PreallocatedBlocks::blocks_beside_of(InodeNumber inode) {
  std::uint64_t blocks = 0;
  change(inode, [&](const File& file) { blocks = file.blocks_beside(); });
  return blocks;
}

std::uint64_t PreallocatedBlocks::blocks_beside() { return files_.lock()->blocks_beside; }

void PreallocatedBlocks::note_asked(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  change(inode, [&](File& file) {
    file.ahead.first = std::max(file.ahead.first, std::min(end, file.ahead.end));
    file.settle(first, end);
  });
}

void PreallocatedBlocks::note_settled(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  change(inode, [&](File& file) { file.settle(first, end); });
}

void PreallocatedBlocks::disown(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  change(inode, [&](File& file) {
    file.settle(first, end);
    Ahead& ahead = file.ahead;
    if (end <= ahead.floor || first >= ahead.end) return;
    // Of two parts that are left, the one that is farther from the file's end.
    if (end < ahead.end) {
      ahead.floor = end;
      ahead.first = std::max(ahead.first, end);
    } else {
      ahead.end = std::max(ahead.floor, first);
      ahead.first = std::min(ahead.first, ahead.end);
    }
  });
}

void PreallocatedBlocks::cut(InodeNumber inode, std::uint64_t blocks) {
  change(inode, [&](File& file) {
    file.ahead = {.floor = std::min(file.ahead.floor, blocks),
                  .first = std::min(file.ahead.first, blocks),
                  .end = std::min(file.ahead.end, blocks)};
    file.settle(blocks, UINT64_MAX);
  });
}

void PreallocatedBlocks::forget(InodeNumber inode) {
  change(inode, [](File& file) { file = {}; });
}

bool PreallocatedBlocks::knows(InodeNumber inode) { return files_.lock()->known.contains(inode); }

void PreallocatedBlocks::note_use(InodeNumber inode) {
  const TimePoint now = clock_();
  change(inode, [&](File& file) { file.used = now; });
}

void PreallocatedBlocks::note_direct(InodeNumber inode) {
  change(inode, [](File& file) { file.written = Written::kDirectly; });
}

PreallocatedBlocks::Written PreallocatedBlocks::written(InodeNumber inode) {
  Written written = Written::kByPages;
  change(inode, [&](const File& file) { written = file.written; });
  return written;
}

std::vector<InodeNumber> PreallocatedBlocks::all(Written written) {
  std::vector<InodeNumber> inodes;
  auto files = files_.lock();
  for (const auto& [inode, file] : files->known)
    if (file.written == written) inodes.push_back(inode);
  return inodes;
}

void PreallocatedBlocks::age_ahead(InodeNumber inode, const File& file, TimePoint now, Due& due) {
  if (file.ahead.is_empty() || now - file.used < kIdle) return;
  const Departure& departure = file.departure;
  if (departure.step != Departure::Step::kNone && departure.why == Why::kRoom) return;
  if (departure.step != Departure::Step::kForgotten)
    due.ahead_to_forget.push_back(inode);
  else if (now - std::max(departure.since, file.used) >= kTransfer)
    due.ahead_to_trim.push_back(inode);
}

void PreallocatedBlocks::age_beside(InodeNumber inode, const File& file, TimePoint now, Due& due) {
  const bool leaves = file.leaving.count() != 0;
  if (leaves && file.leaving_forgotten) {
    if (now - *file.leaving_forgotten >= kPages) due.beside_to_trim.push_back(inode);
  } else if (leaves || (file.beside.count() != 0 && now - file.beside_since >= kIdle)) {
    due.beside_to_forget.push_back(inode);
  }
}

PreallocatedBlocks::Due PreallocatedBlocks::due() {
  const TimePoint now = clock_();
  Due due;
  auto files = files_.lock();
  for (const auto& [inode, file] : files->known) {
    if (file.written == Written::kDirectly) continue;
    age_ahead(inode, file, now, due);
    age_beside(inode, file, now, due);
  }
  return due;
}

void PreallocatedBlocks::begin_departure_ahead(InodeNumber inode, Why why, std::uint64_t from) {
  change(inode,
         [&](File& file) { file.departure = {.step = Departure::Step::kBegun, .why = why, .from = from}; });
}

void PreallocatedBlocks::note_forgotten_ahead(InodeNumber inode) {
  const TimePoint now = clock_();
  change(inode, [&](File& file) {
    if (file.departure.step != Departure::Step::kBegun) return;
    file.departure.step = Departure::Step::kForgotten;
    file.departure.since = now;
  });
}

std::optional<std::uint64_t> PreallocatedBlocks::departed_ahead(InodeNumber inode, Duration after) {
  const TimePoint now = clock_();
  std::optional<std::uint64_t> from;
  change(inode, [&](const File& file) {
    const Departure& departure = file.departure;
    const bool may_go = departure.step == Departure::Step::kForgotten && now - departure.since >= after &&
                        file.written == Written::kByPages;
    if (may_go && (departure.why == Why::kRoom || now - file.used >= after)) from = departure.from;
  });
  return from;
}

void PreallocatedBlocks::end_departure_ahead(InodeNumber inode) {
  change(inode, [](File& file) { file.departure = {}; });
}

std::uint64_t PreallocatedBlocks::begin_departure_beside(InodeNumber inode) {
  std::uint64_t first = UINT64_MAX;
  change(inode, [&](File& file) {
    if (file.leaving.count() == 0) file.leaving = std::exchange(file.beside, {});
    file.leaving_forgotten.reset();
    first = file.leaving.next(0);
  });
  return first;
}

void PreallocatedBlocks::note_forgotten_beside(InodeNumber inode) {
  const TimePoint now = clock_();
  change(inode, [&](File& file) { file.leaving_forgotten = now; });
}

BlockRuns PreallocatedBlocks::departed_beside(InodeNumber inode, Duration after) {
  const TimePoint now = clock_();
  BlockRuns departed;
  change(inode, [&](const File& file) {
    if (file.written == Written::kByPages && file.leaving_forgotten && now - *file.leaving_forgotten >= after)
      departed = file.leaving;
  });
  return departed;
}

std::uint64_t PreallocatedBlocks::end_to_hand_over(InodeNumber inode) {
  std::uint64_t end = UINT64_MAX;
  change(inode, [&](const File& file) {
    if (file.departure.step != Departure::Step::kNone && file.departure.why == Why::kRoom)
      end = std::max(file.departure.from, file.ahead.first);
  });
  return end;
}

void PreallocatedBlocks::note_handed_over(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  const TimePoint now = clock_();
  change(inode, [&](File& file) {
    Departure& departure = file.departure;
    if (departure.step != Departure::Step::kNone && first < file.ahead.end && end > departure.from) {
      departure.from = end;
      if (departure.why == Why::kIdle || end >= file.ahead.end) departure = {};
    }
    for (std::uint64_t at = file.leaving.next(first); at < end; at = file.leaving.next(at)) {
      const std::uint64_t count = std::min(file.leaving.behind(at), end) - at;
      file.leaving.remove(at, count);
      add_beside(file, at, count, now);
    }
  });
}

}  // namespace fuse4fs::ext4
