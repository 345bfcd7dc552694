// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/ext2_io.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>

namespace fuse4fs::ext4 {
namespace {

thread_local cache::BufferCache* cache_to_open = nullptr;

struct Channel {
  struct_io_channel face{};
  std::string name;
  cache::BufferCache* cache = nullptr;
};

Channel& channel_of(io_channel face) { return *static_cast<Channel*>(face->private_data); }

// A negative count is a number of bytes.
bool length_of(io_channel face, unsigned long long block, int count, std::uint64_t& offset,
               std::size_t& length) {
  const auto block_size = static_cast<std::uint64_t>(face->block_size);
  length = count < 0 ? static_cast<std::size_t>(-static_cast<std::int64_t>(count))
                     : static_cast<std::size_t>(count) * block_size;
  return !__builtin_mul_overflow(static_cast<std::uint64_t>(block), block_size, &offset);
}

errcode_t open_channel(const char* name, int, io_channel* opened) {
  if (cache_to_open == nullptr) return EXT2_ET_BAD_DEVICE_NAME;
  std::unique_ptr<Channel> channel;
  try {
    channel = std::make_unique<Channel>();
    channel->name = name;
  } catch (const std::bad_alloc&) {
    return EXT2_ET_NO_MEMORY;
  }
  channel->cache = cache_to_open;
  channel->face.magic = EXT2_ET_MAGIC_IO_CHANNEL;
  channel->face.manager = Ext2Io::manager();
  channel->face.name = channel->name.data();
  channel->face.block_size = 1024;
  channel->face.refcount = 1;
  channel->face.private_data = channel.get();
  *opened = &channel.release()->face;
  return 0;
}

errcode_t close_channel(io_channel face) {
  if (--face->refcount > 0) return 0;
  delete &channel_of(face);
  return 0;
}

errcode_t set_block_size(io_channel face, int block_size) {
  if (block_size < 1024 || block_size > 65536) return EXT2_ET_INVALID_ARGUMENT;
  face->block_size = block_size;
  return 0;
}

errcode_t read_blocks64(io_channel face, unsigned long long block, int count, void* data) {
  std::uint64_t offset = 0;
  std::size_t length = 0;
  if (!length_of(face, block, count, offset, length)) return EXT2_ET_BAD_BLOCK_NUM;
  // Nothing may be thrown through libext2fs.
  try {
    const auto done = channel_of(face).cache->read(offset, std::span(static_cast<std::byte*>(data), length));
    return done ? 0 : done.error().value();
  } catch (const std::bad_alloc&) {
    return EXT2_ET_NO_MEMORY;
  }
}

errcode_t read_blocks(io_channel face, unsigned long block, int count, void* data) {
  return read_blocks64(face, block, count, data);
}

errcode_t refuse(io_channel, unsigned long, int, const void*) { return EROFS; }
errcode_t refuse64(io_channel, unsigned long long, int, const void*) { return EROFS; }

}  // namespace

Ext2Io::Ext2Io(cache::BufferCache& cache) { cache_to_open = &cache; }
Ext2Io::~Ext2Io() { cache_to_open = nullptr; }

io_manager Ext2Io::manager() {
  // Never written to after this, but libext2fs's type is a plain pointer.
  static struct_io_manager manager = [] {
    struct_io_manager fresh{};
    fresh.magic = EXT2_ET_MAGIC_IO_MANAGER;
    fresh.name = "fuse4fs buffer cache";
    fresh.open = open_channel;
    fresh.close = close_channel;
    fresh.set_blksize = set_block_size;
    fresh.read_blk = read_blocks;
    fresh.write_blk = refuse;
    fresh.write_byte = refuse;
    fresh.read_blk64 = read_blocks64;
    fresh.write_blk64 = refuse64;
    return fresh;
  }();
  return &manager;
}

}  // namespace fuse4fs::ext4
