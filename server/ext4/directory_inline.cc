// SPDX-License-Identifier: GPL-2.0-or-later
// Directory: small ones inside their inode. Two stretches of entries; "." is not stored, ".." is a bare
// number.
#include <algorithm>
#include <cstring>

#include "server/ext4/directory.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kParent = 4;                  // ".." comes first
constexpr std::size_t kFirst = InlineData::kInMap;  // where the second stretch begins
// Where entries will lie when they move to a block, behind "." and "..": cookies stay good.
constexpr std::uint64_t kInBlock = entry_length(1) + entry_length(2) - kParent;

}  // namespace

template <class Visit>
Result<void> Directory::each_inline_entry(const Inode& directory, const Bytes& bytes, Visit visit) {
  bool more = true;
  const auto until = [&](const Entry& entry) { return more = visit(entry); };
  RETURN_IF_ERROR(each_entry(directory, bytes, kParent, kFirst, 0, until));
  if (!more) return {};
  return each_entry(directory, bytes, kFirst, bytes.size(), 0, until);
}

Result<std::optional<InodeNumber>> Directory::find_inline(Inode& directory, std::string_view name) {
  ASSIGN_OR_RETURN(const auto bytes, inline_data_.read(directory));
  std::optional<InodeNumber> found;
  RETURN_IF_ERROR(each_inline_entry(directory, bytes, [&](const Entry& entry) {
    if (entry.inode != 0 && entry.name == name) found = entry.inode;
    return !found;
  }));
  return found;
}

Result<void> Directory::change_inline(Inode& directory, std::string_view name, InodeNumber inode,
                                      mode_t mode) {
  ASSIGN_OR_RETURN(auto bytes, inline_data_.read(directory));
  std::optional<Entry> before;
  std::optional<Entry> found;
  RETURN_IF_ERROR(each_inline_entry(directory, bytes, [&](const Entry& entry) {
    if (entry.offset == kFirst) before.reset();
    if (entry.inode != 0 && entry.name == name) {
      found = entry;
      return false;
    }
    before = entry;
    return true;
  }));
  if (!found) return fail(ENOENT);
  if (inode != 0) {
    put_entry(bytes, found->offset, found->length, inode, name, mode);
  } else {
    std::memset(bytes.data() + found->offset + 8, 0, found->length - 8);
    std::memset(bytes.data() + found->offset, 0, 4);
    if (before) {
      std::memset(bytes.data() + found->offset, 0, 8);
      set_length(bytes, before->offset, before->length + found->length);
    }
  }
  RETURN_IF_ERROR(inline_data_.rewrite(directory, bytes));
  return write_touched(directory);
}

Result<void> Directory::move_out(Inode& directory) {
  ASSIGN_OR_RETURN(const auto bytes, inline_data_.read(directory));
  std::optional<Entry> last;
  RETURN_IF_ERROR(each_inline_entry(directory, bytes, [&](const Entry& entry) {
    last = entry;
    return true;
  }));
  Bytes block(volume_.block_size());
  const std::size_t end = put_tail(block);
  if (!last || last->offset + kInBlock + last->length > end)
    return fail(
        volume_.corrupted(directory.number, 0, "a directory inside its inode that is larger than a block"));
  InodeNumber parent = 0;
  std::memcpy(&parent, bytes.data(), sizeof parent);
  put_entry(block, 0, entry_length(1), directory.number, ".", S_IFDIR);
  put_entry(block, entry_length(1), entry_length(2), parent, "..", S_IFDIR);
  std::memcpy(block.data() + kParent + kInBlock, bytes.data() + kParent, bytes.size() - kParent);
  set_length(block, last->offset + kInBlock, end - last->offset - kInBlock);
  // The block goes to the device as it is, so its checksum is needed now.
  if (volume_.has_checksums()) {
    RETURN_IF_ERROR(volume_.check(ext2fs_dir_block_csum_set(volume_.fs(), directory.number,
                                                            reinterpret_cast<ext2_dir_entry*>(block.data())),
                                  directory.number, "writing a directory"));
  }
  return inline_data_.move_out(directory, block, volume_.block_size());
}

Result<void> Directory::list_inline(Inode& directory, std::uint64_t cookie, const DirectorySink& sink) {
  ASSIGN_OR_RETURN(const auto bytes, inline_data_.read(directory));
  if (cookie == 0 && !sink({".", directory.number, entry_type(EXT2_FT_DIR), 1})) return {};
  const std::uint64_t dotdot = entry_length(1);
  if (cookie <= dotdot && !sink({"..", directory.raw.i_block[0], entry_type(EXT2_FT_DIR), dotdot + 1}))
    return {};
  return each_inline_entry(directory, bytes, [&](const Entry& entry) {
    const std::uint64_t offset = entry.offset + kInBlock;
    if (entry.inode == 0 || offset < cookie) return true;
    return sink({entry.name, entry.inode, entry_type(entry.type), offset + 1});
  });
}

}  // namespace fuse4fs::ext4
