// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/fuzz/directory_input.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "server/ext4/credits.h"
#include "server/ext4/metadata.h"
#include "tests/fuzz/memory_volume.h"

namespace fuse4fs::ext4::fuzz {
namespace {

struct Form {
  const char* options;
  int names;
  int length;  // of a name
};
// Linear; one block; an index of one level, and of two; inside the inode.
constexpr std::array kForms = {
    Form{"-t ext4 -O ^dir_index", 40, 60},
    Form{"-t ext4 -O ^dir_index,^metadata_csum", 40, 60},
    Form{"-t ext4", 10, 20},
    Form{"-t ext4", 100, 60},
    Form{"-t ext4 -O ^metadata_csum", 100, 60},
    Form{"-t ext4", 320, 250},
    Form{"-t ext4 -O ^metadata_csum,large_dir", 320, 250},
    Form{"-t ext4 -O inline_data -I 256", 0, 0},
};

struct Image {
  std::string bytes;
  InodeNumber directory = 0;
  InodeNumber file = 0;
};

class Heard final : public QuietEvents {
 public:
  void corruption(std::string_view, const EventSubject&) override { corrupted = true; }
  bool corrupted = false;
};

std::string name_of(int i, int length) { return fmt::format("{:x<{}}", i, length); }

Image make_image(const Form& form) {
  char path[] = "/tmp/fuzz-directory-XXXXXX";
  require(UniqueFd(::mkstemp(path)).get() >= 0, "a temporary file");
  const std::string command = fmt::format(
      "mke2fs -q -F -b 1024 -N 32 {} -O ^has_journal,^resize_inode -E "
      "hash_seed=f0f4f500-0000-4000-8000-000000000002 {} 512k",
      form.options, path);
  require(std::system(command.c_str()) == 0, "mke2fs");
  if (form.names == 0) {
    // We make none inside of inodes; debugfs does.
    const std::string make = fmt::format(
        "cd /tmp && for c in 'mkdir d' 'write /dev/null f' 'ln f d/a' 'ln f d/bc' 'ln f d/def' 'ln f "
        "d/another'; "
        "do debugfs -w -R \"$c\" {} >/dev/null 2>&1; done",
        path);
    require(std::system(make.c_str()) == 0, "debugfs");
  }
  std::ifstream in(path, std::ios::binary);
  Image image{{std::istreambuf_iterator<char>(in), {}}, 0, 0};
  ::unlink(path);
  const MemoryVolume memory(image.bytes);
  Heard heard;
  auto mounted = FileSystem::mount(memory.device(), {}, heard);
  require(mounted.has_value(), "mounting");
  auto& fs = **mounted;
  if (form.names == 0) {
    image.directory = fs.lookup(kRootInode, "d")->inode;
    image.file = fs.lookup(kRootInode, "f")->inode;
  } else {
    image.directory = fs.make(kRootInode, "d", {.mode = S_IFDIR | 0755})->inode;
    image.file = fs.make(kRootInode, "f", {.mode = S_IFREG | 0644})->inode;
    for (int i = 0; i < form.names; ++i)
      require(fs.link(image.file, image.directory, name_of(i, form.length)).has_value(), "linking");
  }
  require(fs.unmount().has_value() && !heard.corrupted, "unmounting");
  image.bytes = memory.bytes();
  return image;
}

struct Patch {
  std::size_t block, at;
  std::span<const std::byte> bytes;
};

std::vector<Patch> patches_of(std::span<const std::byte> input) {
  std::vector<Patch> patches;
  while (input.size() > 4) {
    const auto byte = [&](std::size_t i) { return std::to_integer<std::size_t>(input[i]); };
    const std::size_t length = std::min(byte(3), input.size() - 4);
    patches.push_back({byte(0), byte(1) | byte(2) << 8, input.subspan(4, length)});
    input = input.subspan(4 + length);
  }
  return patches;
}

void write_patch(const Patch& patch, std::span<std::byte> bytes) {
  for (std::size_t i = 0; i < patch.bytes.size(); ++i) bytes[(patch.at + i) % bytes.size()] = patch.bytes[i];
}

void patch_blocks(Volume& volume, Metadata& metadata, Inode& directory, std::span<const Patch> patches) {
  const auto parts = metadata.extents.map(directory, 0, directory.size() / kBlockSize);
  require(parts.has_value(), "mapping");
  std::vector<std::uint64_t> places;
  for (const auto& part : *parts) {
    for (std::uint64_t i = 0; i < part.count; ++i) places.push_back(part.physical + i);
  }
  const DirectoryStore store(volume, metadata.blocks, metadata.extents);
  std::array<std::byte, kBlockSize> bytes;
  for (const Patch& patch : patches) {
    const std::size_t index = patch.block % places.size();
    const std::uint64_t offset = places[index] * kBlockSize;
    require(volume.cache().read(offset, bytes).has_value(), "reading");
    // Nodes are known by their frame, before it is changed.
    const bool root = index == 0 && directory.has(EXT2_INDEX_FL);
    const DxNode node(bytes, root ? DxNode::Kind::kRoot : DxNode::Kind::kNode);
    const auto form = root ? DirectoryForm::kRoot
                      : directory.has(EXT2_INDEX_FL) && node.judge(store.index_format()).empty()
                          ? DirectoryForm::kNode
                          : DirectoryForm::kEntries;
    write_patch(patch, bytes);
    const bool inside = node.tail() + 8 <= kBlockSize && node.summed() <= node.tail();
    if (form == DirectoryForm::kEntries || inside) store.seal(directory, bytes, form);
    require(volume.cache().write(offset, bytes).has_value(), "writing");
  }
}

// Cookies grow, and a listing ends. How often `wanted` came.
std::size_t list(Directory& directories, const Inode& directory, std::string_view wanted) {
  std::size_t found = 0;
  std::uint64_t cookie = 0;
  for (std::size_t budget = 0; budget < 100'000; ++budget) {
    std::size_t taken = 0;
    const auto done = directories.list(directory, cookie, [&](const DirectoryEntry& entry) {
      if (taken == 30) return false;
      ++taken;
      require(entry.next > cookie && entry.next < std::uint64_t{1} << 63, "a cookie that does not grow");
      cookie = entry.next;
      if (entry.name == wanted) ++found;
      return true;
    });
    if (!done || taken == 0) return found;
  }
  require(false, "a listing without an end");
  return found;
}

void exercise(Metadata& metadata, Inode& directory, const Form& form, InodeNumber file, const Heard& heard) {
  auto& directories = metadata.directories;
  for (int i = 0; i < form.names; i += 7) (void)directories.find(directory, name_of(i, form.length));
  (void)directories.is_empty(directory);
  if (const auto parent = directories.parent_of(directory)) (void)directories.set_parent(directory, *parent);
  (void)list(directories, directory, "");
  for (int i = 0; i < 24; ++i) {
    const std::string name = name_of(1000 + i * 37, i % 3 == 0 ? 255 : 6 + i * 4);
    const auto known = directories.find(directory, name);
    if (!known) continue;
    if (*known) {
      (void)directories.replace(directory, name, file, S_IFREG);
      (void)directories.remove(directory, name);
      continue;
    }
    if (!directories.insert(directory, name, file, S_IFREG)) continue;
    const auto found = directories.find(directory, name);
    if (!heard.corrupted) {
      require(found.has_value() && *found == file, "a name that was inserted is not found");
      const std::size_t listed = i % 8 == 0 ? list(directories, directory, name) : 1;
      require(heard.corrupted || listed == 1, "a name that was inserted is not listed once");
    }
    (void)directories.replace(directory, name, file, S_IFREG);
    if (i % 2 == 0) {
      (void)directories.remove(directory, name);
      const auto again = directories.find(directory, name);
      require(heard.corrupted || (again.has_value() && !*again), "a name that was removed is found");
    }
  }
}

}  // namespace

bool try_directory(std::span<const std::byte> input) {
  static const auto images = [] {
    std::vector<Image> made;
    for (const Form& form : kForms) made.push_back(make_image(form));
    return made;
  }();
  if (input.empty()) return true;
  const std::size_t which = std::to_integer<std::size_t>(input[0]) % images.size();
  const Image& image = images[which];
  const auto patches = patches_of(input.subspan(1));
  const MemoryVolume memory(image.bytes);
  Heard heard;
  auto opened = Volume::open(memory.device(), {.errors = ErrorPolicy::kContinue}, heard);
  require(opened.has_value(), "opening");
  auto& volume = **opened;
  Metadata metadata(volume);
  auto directory = metadata.inodes.read(image.directory);
  require(directory.has_value(), "reading an inode");
  const auto handle = volume.journal().start(credits::of_replay);
  if (directory->has(EXT4_INLINE_DATA_FL)) {
    auto bytes = metadata.inline_data.read(*directory);
    require(bytes.has_value(), "reading inline data");
    for (const Patch& patch : patches) write_patch(patch, *bytes);
    require(metadata.inline_data.rewrite(*directory, *bytes).has_value(), "writing inline data");
  } else {
    patch_blocks(volume, metadata, *directory, patches);
  }
  exercise(metadata, *directory, kForms[which], image.file, heard);
  return !heard.corrupted;
}

std::vector<DirectorySeed> directory_seeds() {
  std::vector<DirectorySeed> seeds;
  const auto add = [&](std::size_t form, const char* name, std::vector<unsigned> patch) {
    std::vector<std::byte> input{static_cast<std::byte>(form)};
    for (const unsigned byte : patch) input.push_back(static_cast<std::byte>(byte));
    seeds.emplace_back(fmt::format("{}-{}", name, form), std::move(input));
  };
  for (std::size_t form = 0; form < kForms.size(); ++form) {
    add(form, "good", {});
    add(form, "first-length", {0, 4, 0, 2, 7, 0});
    add(form, "second-length", {0, 16, 0, 2, 0, 4});
    add(form, "name-length", {1, 6, 0, 1, 255});
    add(form, "inode", {1, 0, 0, 4, 0, 0, 0, 0});
    add(form, "levels", {0, 30, 0, 1, 2});
    add(form, "hash", {0, 28, 0, 1, 0});
    add(form, "counts", {0, 32, 0, 4, 123, 0, 123, 0});
    add(form, "entries", {0, 36, 0, 12, 1, 0, 0, 0, 2, 0, 0, 128, 1, 0, 0, 0});
    add(form, "two", {1, 0, 0, 4, 0, 0, 0, 0, 2, 4, 0, 2, 0, 4});
  }
  return seeds;
}

}  // namespace fuse4fs::ext4::fuzz
