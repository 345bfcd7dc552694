// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/directory_listing.h"

#include <cstring>
#include <string_view>

#include "server/fuse/conversions.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {
namespace {

fuse_dirent header_of(ext4::InodeNumber inode, std::uint8_t type, std::uint64_t next,
                      std::size_t name_length) {
  fuse_dirent header{};
  header.ino = inode;
  header.off = next;
  header.namelen = static_cast<std::uint32_t>(name_length);
  header.type = type;
  return header;
}

void append(std::vector<std::byte>& out, const void* bytes, std::size_t count) {
  const std::size_t at = out.size();
  out.resize(at + count);
  std::memcpy(out.data() + at, bytes, count);
}

void append_name(std::vector<std::byte>& out, std::string_view name) {
  append(out, name.data(), name.size());
  out.resize(FUSE_REC_ALIGN(out.size()));
}

bool is_dot_or_dot_dot(std::string_view name) { return name == "." || name == ".."; }

}  // namespace

Result<std::vector<std::byte>> list_directory(ext4::FileSystem& fs, ext4::InodeNumber directory,
                                              std::uint64_t cookie, std::size_t size,
                                              ext4::AccessTime access_time) {
  std::vector<std::byte> out;
  out.reserve(size);
  RETURN_IF_ERROR(fs.read_directory(
      directory, cookie,
      [&](const ext4::DirectoryEntry& entry) {
        if (out.size() + FUSE_REC_ALIGN(FUSE_NAME_OFFSET + entry.name.size()) > size) return false;
        const fuse_dirent header = header_of(entry.inode, entry.type, entry.next, entry.name.size());
        append(out, &header, FUSE_NAME_OFFSET);
        append_name(out, entry.name);
        return true;
      },
      access_time));
  return out;
}

Result<std::vector<std::byte>> list_directory_with_attributes(ext4::FileSystem& fs,
                                                              ext4::InodeNumber directory,
                                                              std::uint64_t cookie, std::size_t size,
                                                              ext4::AccessTime access_time) {
  // The names first, with room for the rest: the engine may hold locks while it lists, and looking an inode
  // up takes them as well. An entry with node id 0: the kernel takes the name and type only, and counts no
  // look-up.
  std::vector<std::byte> out;
  out.reserve(size);
  RETURN_IF_ERROR(fs.read_directory(
      directory, cookie,
      [&](const ext4::DirectoryEntry& entry) {
        if (out.size() + FUSE_REC_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + entry.name.size()) > size) return false;
        out.resize(out.size() + sizeof(fuse_entry_out));
        const fuse_dirent header = header_of(entry.inode, entry.type, entry.next, entry.name.size());
        append(out, &header, FUSE_NAME_OFFSET);
        append_name(out, entry.name);
        return true;
      },
      access_time));

  for (std::size_t at = 0; at < out.size();) {
    fuse_dirent header{};
    std::memcpy(&header, out.data() + at + sizeof(fuse_entry_out), FUSE_NAME_OFFSET);
    const auto* const name = reinterpret_cast<const char*>(out.data()) + at + FUSE_NAME_OFFSET_DIRENTPLUS;
    if (!is_dot_or_dot_dot({name, header.namelen})) {
      // Gone, or damaged: the name alone is listed, and whoever looks it up gets the error.
      if (const auto attributes = fs.look_up_inode(static_cast<ext4::InodeNumber>(header.ino))) {
        const fuse_entry_out entry =
            entry_reply(*attributes, CurrentRequest::attribute_style(fs.block_size()));
        std::memcpy(out.data() + at, &entry, sizeof entry);
      }
    }
    at += FUSE_REC_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + header.namelen);
  }
  return out;
}

}  // namespace fuse4fs::fuse
