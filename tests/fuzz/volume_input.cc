// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/fuzz/volume_input.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>

#include "tests/fuzz/memory_volume.h"
#include "tests/fuzz/volume_areas.h"

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

// Inodes 11 to 22: of all types, with maps of one level and of two, with attributes inside and in a block.
void fill(FileSystem& fs) {
  make_inode(fs, kRootInode, "short", S_IFREG | 0644, 1);
  const auto scattered = make_inode(fs, kRootInode, "scattered", S_IFREG | 0600, 40);
  const auto directory = make_inode(fs, kRootInode, "directory", S_IFDIR | 0755);
  make_inode(fs, directory, "inside", S_IFREG | 0644, 6);
  make_inode(fs, directory, "fifo", S_IFIFO | 0600);
  require(fs.make(directory, "device", {.mode = S_IFCHR | 0600, .device = 0x103}).has_value(), "a device");
  require(fs.make_symlink(directory, "link", "short", {}).has_value(), "a short link");
  require(fs.make_symlink(directory, "far", std::string(200, 'x'), {}).has_value(), "a long link");
  make_inode(fs, make_inode(fs, directory, "deep", S_IFDIR | 0700), "deeper", S_IFDIR | 0700);
  const std::string value(300, 'v');
  for (const InodeNumber inode : {scattered, directory})
    require(fs.set_xattr(inode, "user.note", std::as_bytes(std::span(value)), XattrMode::kCreate,
                         SetgidBit::kKeep)
                .has_value(),
            "an attribute");
}

const std::vector<Volume>& volumes() {
  static const auto made = [] {
    std::vector<Volume> list;
    for (const Form& form : kForms) list.emplace_back(make_volume(form.options, form.size, fill));
    return list;
  }();
  return made;
}

constexpr auto kContinue = ErrorPolicy::kContinue;

std::vector<std::string> names_of(FileSystem& fs, InodeNumber directory) {
  std::vector<std::string> names;
  (void)fs.read_directory(directory, 0, [&](const DirectoryEntry& entry) {
    names.emplace_back(entry.name);
    return names.size() < 100;
  });
  return names;
}

void look_at(FileSystem& fs, InodeNumber inode, mode_t mode, std::uint64_t size) {
  std::vector<std::byte> buffer(20'000);
  (void)fs.attributes(inode);
  (void)fs.flags(inode);
  if (S_ISLNK(mode)) (void)fs.symlink_target(inode);
  if (S_ISREG(mode)) {
    (void)fs.read(inode, 0, buffer);
    (void)fs.read(inode, size - std::min<std::uint64_t>(size, buffer.size()), buffer);
    (void)fs.seek(inode, 0, SeekTarget::kHole);
    (void)fs.seek(inode, size / 2, SeekTarget::kData);
  }
  (void)fs.xattr_names(inode);
  (void)fs.xattr(inode, "user.note");
}

void change_file(FileSystem& fs, InodeNumber directory, const std::string& name, InodeNumber inode) {
  const std::string text(3000, 't');
  const auto bytes = std::as_bytes(std::span(text));
  (void)fs.write(inode, 5000, bytes, AttributeChanges::Privileges::kClear);
  (void)fs.change_range(inode, RangeChange::kPunchHole, {2048, 9000}, EndOfFile::kKeep,
                        AttributeChanges::Privileges::kKeep);
  (void)fs.change_range(inode, RangeChange::kInsert, {4096, 8192}, EndOfFile::kKeep,
                        AttributeChanges::Privileges::kKeep);
  (void)fs.change_range(inode, RangeChange::kCollapse, {0, 4096}, EndOfFile::kKeep,
                        AttributeChanges::Privileges::kKeep);
  (void)fs.set_attributes(inode, {.size = 1500});
  (void)fs.set_xattr(inode, "user.note", bytes.first(20), XattrMode::kCreateOrReplace, SetgidBit::kKeep);
  (void)fs.rename(directory, name, kRootInode, name + "-moved", {.mode = RenameMode::kReplace});
}

// Each name is either changed or taken away, so that no order of the walk hides one from the other.
void use(FileSystem& fs) {
  std::vector<InodeNumber> directories{kRootInode};
  int turn = 0;
  for (std::size_t i = 0; i < directories.size() && i < 20; ++i) {
    const InodeNumber directory = directories[i];
    for (const auto& name : names_of(fs, directory)) {
      const auto found = fs.lookup(directory, name);
      if (!found) continue;
      look_at(fs, found->inode, found->mode, found->size);
      const bool known = std::find(directories.begin(), directories.end(), found->inode) != directories.end();
      if (S_ISDIR(found->mode) && !known) directories.push_back(found->inode);
      if (S_ISDIR(found->mode)) continue;
      if (++turn % 2 == 0) (void)fs.unlink(directory, name);
      if (turn % 2 == 1) change_file(fs, directory, name, found->inode);
      fs.forget(found->inode, 1);
    }
    (void)fs.make(directory, "fresh", {.mode = S_IFREG | 0644});
    (void)fs.make(directory, "fresh directory", {.mode = S_IFDIR | 0755});
  }
  for (auto directory = directories.rbegin(); directory != directories.rend(); ++directory)
    for (const auto& name : names_of(fs, *directory)) (void)fs.remove_directory(*directory, name);
  (void)fs.statistics();
  (void)fs.sync();
}

// What only reads, twice the same answer.
void only_read(const std::string& bytes) {
  const MemoryVolume memory(bytes);
  QuietEvents events;
  auto fs = FileSystem::mount(memory.device(cache::Access::kReadOnly), {.errors = kContinue}, events);
  if (!fs) return;
  for (const auto& name : names_of(**fs, kRootInode)) {
    const auto found = (*fs)->lookup(kRootInode, name);
    if (!found) continue;
    look_at(**fs, found->inode, found->mode, found->size);
    (*fs)->forget(found->inode, 1);
  }
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
  use(**fs);
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
