// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/fuzz/volume_input.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "tests/fuzz/memory_volume.h"
#include "tests/fuzz/volume_areas.h"
#include "tests/fuzz/volume_use.h"

namespace fuse4fs::ext4::fuzz {
namespace {

struct Form {
  const char* name;
  const char* options;
  const char* size;
};
constexpr std::array kForms = {
    Form{"ext4", "-t ext4 -O ^has_journal -g 1024 -N 128", "4M"},
    Form{"short-sums", "-t ext4 -O ^has_journal,^metadata_csum,uninit_bg,^64bit -g 1024 -N 128", "4M"},
    Form{"ext2", "-t ext2 -I 128 -N 128", "2M"},
    Form{"inline", "-t ext4 -O ^has_journal,inline_data,metadata_csum_seed,ea_inode -N 128", "2M"},
    Form{"bigalloc", "-t ext4 -O ^has_journal,bigalloc -C 4096 -N 128", "4M"},
    Form{"orphan-file", "-t ext4 -O orphan_file -J size=1 -N 128", "4M"},
};

struct Volume {
  explicit Volume(std::string the_bytes) : bytes(std::move(the_bytes)), areas(bytes) {}
  std::string bytes;
  VolumeAreas areas;
};

const std::vector<Volume>& volumes() {
  static const auto made = [] {
    std::vector<Volume> list;
    for (const Form& form : kForms) list.emplace_back(make_volume(form.options, form.size, fill_volume));
    return list;
  }();
  return made;
}

constexpr auto kContinue = ErrorPolicy::kContinue;

// What only reads, twice the same answer.
void only_read(const std::string& bytes) {
  const MemoryVolume memory(bytes);
  QuietEvents events;
  auto fs = FileSystem::mount(memory.device(cache::Access::kReadOnly), {.errors = kContinue}, events);
  if (!fs) return;
  look_at_volume(**fs);
  (void)(*fs)->unmount();
  require(memory.still_holds(bytes), "a mount that only reads leaves the volume as it is");
}

}  // namespace

Tried try_volume(Area area, std::span<const std::byte> input) {
  if (input.empty()) return Tried::kRefused;
  const Volume& volume = volumes()[std::to_integer<std::size_t>(input[0]) % volumes().size()];
  static std::string bytes;  // allocated once
  bytes = volume.bytes;
  auto rest = input.subspan(1);
  for (const Region region : volume.areas.regions(area)) {
    const auto part = rest.first(std::min(rest.size(), region.length));
    std::memcpy(bytes.data() + region.offset, part.data(), part.size());
    rest = rest.subspan(part.size());
  }
  if (area == Area::kOrphans) volume.areas.announce_orphans(bytes);
  volume.areas.seal(bytes);
  only_read(bytes);
  const MemoryVolume memory(bytes);
  QuietEvents events;
  // Nobody else has it: what waits for a claim of another host need not.
  const MountOptions options{.errors = kContinue, .wait = [](std::chrono::seconds) { return false; }};
  auto fs = FileSystem::mount(memory.device(), options, events);
  if (!fs) return Tried::kRefused;
  use_volume(**fs);
  (void)(*fs)->unmount();
  return Tried::kMounted;
}

std::vector<VolumeSeed> volume_seeds(Area area) {
  std::vector<VolumeSeed> seeds;
  for (std::size_t i = 0; i < kForms.size(); ++i) {
    const auto& [bytes, areas] = volumes()[i];
    const auto add = [&](const std::string& name, const std::string& changed) {
      std::vector<std::byte> input{static_cast<std::byte>(i)};
      for (const Region region : areas.regions(area)) {
        const auto part = std::as_bytes(std::span(changed)).subspan(region.offset, region.length);
        input.insert(input.end(), part.begin(), part.end());
      }
      seeds.emplace_back(std::string(kForms[i].name) + name, input);
    };
    add("", bytes);
    if (area != Area::kOrphans) continue;
    // Two files that lost their names and one that is to be truncated, in the chain; one in the file.
    std::string changed = bytes;
    const auto put = [&](std::size_t at, std::uint32_t number) {
      std::memcpy(changed.data() + at, &number, sizeof number);
    };
    const auto lose_name = [&](InodeNumber number) {
      const std::uint16_t none = 0;
      std::memcpy(changed.data() + areas.inode(number).offset + offsetof(ext2_inode, i_links_count), &none,
                  sizeof none);
    };
    const auto chain = [&](InodeNumber number, InodeNumber next) {
      put(areas.inode(number).offset + offsetof(ext2_inode, i_dtime), next);
    };
    const InodeNumber first = areas.has_orphan_file() ? 13 : 12;
    put(1024 + offsetof(ext2_super_block, s_last_orphan), first);
    lose_name(first);
    chain(first, first + 1);
    chain(first + 1, first + 3);
    lose_name(first + 3);
    chain(first + 3, 0);
    if (areas.has_orphan_file()) put(areas.orphan_block(), first + 4);
    add("-orphans", changed);
  }
  return seeds;
}

}  // namespace fuse4fs::ext4::fuzz
