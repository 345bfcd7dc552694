// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/seek_queue.h"

#include <unistd.h>

#include <exception>

#include "base/log.h"
#include "server/fuse/conversions.h"
#include "server/fuse/decoded.h"
#include "server/fuse/notifications.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {

using ext4::SeekTarget;

void SeekQueue::serve(std::span<const std::byte> request) {
  const auto decoded = decode<fuse_lseek_in>(request);
  if (!decoded) return Reply().error(Errno(EINVAL));
  const auto& [header, in] = *decoded;
  if (!queue_.others_serve()) return Reply().error(Errno(ENOSYS));
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) return Reply().error(Errno(EINVAL));
  if (in.offset > INT64_MAX) return Reply().error(Errno(ENXIO));
  const Seek seek{&CurrentRequest::connection(),
                  CurrentRequest::device_fd(),
                  header.unique,
                  header.nodeid,
                  in.offset,
                  in.whence == SEEK_DATA ? SeekTarget::kData : SeekTarget::kHole};
  if (seek.target == SeekTarget::kData) {
    // Data that the volume has is data whatever the kernel holds.
    const auto found = look(seek, seek.offset, SeekTarget::kData);
    if (found && *found == seek.offset) return Reply().structure(fuse_lseek_out{.offset = *found});
  }
  queue_.run([this, seek] { answer(seek); });
}

void SeekQueue::answer(const Seek& seek) {
  const CurrentRequest::Scope scope(*seek.connection, seek.device_fd, seek.unique, FUSE_LSEEK, {});
  try {
    Reply reply;  // EIO if the search throws
    const auto found = find(seek);
    found ? reply.structure(fuse_lseek_out{.offset = *found}) : reply.error(found.error());
  } catch (const std::exception& exception) {
    log_error("opcode {}: {}", CurrentRequest::opcode(), exception.what());
  }
}

Result<std::uint64_t> SeekQueue::look(const Seek& seek, std::uint64_t offset, SeekTarget target) {
  return file_system_.seek(inode_number(seek.node), offset, target);
}

Result<std::uint64_t> SeekQueue::find(const Seek& seek) {
  const auto data = look(seek, seek.offset, SeekTarget::kData);
  if (!data && data.error() != Errno(ENXIO)) return data;
  if (seek.target == SeekTarget::kData) {
    if (data && *data == seek.offset) return data;
    write_pages(seek, seek.offset, data);
    return look(seek, seek.offset, SeekTarget::kData);
  }
  // The first hole that stays one.
  std::uint64_t from = seek.offset;
  while (true) {
    auto hole = look(seek, from, SeekTarget::kHole);
    // At the end of the file there is one, but if the kernel knows of a later end.
    if (!hole && hole.error() == Errno(ENXIO) && from != seek.offset) hole = from;
    if (!hole && hole.error() != Errno(ENXIO)) return hole;
    const std::uint64_t begin = hole.value_or(from);
    write_pages(seek, begin, look(seek, begin, SeekTarget::kData));
    const auto again = look(seek, begin, SeekTarget::kHole);
    if (!again && again.error() == Errno(ENXIO) && hole) return begin;
    if (!again || *again == begin) return again;
    from = *again;
  }
}

void SeekQueue::write_pages(const Seek& seek, std::uint64_t begin, const Result<std::uint64_t>& end) {
  write_dirty_pages(seek.device_fd, seek.node, begin, end ? *end - begin : 0);
}

}  // namespace fuse4fs::fuse
