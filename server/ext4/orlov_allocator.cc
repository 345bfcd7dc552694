// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/orlov_allocator.h"

#include <algorithm>

#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

OrlovAllocator::OrlovAllocator(Volume& volume)
    : volume_(volume),
      groups_(volume.groups()),
      flex_size_(volume.flex_size()),
      flex_groups_((groups_.count() + flex_size_ - 1) / flex_size_) {}

GroupNumber OrlovAllocator::group_of(InodeNumber inode) const {
  const GroupNumber group = volume_.inode_bitmaps().group_of(inode);
  return group < groups_.count() ? group : 0;
}

OrlovAllocator::Figures OrlovAllocator::figures_of(std::uint64_t flex_group) const {
  Figures sums;
  const std::uint64_t end = std::min<std::uint64_t>((flex_group + 1) * flex_size_, groups_.count());
  for (auto group = static_cast<GroupNumber>(flex_group * flex_size_); group < end; ++group) {
    sums.free_inodes += groups_.free_inodes(group);
    sums.free_clusters += groups_.free_clusters(group);
    sums.directories += groups_.used_directories(group);
  }
  return sums;
}

std::optional<GroupNumber> OrlovAllocator::first_with_inodes(std::uint64_t flex_group) const {
  const std::uint64_t end = std::min<std::uint64_t>((flex_group + 1) * flex_size_, groups_.count());
  for (auto group = static_cast<GroupNumber>(flex_group * flex_size_); group < end; ++group) {
    if (groups_.free_inodes(group) != 0) return group;
  }
  return std::nullopt;
}

// Where trees grow apart they do not mix: of those that have more free than the average, the one with the
// fewest directories.
GroupNumber OrlovAllocator::group_of_top_directory(InodeNumber parent) {
  const std::uint64_t average_inodes = groups_.free_inodes() / flex_groups_;
  const std::uint64_t average_clusters = groups_.free_clusters() / flex_groups_;
  std::optional<std::uint64_t> best;
  std::uint64_t fewest = volume_.super().s_inodes_per_group;
  for (std::uint64_t flex_group = 0; flex_group < flex_groups_; ++flex_group) {
    const Figures here = figures_of(flex_group);
    if (here.free_inodes == 0 || here.directories >= fewest) continue;
    if (here.free_inodes < average_inodes || here.free_clusters < average_clusters) continue;
    best = flex_group;
    fewest = here.directories;
  }
  if (best) {
    if (const auto group = first_with_inodes(*best)) return *group;
  }
  return fallback(parent);
}

GroupNumber OrlovAllocator::group_of_directory(InodeNumber parent) {
  return last_.note(parent, group_near(parent));
}

// The next flex group that is not much fuller than the others.
GroupNumber OrlovAllocator::group_near(InodeNumber parent) {
  const auto less = [](std::uint64_t from, std::uint64_t what) { return from - std::min(from, what); };
  const std::uint64_t flex_inodes = volume_.super().s_inodes_per_group * flex_size_;
  const std::uint64_t flex_clusters = volume_.super().s_clusters_per_group * flex_size_;
  const std::uint64_t most_directories = groups_.used_directories() / flex_groups_ + flex_inodes / 16;
  const std::uint64_t least_inodes =
      std::max<std::uint64_t>(less(groups_.free_inodes() / flex_groups_, flex_inodes / 4), 1);
  const std::uint64_t least_clusters = less(groups_.free_clusters() / flex_groups_, flex_clusters / 4);
  std::uint64_t flex_group = last_.find(parent).value_or(group_of(parent)) / flex_size_;
  for (std::uint64_t tried = 0; tried < flex_groups_; ++tried) {
    const Figures here = figures_of(flex_group);
    if (here.directories < most_directories && here.free_inodes >= least_inodes &&
        here.free_clusters >= least_clusters) {
      if (const auto group = first_with_inodes(flex_group)) return *group;
      break;
    }
    flex_group = flex_group + 1 < flex_groups_ ? flex_group + 1 : 0;
  }
  return fallback(parent);
}

// From the parent's group on, one with the average of free inodes; or with any.
GroupNumber OrlovAllocator::fallback(InodeNumber parent) const {
  const GroupNumber begin = group_of(parent);
  const std::uint64_t average = groups_.free_inodes() / groups_.count();
  for (const std::uint64_t least : {std::max<std::uint64_t>(average, 1), std::uint64_t{1}}) {
    GroupNumber group = begin;
    for (GroupNumber tried = 0; tried < groups_.count(); ++tried) {
      if (groups_.free_inodes(group) >= least) return group;
      group = group + 1 < groups_.count() ? group + 1 : 0;
    }
  }
  return begin;
}

GroupNumber OrlovAllocator::group_of_file(InodeNumber parent) {
  if (flex_size_ == 1) return group_of_file_without_flex(parent);
  if (const auto group = first_with_inodes(group_of(parent) / flex_size_)) return *group;
  if (const auto last = last_.find(parent)) {
    if (const auto group = first_with_inodes(*last / flex_size_)) return *group;
  }
  return group_of_directory(parent);
}

// Files of one directory stay together, those of another one in the same group go elsewhere.
GroupNumber OrlovAllocator::group_of_file_without_flex(InodeNumber parent) const {
  const std::uint64_t count = groups_.count();
  const GroupNumber own = group_of(parent);
  const auto has_room = [&](std::uint64_t group) {
    const auto number = static_cast<GroupNumber>(group);
    return groups_.free_inodes(number) != 0 && groups_.free_clusters(number) != 0;
  };
  if (has_room(own)) return own;
  std::uint64_t group = (std::uint64_t{own} + parent) % count;
  for (std::uint64_t step = 1; step < count; step <<= 1) {
    group = (group + step) % count;
    if (has_room(group)) return static_cast<GroupNumber>(group);
  }
  // A free inode will do.
  group = own;
  for (std::uint64_t tried = 0; tried < count; ++tried) {
    group = group + 1 < count ? group + 1 : 0;
    if (groups_.free_inodes(static_cast<GroupNumber>(group)) != 0) return static_cast<GroupNumber>(group);
  }
  return own;
}

}  // namespace fuse4fs::ext4
