// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/mapped_files.h"

#include <algorithm>
#include <utility>

namespace fuse4fs::ext4 {

template <class Change>
void MappedFiles::change(InodeNumber inode, Change change) {
  auto files = files_.lock();
  const auto found = files->find(inode);
  if (found == files->end()) return;
  change(found->second);
  if (found->second.is_dull()) files->erase(found);
}

void MappedFiles::note_size(InodeNumber inode, std::uint64_t bytes) {
  auto files = files_.lock();
  auto& file = (*files)[inode];
  file.size = std::max(file.size, bytes);
}

std::uint64_t MappedFiles::size_of(InodeNumber inode) {
  std::uint64_t size = 0;
  change(inode, [&](const File& file) { size = file.size; });
  return size;
}

void MappedFiles::forget_size(InodeNumber inode, std::uint64_t up_to) {
  change(inode, [&](File& file) {
    if (file.size <= up_to) file.size = 0;
  });
}

void MappedFiles::note_error(InodeNumber inode, Errno error) {
  auto files = files_.lock();
  auto& file = (*files)[inode];
  if (!file.error) file.error = error;
}

std::optional<Errno> MappedFiles::take_error(InodeNumber inode) {
  std::optional<Errno> error;
  change(inode, [&](File& file) { error = std::exchange(file.error, std::nullopt); });
  return error;
}

std::optional<Errno> MappedFiles::any_error() {
  auto files = files_.lock();
  const auto found =
      std::ranges::find_if(*files, [](const auto& file) { return file.second.error.has_value(); });
  return found == files->end() ? std::nullopt : found->second.error;
}

void MappedFiles::note_ahead(InodeNumber inode, Ahead ahead) {
  if (ahead.is_empty()) return;
  auto files = files_.lock();
  auto& file = (*files)[inode];
  file.ahead = file.ahead.is_empty() ? ahead
                                     : Ahead{.first = std::min(file.ahead.first, ahead.first),
                                             .end = std::max(file.ahead.end, ahead.end)};
  file.idle_rounds = 0;
}

void MappedFiles::forget_ahead(InodeNumber inode) {
  change(inode, [](File& file) { file.ahead = {}; });
}

void MappedFiles::note_use(InodeNumber inode) {
  change(inode, [](File& file) { file.idle_rounds = 0; });
}

MappedFiles::Ahead MappedFiles::ahead_of(InodeNumber inode) {
  Ahead ahead;
  change(inode, [&](const File& file) { ahead = file.ahead; });
  return ahead;
}

MappedFiles::Idle MappedFiles::age() {
  Idle idle;
  auto files = files_.lock();
  for (auto& [inode, file] : *files) {
    if (file.ahead.is_empty()) continue;
    ++file.idle_rounds;
    if (file.idle_rounds == File::kRoundsToForget) idle.to_forget.push_back(inode);
    if (file.idle_rounds >= File::kRoundsToTrim) idle.to_trim.push_back(inode);
  }
  return idle;
}

bool MappedFiles::is_idle(InodeNumber inode) {
  bool idle = false;
  change(inode, [&](const File& file) { idle = file.idle_rounds >= File::kRoundsToTrim; });
  return idle;
}

std::vector<InodeNumber> MappedFiles::all_with_ahead() {
  std::vector<InodeNumber> inodes;
  auto files = files_.lock();
  for (const auto& [inode, file] : *files)
    if (!file.ahead.is_empty()) inodes.push_back(inode);
  return inodes;
}

std::vector<InodeNumber> MappedFiles::all_with_size() {
  std::vector<InodeNumber> inodes;
  auto files = files_.lock();
  for (const auto& [inode, file] : *files)
    if (file.size != 0) inodes.push_back(inode);
  return inodes;
}

bool MappedFiles::knows(InodeNumber inode) { return files_.lock()->contains(inode); }

void MappedFiles::forget(InodeNumber inode) { files_.lock()->erase(inode); }

}  // namespace fuse4fs::ext4
