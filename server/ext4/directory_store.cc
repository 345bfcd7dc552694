// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/directory_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <tuple>

#include "server/ext4/crc32c.h"
#include "server/ext4/credits.h"
#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kMostDirectories = 1024;
constexpr std::size_t kTail = sizeof(ext2_dir_entry_tail);
// Nodes of an index over its leaves, without the feature large_dir.
constexpr unsigned kLevels = 2;

// Directory blocks are allocated side by side: where one is wanted, its neighbours are read with it.
constexpr std::uint32_t kFetched = 64;

cache::BlockRole role_of(const Inode& directory, DirectoryForm form) {
  return {
      form == DirectoryForm::kEntries ? cache::BlockKind::kDirectoryLeaf : cache::BlockKind::kDirectoryIndex,
      directory.number};
}

DxNode::Kind kind_of(DirectoryForm form) {
  return form == DirectoryForm::kRoot ? DxNode::Kind::kRoot : DxNode::Kind::kNode;
}

// Where the checksum lies in its block.
std::size_t checksum_place(std::span<const std::byte> bytes, DirectoryForm form) {
  if (form == DirectoryForm::kEntries) return bytes.size() - sizeof(std::uint32_t);
  return DxNode(bytes, kind_of(form)).tail() + sizeof(std::uint32_t);
}

}  // namespace

DxNode::Format DirectoryStore::index_format() const {
  const bool large = ext2fs_has_feature_largedir(volume_.super_pointer()) != 0;
  return {.block_size = volume_.block_size(),
          .checksums = volume_.has_checksums(),
          .most_levels = large ? DxNode::kMostLevels : kLevels};
}

Result<std::vector<std::uint64_t>> DirectoryStore::load(const Inode& directory) {
  const auto wrong = [&](std::string_view words) {
    return fail(volume_.corrupted(directory.number, 0, words));
  };
  const std::uint64_t count = directory.size() >> volume_.block_bits();
  if (count == 0 || count << volume_.block_bits() != directory.size() || count > volume_.blocks() ||
      count > UINT32_MAX)
    return wrong(fmt::format("a directory of {} bytes", directory.size()));
  if (count > directory.sectors(volume_.super(), volume_.block_size()) >> (volume_.block_bits() - 9))
    return wrong(fmt::format("a directory of {} bytes that owns fewer blocks", directory.size()));
  ASSIGN_OR_RETURN(const auto parts, extents_.map(directory, 0, count));
  std::vector<std::uint64_t> places;
  for (const auto& part : parts) {
    if (part.kind != Mapping::Kind::kWritten) return wrong("a directory with a hole");
    for (std::uint64_t i = 0; i < part.count; ++i) places.push_back(part.physical + i);
  }
  if (places.size() != count) return wrong("a directory longer than its blocks");
  // One block in many places would let a small volume ask for much memory.
  auto sorted = places;
  std::sort(sorted.begin(), sorted.end());
  if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end())
    return fail(volume_.corrupted(directory.number, *twice, "a directory holds a block twice"));
  return places;
}

void DirectoryStore::Known::make_room_for_marks() {
  fetched.resize((places.size() + kFetched - 1) / kFetched);
}

std::shared_ptr<DirectoryStore::Known> DirectoryStore::State::find(InodeNumber inode) const {
  const auto found = known.find(inode);
  return found == known.end() ? nullptr : found->second;
}

void DirectoryStore::State::forget(InodeNumber inode) {
  const auto found = known.find(inode);
  if (found == known.end()) return;
  places -= found->second->places.size();
  known.erase(found);
}

void DirectoryStore::make_room(State& state, std::size_t places) const {
  auto& known = state.known;
  while (!known.empty() && (known.size() >= kMostDirectories || state.places + places > most_places_)) {
    const auto oldest = std::min_element(known.begin(), known.end(), [](const auto& a, const auto& b) {
      return a.second->last_used < b.second->last_used;
    });
    state.forget(oldest->first);
  }
}

Result<std::shared_ptr<DirectoryStore::Known>> DirectoryStore::known(const Inode& directory) {
  const auto used = [](State& state, std::shared_ptr<Known> known) {
    known->last_used = ++state.clock;
    return known;
  };
  {
    auto state = state_.lock();
    if (auto found = state->find(directory.number)) return used(*state, std::move(found));
  }
  ASSIGN_OR_RETURN(auto places, load(directory));
  auto fresh = std::make_shared<Known>(std::move(places));
  auto state = state_.lock();
  // Another reader of it was faster.
  if (auto found = state->find(directory.number)) return used(*state, std::move(found));
  make_room(*state, fresh->places.size());
  state->known.emplace(directory.number, fresh);
  state->places += fresh->places.size();
  return used(*state, std::move(fresh));
}

void DirectoryStore::forget(InodeNumber inode) { state_.lock()->forget(inode); }

Result<std::uint32_t> DirectoryStore::count(const Inode& directory) {
  ASSIGN_OR_RETURN(const auto known_directory, known(directory));
  return static_cast<std::uint32_t>(known_directory->places.size());
}

Result<bool> DirectoryStore::is_checked(const Inode& directory) {
  ASSIGN_OR_RETURN(const auto known_directory, known(directory));
  return known_directory->checked.load(std::memory_order_relaxed);
}

void DirectoryStore::note_checked(const Inode& directory) {
  if (const auto found = state_.lock()->find(directory.number)) found->checked = true;
}

std::uint32_t DirectoryStore::checksum_of(const Inode& directory, std::span<const std::byte> bytes,
                                          DirectoryForm form) const {
  std::uint32_t sum = volume_.fs()->csum_seed;
  const auto add = [&](const void* data, std::size_t length) { sum = crc32c(sum, data, length); };
  const InodeNumber number = directory.number;
  const std::uint32_t generation = directory.raw.i_generation;
  add(&number, sizeof number);
  add(&generation, sizeof generation);
  if (form == DirectoryForm::kEntries) {
    add(bytes.data(), bytes.size() - kTail);
    return sum;
  }
  const DxNode node(bytes, kind_of(form));
  add(bytes.data(), node.summed());
  // The tail: what is reserved, and zeros in the checksum's place.
  constexpr std::uint32_t kNone = 0;
  add(bytes.data() + node.tail(), sizeof kNone);
  add(&kNone, sizeof kNone);
  return sum;
}

std::string DirectoryStore::judge(const Inode& directory, std::span<const std::byte> bytes,
                                  DirectoryForm form) const {
  const bool entries = form == DirectoryForm::kEntries;
  if (entries && volume_.has_checksums() && !entries_.has_tail(bytes))
    return "a directory block without its checksum";
  // An index node's counts say where its checksum lies.
  std::string words = entries ? std::string() : DxNode(bytes, kind_of(form)).judge(index_format());
  if (words.empty() && volume_.has_checksums()) {
    std::uint32_t stored = 0;
    std::memcpy(&stored, bytes.data() + checksum_place(bytes, form), sizeof stored);
    if (stored != checksum_of(directory, bytes, form)) words = "the checksum of a directory block is wrong";
  }
  if (words.empty() && entries) words = entries_.judge(bytes, 0, entries_.end());
  return words;
}

void DirectoryStore::read_ahead(Known& directory, std::uint32_t index) {
  const std::uint32_t part = index / kFetched;
  std::atomic_ref fetched(directory.fetched[part]);
  if (fetched.load(std::memory_order_relaxed) != 0) return;
  fetched.store(1, std::memory_order_relaxed);
  const auto& places = directory.places;
  const std::size_t end = std::min(places.size(), (part + std::size_t{1}) * kFetched);
  for (std::size_t first = part * std::size_t{kFetched}; first < end;) {
    std::size_t behind = first + 1;
    while (behind < end && places[behind] == places[behind - 1] + 1) ++behind;
    if (behind - first > 1) volume_.cache().read_ahead(places[first], behind - first);
    first = behind;
  }
}

Result<DirectoryBlock> DirectoryStore::read(const Inode& directory, std::uint32_t index, DirectoryForm form) {
  ASSIGN_OR_RETURN(const auto known_directory, known(directory));
  // The first block is never a node: what was found good as a root is not taken for one.
  if (index >= known_directory->places.size() || (index == 0 && form == DirectoryForm::kNode))
    return fail(
        volume_.corrupted(directory.number, 0, fmt::format("a directory does not have its block {}", index)));
  read_ahead(*known_directory, index);
  const std::uint64_t physical = known_directory->places[index];
  std::string words;
  auto buffer = volume_.cache().get(physical, role_of(directory, form),
                                    [&](std::span<const std::byte> bytes) -> Result<void> {
                                      words = judge(directory, bytes, form);
                                      return words.empty() ? Result<void>() : fail(kCorrupted);
                                    });
  if (buffer) return DirectoryBlock(index, std::move(*buffer));
  if (words.empty() && buffer.error() == kCorrupted)
    words = "a block of a directory is another inode's as well";
  if (!words.empty()) return fail(volume_.corrupted(directory.number, physical, words));
  return fail(volume_.failed(buffer.error().value(), directory.number, "reading a directory"));
}

Result<DirectoryBlock> DirectoryStore::fresh(const Inode& directory, std::uint32_t index,
                                             std::uint64_t physical, DirectoryForm form) {
  auto buffer = volume_.journal().get_new(physical, role_of(directory, form));
  if (!buffer) return fail(volume_.failed(buffer.error().value(), directory.number, "writing a directory"));
  return DirectoryBlock(index, std::move(*buffer));
}

Result<cache::Change> DirectoryStore::begin(const Inode& directory, DirectoryBlock& block) {
  auto change = volume_.journal().modify(block.buffer_);
  if (!change) return fail(volume_.failed(change.error().value(), directory.number, "writing a directory"));
  return change;
}

void DirectoryStore::finish(const Inode& directory, DirectoryBlock& block, const cache::Change& change,
                            DirectoryForm form) {
  seal(directory, change.bytes(), form);
  block.buffer_.become(role_of(directory, form));
}

void DirectoryStore::seal(const Inode& directory, std::span<std::byte> bytes, DirectoryForm form) const {
  if (!volume_.has_checksums()) return;
  const std::uint32_t sum = checksum_of(directory, bytes, form);
  std::memcpy(bytes.data() + checksum_place(bytes, form), &sum, sizeof sum);
}

void DirectoryStore::ensure_split() { std::ignore = volume_.journal().ensure({.blocks = credits::kName}); }

Result<DirectoryStore::DotDot> DirectoryStore::dotdot(const Inode& directory) {
  ASSIGN_OR_RETURN(DirectoryBlock first, read(directory, 0, DirectoryForm::kEntries));
  const auto dot = entries_.at(first.bytes(), 0);
  if (dot.length < entries_.end()) {
    const auto entry = entries_.at(first.bytes(), dot.length);
    if (entry.inode != 0 && entry.name == "..") return DotDot{std::move(first), entry};
  }
  return fail(volume_.corrupted(directory.number, first.physical(), "a directory without \"..\""));
}

Result<void> DirectoryStore::set_dotdot(const Inode& directory, InodeNumber parent) {
  ASSIGN_OR_RETURN(auto found, dotdot(directory));
  return change(directory, found.block, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
    std::memcpy(bytes.data() + found.entry.offset, &parent, sizeof parent);
  });
}

Result<DirectoryStore::Place> DirectoryStore::place_for_next(Inode& directory) {
  ASSIGN_OR_RETURN(const std::uint32_t logical, count(directory));
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 31;
  if (directory.size() + volume_.block_size() >= kLongest &&
      !ext2fs_has_feature_largedir(volume_.super_pointer()))
    return fail(ENOSPC);
  // With clusters, the block may come with its neighbour.
  Place place{.index = logical, .physical = 0, .fresh = {}};
  ASSIGN_OR_RETURN(place.physical, extents_.implied_block(directory, logical));
  if (place.physical == 0) {
    ASSIGN_OR_RETURN(place.fresh, blocks_.take(directory, extents_.goal_for(directory, logical)));
    RETURN_IF_ERROR(extents_.check_taken(directory, logical, place.fresh));
    place.physical = place.fresh.first + (logical & (volume_.cluster_blocks() - 1));
  }
  return place;
}

Result<void> DirectoryStore::attach(Inode& directory, const Place& place, const Result<void>& written) {
  auto done = written;
  if (done) done = extents_.insert(directory, place.index, place.physical, 1);
  if (!done) {
    if (place.fresh.count != 0) (void)blocks_.give_back(place.fresh, directory.number);
    forget(directory.number);
    return done;
  }
  if (place.fresh.count != 0) RETURN_IF_ERROR(extents_.add_blocks(directory, 1));
  directory.set_size((std::uint64_t{place.index} + 1) << volume_.block_bits());
  {
    auto state = state_.lock();
    if (const auto found = state->find(directory.number)) {
      found->places.push_back(place.physical);
      found->make_room_for_marks();
      ++state->places;
    }
  }
  return volume_.write_inode(directory);
}

Result<void> DirectoryStore::attach_first(Inode& directory, BlockRun run, const Result<void>& written) {
  auto done = written;
  if (done) done = extents_.insert(directory, 0, run.first, 1);
  if (!done) {
    (void)blocks_.give_back(run, directory.number);
    return done;
  }
  directory.set_size(volume_.block_size());
  return extents_.add_blocks(directory, 1);
}

}  // namespace fuse4fs::ext4
