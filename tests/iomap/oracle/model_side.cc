// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/oracle/model_side.h"

#include <linux/falloc.h>

#include <algorithm>
#include <stdexcept>

namespace fuse4fs::iomap_model {
namespace {

Outcome outcome(const Result<void>& done) { return {.error = done ? 0 : done.error().value()}; }

template <class Number>
Outcome outcome(const Result<Number>& done) {
  if (!done) return {.error = done.error().value()};
  return {.error = 0, .value = *done};
}

}  // namespace

ModelSide::ModelSide(Kernel& kernel, ext4::FileSystem& server, std::size_t files)
    : kernel_(kernel), server_(server) {
  for (std::size_t at = 0; at < files; ++at) {
    auto file = kernel.open(file_name(at));
    if (!file && file.error() == Errno(ENOENT)) file = kernel.create(file_name(at));
    if (!file) throw std::runtime_error("file of the model: " + file.error().message());
    files_.push_back(*file);
  }
}

Result<void> ModelSide::replace(const Operation& operation) {
  auto& file = files_[operation.file];
  if (operation.kind == Operation::Kind::kEvict) {
    RETURN_IF_ERROR(kernel_.evict(file));
    ASSIGN_OR_RETURN(file, kernel_.open(file_name(operation.file)));
    return {};
  }
  RETURN_IF_ERROR(kernel_.unlink(file_name(operation.file)));
  ASSIGN_OR_RETURN(file, kernel_.create(file_name(operation.file)));
  return {};
}

Result<std::uint64_t> ModelSide::seek(const Operation& operation) {
  File& file = *files_[operation.file];
  // What is in memory only is data or not as it pleases.
  RETURN_IF_ERROR(file.sync());
  file.drop_caches();
  return file.seek(operation.position, operation.kind == Operation::Kind::kSeekData
                                           ? ext4::SeekTarget::kData
                                           : ext4::SeekTarget::kHole);
}

Result<void> ModelSide::change(const Operation& operation) {
  File& file = *files_[operation.file];
  const ByteRange range{.offset = operation.position, .length = operation.length};
  switch (operation.kind) {
    using enum Operation::Kind;
    case kStore:
      return file.store(operation.position, bytes_of(operation));
    case kTruncate:
      return file.truncate(operation.position);
    case kOpenTruncating:
      return kernel_.open_truncating(files_[operation.file]);
    case kAllocate:
      return file.fallocate(0, range);
    case kAllocateKeepingSize:
      return file.fallocate(FALLOC_FL_KEEP_SIZE, range);
    case kPunch:
      return file.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range);
    case kZero:
      return file.fallocate(FALLOC_FL_ZERO_RANGE, range);
    case kZeroKeepingSize:
      return file.fallocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, range);
    case kSync:
      return file.sync();
    case kSyncData:
      return file.sync(File::SyncWhat::kDataOnly);
    case kClose:
      return file.close();
    case kReclaim:
      file.reclaim();
      return {};
    case kTick:
      return server_.write_back();
    default:
      return replace(operation);
  }
}

Outcome ModelSide::apply(const Operation& operation) {
  File& file = *files_[operation.file];
  switch (operation.kind) {
    using enum Operation::Kind;
    case kRead:
    case kDirectRead: {
      std::vector<std::byte> bytes(operation.length);
      Outcome read = outcome(operation.kind == kRead ? file.read(operation.position, bytes)
                                                     : file.direct_read(operation.position, bytes));
      bytes.resize(read.value);
      read.bytes = std::move(bytes);
      return read;
    }
    case kWrite:
      return outcome(file.write(operation.position, bytes_of(operation)));
    case kDirectWrite:
      return outcome(file.direct_write(operation.position, bytes_of(operation)));
    case kCopy:
      return outcome(files_[operation.to_file]->copy_from(
          file, {.offset = operation.position, .length = operation.length}, operation.to));
    case kSeekData:
    case kSeekHole:
      return outcome(seek(operation));
    default:
      return outcome(change(operation));
  }
}

Side::Layout ModelSide::layout(std::size_t number) {
  File& file = *files_[number];
  const auto synced = file.sync();
  if (!synced) throw std::runtime_error("sync: " + synced.error().message());
  file.drop_caches();
  Layout layout;
  for (std::uint64_t at = 0; at < file.size();) {
    const auto data = file.seek(at, ext4::SeekTarget::kData);
    if (!data) break;
    const auto hole = file.seek(*data, ext4::SeekTarget::kHole);
    if (!hole) throw std::runtime_error("SEEK_HOLE: " + hole.error().message());
    layout.data.push_back({.offset = *data, .length = *hole - *data});
    at = *hole;
  }
  const auto extents = file.extents();
  if (!extents) throw std::runtime_error("FIEMAP: " + extents.error().message());
  for (const auto& extent : *extents) {
    auto& all = layout.allocated;
    const std::uint64_t length =
        std::min(extent.offset + extent.length, file.size()) - std::min(extent.offset, file.size());
    if (!all.empty() && all.back().offset + all.back().length == extent.offset)
      all.back().length += length;
    else
      all.push_back({.offset = extent.offset, .length = length});
  }
  if (const auto attributes = file.stat()) layout.sectors = attributes->blocks;
  return layout;
}

std::uint64_t ModelSide::free_bytes() {
  const auto statistics = server_.statistics();
  if (!statistics) throw std::runtime_error("statfs: " + statistics.error().message());
  return statistics->free_blocks * statistics->block_size;
}

}  // namespace fuse4fs::iomap_model
