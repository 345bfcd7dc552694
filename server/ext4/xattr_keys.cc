// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/xattr_keys.h"

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::string_view kDoing = "reading extended attributes";

// libext2fs hashes values in whole words and trusts their places to fit: that is looked at here first.
bool entries_fit(std::span<const std::byte> bytes, std::size_t first_entry) {
  std::size_t at = first_entry;
  while (at + sizeof(std::uint32_t) <= bytes.size()) {
    std::uint32_t mark = 0;
    std::memcpy(&mark, bytes.data() + at, sizeof mark);
    if (mark == 0) return true;
    ext2_ext_attr_entry entry;
    if (at + sizeof entry > bytes.size()) return false;
    std::memcpy(&entry, bytes.data() + at, sizeof entry);
    at += (sizeof entry + entry.e_name_len + 3) & ~std::size_t{3};
    if (at > bytes.size()) return false;
    if (entry.e_value_inum != 0 || entry.e_value_size == 0) continue;
    const std::size_t padded = (std::size_t{entry.e_value_size} + 3) & ~std::size_t{3};
    if (entry.e_value_offs % 4 != 0 || entry.e_value_offs > bytes.size() ||
        padded > bytes.size() - entry.e_value_offs)
      return false;
  }
  // No end mark, or no room for one.
  return at == bytes.size();
}

// Where extended attributes are, looked at: entries first, values at their offsets. Empty where there are
// none.
struct Places {
  std::vector<std::byte> in_inode;  // behind the mark
  std::vector<std::byte> block;     // with its header
};

Result<Places> read_places(Volume& volume, const Inode& inode) {
  const std::size_t inode_size = EXT2_INODE_SIZE(&volume.super());
  Places places;
  const std::size_t begin = EXT2_GOOD_OLD_INODE_SIZE + inode.raw.i_extra_isize;
  if (inode_size > EXT2_GOOD_OLD_INODE_SIZE && inode.raw.i_extra_isize != 0 && begin + 4 < inode_size) {
    std::vector<std::byte> whole(inode_size);
    RETURN_IF_ERROR(volume.check(
        ext2fs_read_inode_full(volume.fs(), inode.number, reinterpret_cast<ext2_inode*>(whole.data()),
                               static_cast<int>(inode_size)),
        inode.number, kDoing));
    std::uint32_t magic = 0;
    std::memcpy(&magic, whole.data() + begin, sizeof magic);
    if (magic == EXT2_EXT_ATTR_MAGIC) {
      places.in_inode.assign(whole.begin() + static_cast<std::ptrdiff_t>(begin + 4), whole.end());
      if (!entries_fit(places.in_inode, 0))
        return fail(volume.corrupted(inode.number, 0, "extended attributes inside the inode are damaged"));
    }
  }
  if (const auto block = inode.xattr_block(); block != 0) {
    auto& bytes = places.block;
    bytes.resize(volume.block_size());
    if (auto read = volume.cache().read(block << volume.block_bits(), bytes); !read)
      return fail(volume.failed(read.error().value(), inode.number, kDoing));
    if (!entries_fit(bytes, sizeof(ext2_ext_attr_header)))
      return fail(volume.corrupted(inode.number, block, "a block of extended attributes is damaged"));
    if (!ext2fs_test_block_bitmap2(volume.fs()->block_map, block))
      return fail(volume.corrupted(inode.number, block, "a block of extended attributes is marked free"));
  }
  return places;
}

// Answers whether there is anything at all.
Result<bool> check_places(Volume& volume, const Inode& inode) {
  ASSIGN_OR_RETURN(const Places places, read_places(volume, inode));
  return !places.in_inode.empty() || !places.block.empty();
}

// `bytes` went through entries_fit().
std::optional<std::vector<std::byte>> find_acl(std::span<const std::byte> bytes, std::size_t first_entry) {
  constexpr std::uint8_t kAccessAcl = 2;  // e_name_index: the whole name, so that no name follows
  for (std::size_t at = first_entry; at + sizeof(ext2_ext_attr_entry) <= bytes.size();) {
    std::uint32_t mark = 0;
    std::memcpy(&mark, bytes.data() + at, sizeof mark);
    if (mark == 0) break;
    ext2_ext_attr_entry entry;
    std::memcpy(&entry, bytes.data() + at, sizeof entry);
    at += (sizeof entry + entry.e_name_len + 3) & ~std::size_t{3};
    if (entry.e_name_index != kAccessAcl || entry.e_name_len != 0) continue;
    if (entry.e_value_inum != 0 || entry.e_value_size == 0) return std::vector<std::byte>();
    const auto value = bytes.subspan(entry.e_value_offs, entry.e_value_size);
    return std::vector<std::byte>(value.begin(), value.end());
  }
  return std::nullopt;
}

struct HandleCloser {
  void operator()(ext2_xattr_handle* handle) const { ext2fs_xattrs_close(&handle); }
};
using Handle = std::unique_ptr<ext2_xattr_handle, HandleCloser>;

Result<Handle> open_handle(Volume& volume, const Inode& inode) {
  ext2_xattr_handle* raw = nullptr;
  RETURN_IF_ERROR(volume.check(ext2fs_xattrs_open(volume.fs(), inode.number, &raw), inode.number, kDoing));
  Handle handle(raw);
  RETURN_IF_ERROR(volume.check(ext2fs_xattrs_read(raw), inode.number, kDoing));
  return handle;
}

}  // namespace

Result<std::optional<std::string>> get_xattr(Volume& volume, const Inode& inode, std::string_view name) {
  ASSIGN_OR_RETURN(const bool any, check_places(volume, inode));
  if (!any) return std::nullopt;
  ASSIGN_OR_RETURN(const auto handle, open_handle(volume, inode));
  void* value = nullptr;
  std::size_t length = 0;
  const errcode_t code = ext2fs_xattr_get(handle.get(), std::string(name).c_str(), &value, &length);
  if (code == EXT2_ET_EA_KEY_NOT_FOUND) return std::nullopt;
  RETURN_IF_ERROR(volume.check(code, inode.number, kDoing));
  std::string bytes(static_cast<const char*>(value), length);
  ext2fs_free_mem(&value);
  return bytes;
}

Result<std::optional<std::vector<std::byte>>> access_acl(Volume& volume, const Inode& inode) {
  ASSIGN_OR_RETURN(const Places places, read_places(volume, inode));
  if (auto found = find_acl(places.in_inode, 0)) return found;
  return find_acl(places.block, sizeof(ext2_ext_attr_header));
}

Result<void> set_xattr(Volume& volume, const Inode& inode, std::string_view name, std::string_view value) {
  RETURN_IF_ERROR(check_places(volume, inode));
  ASSIGN_OR_RETURN(const auto handle, open_handle(volume, inode));
  return volume.check(ext2fs_xattr_set(handle.get(), std::string(name).c_str(), value.data(), value.size()),
                      inode.number, "writing extended attributes");
}

Result<void> remove_xattr(Volume& volume, const Inode& inode, std::string_view name) {
  ASSIGN_OR_RETURN(const auto value, get_xattr(volume, inode, name));
  if (!value) return {};
  ASSIGN_OR_RETURN(const auto handle, open_handle(volume, inode));
  return volume.check(ext2fs_xattr_remove(handle.get(), std::string(name).c_str()), inode.number,
                      "removing an extended attribute");
}

Result<void> remove_all_xattrs(Volume& volume, const Inode& inode) {
  ASSIGN_OR_RETURN(const bool any, check_places(volume, inode));
  if (!any) return {};
  ASSIGN_OR_RETURN(const auto handle, open_handle(volume, inode));
  std::vector<std::string> names;
  const auto collect = [](char* name, char*, size_t, void* into) {
    static_cast<std::vector<std::string>*>(into)->emplace_back(name);
    return 0;
  };
  RETURN_IF_ERROR(volume.check(ext2fs_xattrs_iterate(handle.get(), collect, &names), inode.number, kDoing));
  for (const auto& name : names) {
    RETURN_IF_ERROR(volume.check(ext2fs_xattr_remove(handle.get(), name.c_str()), inode.number,
                                 "removing an extended attribute"));
  }
  return {};
}

}  // namespace fuse4fs::ext4
