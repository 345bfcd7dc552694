// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/extra_operations.h"

#include <sys/stat.h>

#include "server/fuse/conversions.h"
#include "server/fuse/decoded.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {
namespace {

using ext4::FileSystem;

// O_TMPFILE. The name in the request is none. A RELEASE follows once the file is closed, which libfuse
// answers.
void make_temporary(FileSystem& fs, Reply& reply, std::span<const std::byte> request) {
  const auto in = decode<fuse_create_in>(request);
  if (!in) return reply.error(Errno(EINVAL));
  const auto& header = in->header;
  const ext4::NewInode what{.mode = S_IFREG | (in->body.mode & 07777),
                            .umask = in->body.umask,
                            .uid = header.uid,
                            .gid = header.gid};
  const auto made = fs.make_temporary(inode_number(header.nodeid), what);
  if (!made) return reply.error(made.error());
  struct {
    fuse_entry_out entry;
    fuse_open_out open;
  } out{.entry = entry_reply(*made, CurrentRequest::attribute_style(fs.block_size())), .open = {}};
  static_assert(sizeof out == sizeof out.entry + sizeof out.open);
  // As of every file that is opened without asking.
  out.open.open_flags = FOPEN_KEEP_CACHE;
  reply.structure(out);
}

void statx(FileSystem& fs, Reply& reply, std::span<const std::byte> request) {
  const auto in = decode<StatxRequest>(request);
  if (!in) return reply.error(Errno(EINVAL));
  const auto attributes = fs.attributes(inode_number(in->header.nodeid));
  attributes ? reply.structure(statx_reply(*attributes, CurrentRequest::attribute_style(fs.block_size())))
             : reply.error(attributes.error());
}

}  // namespace

bool serve_extra_operation(FileSystem& file_system, std::uint32_t opcode,
                           std::span<const std::byte> request) {
  if (opcode != FUSE_TMPFILE && opcode != kStatx) return false;
  Reply reply;
  opcode == FUSE_TMPFILE ? make_temporary(file_system, reply, request) : statx(file_system, reply, request);
  return true;
}

}  // namespace fuse4fs::fuse
