// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <mutex>

#include "tests/iomap/file.h"

namespace fuse4fs::iomap_model {

// The server is asked first; what it does not do is done through the page cache.
Result<std::size_t> File::copy_from(File& source, ByteRange range, std::uint64_t position) {
  const std::uint64_t size = source.size_;
  if (range.offset >= size) return 0;
  ASSIGN_OR_RETURN(const std::uint64_t most, limit_write(position, range.length));
  const std::uint64_t length = std::min({range.length, size - range.offset, most});
  if (this == &source && position + length > range.offset && position < range.offset + length)
    return fail(EINVAL);
  if (length == 0) return 0;
  const auto copied = copy_on_server(source, {.offset = range.offset, .length = length}, position);
  if (copied || (copied.error() != Errno(ENOSYS) && copied.error() != Errno(EOPNOTSUPP))) return copied;
  std::size_t done = 0;
  while (done < length) {
    std::vector<std::byte> bytes(std::min<std::uint64_t>(length - done, kReadAhead));
    ASSIGN_OR_RETURN(const std::size_t got, source.read(range.offset + done, bytes));
    if (got == 0) break;
    const auto written = write(position + done, std::span(bytes).first(got));
    if (!written) return done > 0 ? Result<std::size_t>(done) : written;
    done += *written;
    if (*written < got) break;
  }
  return done;
}

Result<std::size_t> File::copy_on_server(File& source, ByteRange range, std::uint64_t position) {
  const FreezeGate::Writer writer(core_.gate);
  {
    const std::unique_lock lock(source.inode_lock_);
    RETURN_IF_ERROR(source.write_back(range));
  }
  const std::unique_lock lock(inode_lock_);
  const ByteRange target{.offset = position, .length = range.length};
  RETURN_IF_ERROR(write_back(target));
  fuse_copy_file_range_in in{};
  in.off_in = range.offset;
  in.nodeid_out = id_.node;
  in.off_out = position;
  in.len = range.length;
  ASSIGN_OR_RETURN(const auto out,
                   core_.connection.ask<fuse_write_out>(FUSE_COPY_FILE_RANGE, source.id_.node, in));
  // The pages of the target and its mappings are old now.
  const std::uint64_t begin = round_down(position);
  const ByteRange blocks{.offset = begin, .length = round_up(position + out.size) - begin};
  (void)invalidate_pages(blocks);
  mapper_.cache().invalidate(blocks);
  std::vector<std::byte> bytes(out.size);
  source.ledger_.expect(range.offset, bytes);
  ledger_.wrote(position, bytes);
  if (position + out.size > size_) size_ = position + out.size;
  times_changed_ = true;
  attributes_.expire();
  return out.size;
}

}  // namespace fuse4fs::iomap_model
