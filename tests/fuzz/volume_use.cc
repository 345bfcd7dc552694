// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/fuzz/volume_use.h"

#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/fuzz/memory_volume.h"

namespace fuse4fs::ext4::fuzz {
namespace {

// So many single blocks need a tree of depth 2, or an indirect map of two levels.
constexpr std::size_t kDeepMap = 345;

void set_xattr(FileSystem& fs, InodeNumber inode, const char* name, std::size_t length) {
  const std::string value(length, 'v');
  (void)fs.set_xattr(inode, name, std::as_bytes(std::span(value)), XattrMode::kCreateOrReplace,
                     SetgidBit::kKeep);
}

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
  const auto names = fs.xattr_names(inode).value_or("");
  for (std::string_view rest = names; !rest.empty(); rest.remove_prefix(rest.find('\0') + 1))
    (void)fs.xattr(inode, rest.substr(0, rest.find('\0')));
}

void change_ranges(FileSystem& fs, InodeNumber inode, std::uint64_t size) {
  const auto change = [&](RangeChange what, ByteRange range, EndOfFile end = EndOfFile::kKeep) {
    (void)fs.change_range(inode, what, range, end, AttributeChanges::Privileges::kKeep);
  };
  change(RangeChange::kPunchHole, {2048, 9000});
  change(RangeChange::kZero, {14'000, 5000});
  change(RangeChange::kAllocate, {30'000, 20'000}, EndOfFile::kMayMove);
  change(RangeChange::kCollapse, {4096, 4096});
  change(RangeChange::kInsert, {4096, 8192});
  (void)fs.copy_range(inode, 0, inode, size + 100'000, 3000, AttributeChanges::Privileges::kKeep);
}

void change_file(FileSystem& fs, InodeNumber directory, const std::string& name, const Attributes& file,
                 int turn) {
  const InodeNumber inode = file.inode;
  const std::string text(3000, 't');
  const auto bytes = std::as_bytes(std::span(text));
  (void)fs.write(inode, 5000, bytes, AttributeChanges::Privileges::kClear);
  change_ranges(fs, inode, file.size);
  if (turn % 4 == 1) (void)fs.set_attributes(inode, {.size = 1500});
  for (const std::size_t length : {20, 400, 3000})
    set_xattr(fs, inode, ("user.set_" + std::to_string(length)).c_str(), length);
  set_xattr(fs, inode, "user.note", 20);
  (void)fs.remove_xattr(inode, turn % 4 == 1 ? "user.of_200" : "user.set_400");
  (void)fs.remove_xattr(inode, "user.of_2500");
  (void)fs.rename(directory, name, kRootInode, name + "-moved", {.mode = RenameMode::kReplace});
}

}  // namespace

void fill_volume(FileSystem& fs) {
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
  make_inode(fs, kRootInode, "tree", S_IFREG | 0644, kDeepMap);
  const auto attributed = make_inode(fs, directory, "attributed", S_IFREG | 0644, 1);
  for (const std::size_t length : {8, 40, 200, 2500})
    set_xattr(fs, attributed, ("user.of_" + std::to_string(length)).c_str(), length);
}

void look_at_volume(FileSystem& fs) {
  std::vector<InodeNumber> directories{kRootInode};
  for (std::size_t i = 0; i < directories.size() && i < 20; ++i) {
    for (const auto& name : names_of(fs, directories[i])) {
      const auto found = fs.lookup(directories[i], name);
      if (!found) continue;
      look_at(fs, found->inode, found->mode, found->size);
      if (S_ISDIR(found->mode) && std::ranges::find(directories, found->inode) == directories.end())
        directories.push_back(found->inode);
      fs.forget(found->inode, 1);
    }
  }
  (void)fs.statistics();
}

// Each name is either changed or taken away, so that no order of the walk hides one from the other.
void use_volume(FileSystem& fs) {
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
      if (turn % 2 == 1) change_file(fs, directory, name, *found, turn);
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

}  // namespace fuse4fs::ext4::fuzz
