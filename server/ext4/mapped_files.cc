// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/mapped_files.h"

#include <algorithm>
#include <utility>

namespace fuse4fs::ext4 {

void MappedFiles::set_ahead(Files& files, File& file, Ahead ahead) {
  files.blocks_ahead -= file.ahead.end - file.ahead.first;
  files.blocks_ahead += ahead.end - ahead.first;
  file.ahead = ahead;
  if (!file.has_given()) file.written = Written::kByPages;
}

template <class Change>
void MappedFiles::change_beside(Files& files, File& file, Change change) {
  files.blocks_beside -= file.blocks_beside();
  change(file.beside);
  change(file.leaving);
  files.blocks_beside += file.blocks_beside();
  if (!file.has_given()) file.written = Written::kByPages;
}

template <class Change>
void MappedFiles::change(InodeNumber inode, Change change) {
  auto files = files_.lock();
  const auto found = files->known.find(inode);
  if (found == files->known.end()) return;
  change(*files, found->second);
  if (found->second.is_dull()) files->known.erase(found);
}

void MappedFiles::note_size(InodeNumber inode, std::uint64_t bytes) {
  auto files = files_.lock();
  auto& file = files->known[inode];
  file.size = std::max(file.size, bytes);
}

std::uint64_t MappedFiles::size_of(InodeNumber inode) {
  std::uint64_t size = 0;
  change(inode, [&](Files&, const File& file) { size = file.size; });
  return size;
}

void MappedFiles::forget_size(InodeNumber inode, std::uint64_t up_to) {
  change(inode, [&](Files&, File& file) {
    if (file.size <= up_to) file.size = 0;
  });
}

void MappedFiles::note_error(InodeNumber inode, Errno error) {
  auto files = files_.lock();
  auto& file = files->known[inode];
  if (!file.error) file.error = error;
}

std::optional<Errno> MappedFiles::take_error(InodeNumber inode) {
  std::optional<Errno> error;
  change(inode, [&](Files&, File& file) { error = std::exchange(file.error, std::nullopt); });
  return error;
}

std::optional<Errno> MappedFiles::any_error() {
  auto files = files_.lock();
  if (auto lost = std::exchange(files->lost_error, std::nullopt)) return lost;
  const auto found =
      std::ranges::find_if(files->known, [](const auto& file) { return file.second.error.has_value(); });
  return found == files->known.end() ? std::nullopt : found->second.error;
}

void MappedFiles::note_ahead(InodeNumber inode, Ahead ahead) {
  if (ahead.is_empty()) return;
  auto files = files_.lock();
  auto& file = files->known[inode];
  file.idle_rounds = 0;
  const Ahead& old = file.ahead;
  // A write before it.
  if (!old.is_empty() && ahead.end <= old.first) return;
  if (!old.is_empty() && old.end >= ahead.floor)
    ahead = {.floor = std::min(ahead.floor, old.floor),
             .first = std::max(ahead.first, old.first),
             .end = std::max(ahead.end, old.end)};
  set_ahead(*files, file, ahead);
}

void MappedFiles::shorten(InodeNumber inode, std::uint64_t behind) {
  change(inode, [&](Files& files, File& file) {
    Ahead ahead = file.ahead;
    ahead.first = std::min(ahead.first, std::max(behind, ahead.floor));
    set_ahead(files, file, ahead);
  });
}

void MappedFiles::cut(InodeNumber inode, std::uint64_t blocks) {
  change(inode, [&](Files& files, File& file) {
    const Ahead& ahead = file.ahead;
    set_ahead(files, file,
              {.floor = std::min(ahead.floor, blocks),
               .first = std::min(ahead.first, blocks),
               .end = std::min(ahead.end, blocks)});
    change_beside(files, file, [&](BlockRuns& beside) { beside.remove(blocks, ~blocks); });
  });
}

void MappedFiles::forget_ahead(InodeNumber inode) {
  change(inode, [](Files& files, File& file) { set_ahead(files, file, {}); });
}

void MappedFiles::note_beside(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  if (first >= end) return;
  auto files = files_.lock();
  auto& file = files->known[inode];
  files->blocks_beside -= file.blocks_beside();
  file.beside.add(first, end - first);
  files->blocks_beside += file.blocks_beside();
}

void MappedFiles::note_wanted(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  if (first >= end) return;
  change(inode, [&](Files& files, File& file) {
    change_beside(files, file, [&](BlockRuns& beside) { beside.remove(first, end - first); });
  });
}

void MappedFiles::note_handed_over(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  change(inode, [&](Files&, File& file) {
    for (std::uint64_t at = file.leaving.next(first); at < end; at = file.leaving.next(at)) {
      const std::uint64_t count = std::min(file.leaving.behind(at), end) - at;
      file.leaving.remove(at, count);
      file.beside.add(at, count);
    }
  });
}

void MappedFiles::forget_beside(InodeNumber inode) {
  change(inode, [](Files& files, File& file) { change_beside(files, file, [](auto& all) { all.clear(); }); });
}

void MappedFiles::forget_beside(InodeNumber inode, const BlockRuns& gone) {
  change(inode, [&](Files& files, File& file) {
    change_beside(files, file, [&](BlockRuns& beside) { beside.remove(gone); });
  });
}

BlockRuns MappedFiles::beside_of(InodeNumber inode, Beside which) {
  BlockRuns beside;
  change(inode, [&](Files&, const File& file) {
    beside = file.leaving;
    if (which == Beside::kAll) beside.add(file.beside);
  });
  return beside;
}

void MappedFiles::forget_given(InodeNumber inode, std::uint64_t first, std::uint64_t end) {
  note_wanted(inode, first, end);
  change(inode, [&](Files& files, File& file) {
    Ahead ahead = file.ahead;
    if (end <= ahead.floor || first >= ahead.end) return;
    // Of two parts that are left, the one that is farther from the file's end.
    if (end < ahead.end) {
      ahead.floor = end;
      ahead.first = std::max(ahead.first, end);
    } else {
      ahead.end = std::max(ahead.floor, first);
      ahead.first = std::min(ahead.first, ahead.end);
    }
    set_ahead(files, file, ahead);
  });
}

void MappedFiles::note_direct(InodeNumber inode) {
  change(inode, [](Files&, File& file) {
    if (file.has_given()) file.written = Written::kDirectly;
  });
}

MappedFiles::Written MappedFiles::written(InodeNumber inode) {
  Written written = Written::kByPages;
  change(inode, [&](Files&, const File& file) { written = file.written; });
  return written;
}

std::uint64_t MappedFiles::blocks_ahead() { return files_.lock()->blocks_ahead; }

std::uint64_t MappedFiles::blocks_beside() { return files_.lock()->blocks_beside; }

void MappedFiles::note_use(InodeNumber inode) {
  change(inode, [](Files&, File& file) { file.idle_rounds = 0; });
}

void MappedFiles::note_needed(InodeNumber inode, std::uint64_t behind) {
  change(inode, [&](Files& files, File& file) {
    Ahead ahead = file.ahead;
    ahead.first = std::max(ahead.first, std::min(behind, ahead.end));
    set_ahead(files, file, ahead);
  });
}

MappedFiles::Ahead MappedFiles::ahead_of(InodeNumber inode) {
  Ahead ahead;
  change(inode, [&](Files&, const File& file) { ahead = file.ahead; });
  return ahead;
}

void MappedFiles::age_beside(InodeNumber inode, File& file, Idle& idle) {
  if (file.blocks_beside() == 0) return;
  ++file.beside_rounds;
  if (file.leaving.count() != 0) {
    if (file.beside_rounds >= File::kRoundsToTrim) idle.beside_to_trim.push_back(inode);
  } else if (file.beside_rounds >= File::kRoundsToForget) {
    // From here on to kRoundsToTrim.
    file.beside_rounds = File::kRoundsToForget;
    file.leaving = std::exchange(file.beside, {});
    idle.beside_to_forget.push_back(inode);
  }
}

MappedFiles::Idle MappedFiles::age() {
  Idle idle;
  auto files = files_.lock();
  for (auto& [inode, file] : files->known) {
    if (!file.has_given() || file.written == Written::kDirectly) continue;
    age_beside(inode, file, idle);
    if (file.ahead.is_empty()) continue;
    ++file.idle_rounds;
    if (file.idle_rounds == File::kRoundsToForget) idle.to_forget.push_back(inode);
    if (file.idle_rounds >= File::kRoundsToTrim) idle.to_trim.push_back(inode);
  }
  return idle;
}

bool MappedFiles::is_idle(InodeNumber inode) {
  bool idle = false;
  change(inode, [&](Files&, const File& file) {
    idle = file.idle_rounds >= File::kRoundsToTrim && file.written == Written::kByPages;
  });
  return idle;
}

std::vector<InodeNumber> MappedFiles::all_with_given(Written written) {
  std::vector<InodeNumber> inodes;
  auto files = files_.lock();
  for (const auto& [inode, file] : files->known)
    if (file.has_given() && file.written == written) inodes.push_back(inode);
  return inodes;
}

std::vector<InodeNumber> MappedFiles::all_with_size() {
  std::vector<InodeNumber> inodes;
  auto files = files_.lock();
  for (const auto& [inode, file] : files->known)
    if (file.size != 0) inodes.push_back(inode);
  return inodes;
}

bool MappedFiles::knows(InodeNumber inode) { return files_.lock()->known.contains(inode); }

void MappedFiles::forget(InodeNumber inode) {
  auto files = files_.lock();
  const auto found = files->known.find(inode);
  if (found == files->known.end()) return;
  if (found->second.error) files->lost_error = found->second.error;
  set_ahead(*files, found->second, {});
  files->blocks_beside -= found->second.blocks_beside();
  files->known.erase(found);
}

}  // namespace fuse4fs::ext4
