// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/mapped_files.h"

#include <algorithm>
#include <utility>

namespace fuse4fs::ext4 {

template <class Change>
void MappedFiles::change(InodeNumber inode, Change change) {
  auto files = files_.lock();
  const auto found = files->known.find(inode);
  if (found == files->known.end()) return;
  change(found->second);
  if (found->second.is_dull()) files->known.erase(found);
}

void MappedFiles::note_size(InodeNumber inode, std::uint64_t bytes) {
  auto files = files_.lock();
  auto& file = files->known[inode];
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
  auto& file = files->known[inode];
  if (!file.error) file.error = error;
  file.told = File::Told::kNobody;
}

std::optional<Errno> MappedFiles::take_error(InodeNumber inode) {
  std::optional<Errno> error;
  change(inode, [&](File& file) { error = std::exchange(file.error, std::nullopt); });
  return error;
}

std::optional<Errno> MappedFiles::any_error() {
  auto files = files_.lock();
  auto error = std::exchange(files->lost_error, std::nullopt);
  for (auto& [inode, file] : files->known) {
    if (!file.error || file.told == File::Told::kAnySync) continue;
    if (!error) error = file.error;
    file.told = File::Told::kAnySync;
  }
  return error;
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
  const File& file = found->second;
  if (file.error && file.told == File::Told::kNobody) files->lost_error = file.error;
  files->known.erase(found);
}

}  // namespace fuse4fs::ext4
