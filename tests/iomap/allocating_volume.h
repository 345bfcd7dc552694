// SPDX-License-Identifier: GPL-2.0-or-later
// A server of iomap to judge the model by: one directory of files on a raw device, their maps of blocks and
// everything else in memory. Right in all, unless it is given a Mistake.
//
// Any thread. A file's lock is held while the kernel is told of its mappings, so that what it is told stays
// in order. Bytes, but for the numbers of blocks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "server/ext4/mapping_service.h"
#include "tests/iomap/block_allocator.h"
#include "tests/iomap/mistakes.h"
#include "tests/iomap/partial_file_system.h"

namespace fuse4fs::iomap_model {

struct AllocatingOptions {
  BlockAllocator::Shape shape{};
  std::uint64_t inline_bytes = 0;       // a file up to so long lies in its inode
  std::uint64_t longest_mapping = 256;  // blocks, of one answer
  // Whether the kernel is told of each mapping that it asked for, to keep it.
  // kByCache: and then takes the mapping from there, where it sees it change. What is answered directly it
  // never looks at again (README.md).
  enum class Remember { kNothing, kAnswers, kByCache };
  Remember remember = Remember::kNothing;
  Mistake mistake = Mistake::kNone;
};

class AllocatingVolume final : public PartialFileSystem, public ext4::MappingService {
 public:
  // Owns neither: `device` is the descriptor, `watch` is told of blocks and flushes.
  AllocatingVolume(int device, VolumeWatch& watch, const AllocatingOptions& options);
  ~AllocatingVolume() override;

  [[nodiscard]] std::uint64_t free_blocks() const { return allocator_.free_blocks(); }
  // What fails in complete_write() from now on, for so many calls: a server in trouble of its own.
  void fail_completions(int count);

  // ext4::FileSystem
  [[nodiscard]] std::uint32_t block_size() const override {
    return static_cast<std::uint32_t>(options_.shape.block_size);
  }
  Result<Attributes> lookup(InodeNumber parent, std::string_view name) override;
  void forget(InodeNumber inode, std::uint64_t count) override;
  Result<Attributes> attributes(InodeNumber inode) override;
  Result<Attributes> set_attributes(InodeNumber inode, const ext4::AttributeChanges& changes) override;
  Result<Attributes> make(InodeNumber parent, std::string_view name, const ext4::NewInode& what) override;
  Result<void> unlink(InodeNumber parent, std::string_view name) override;
  Result<std::size_t> read(InodeNumber inode, std::uint64_t offset, std::span<std::byte> into,
                           ext4::AccessTime access_time) override;
  Result<ext4::SectorCounts> write(InodeNumber inode, std::uint64_t offset, std::span<const std::byte> from,
                                   ext4::AttributeChanges::Privileges privileges) override;
  Result<void> change_range(InodeNumber inode, ext4::RangeChange change, ext4::ByteRange range,
                            ext4::EndOfFile end_of_file, ext4::AttributeChanges::Privileges privileges,
                            std::optional<ext4::Caller> caller) override;
  Result<void> sync_inode(InodeNumber inode, SyncWhat what) override;
  Result<void> sync() override { return flush(); }
  Result<void> freeze() override { return flush(); }
  Result<void> thaw() override { return {}; }
  ext4::MappingService* mappings() override { return this; }

  // ext4::MappingService
  [[nodiscard]] ext4::MappingLimits mapping_limits() const override;
  void set_mapping_cache(ext4::MappingCache& cache) override { cache_ = &cache; }
  Result<ext4::DataMapping> map(InodeNumber inode, const ext4::MappingRequest& request) override;
  Result<void> finish(InodeNumber inode, const ext4::FinishedOperation& operation) override;
  Result<std::uint64_t> complete_write(InodeNumber inode, const ext4::CompletedWrite& write) override;

 private:
  struct Inode;
  using InodePointer = std::shared_ptr<Inode>;

  [[nodiscard]] bool makes(Mistake mistake) const { return options_.mistake == mistake; }
  [[nodiscard]] std::uint64_t up(std::uint64_t bytes) const { return (bytes + block_ - 1) / block_; }
  Result<InodePointer> find(InodeNumber number);
  Attributes describe(const Inode& inode) const;
  Result<void> flush();
  // All with the inode's lock.
  Result<void> allocate(Inode& inode, std::uint64_t begin, std::uint64_t end);
  // The blocks [begin, end) go; the kernel forgets them before.
  enum class Telling { kForgets, kNobody };
  Result<void> remove(Inode& inode, std::uint64_t begin, std::uint64_t end, Telling telling);
  Result<void> forget_cached(Inode& inode, std::uint64_t begin, std::uint64_t end);
  // From the inode into a block.
  Result<void> move_out(Inode& inode);
  Result<void> truncate(Inode& inode, std::uint64_t size);
  ext4::DataMapping mapping_of(const Inode& inode, std::uint64_t block, std::uint64_t hole_end) const;
  Result<ext4::DataMapping> answer(Inode& inode, const ext4::MappingRequest& request);
  void spoil(Inode& inode, ext4::DataMapping& mapping);
  void move_elsewhere(Inode& inode);

  const int device_;
  VolumeWatch& watch_;
  const AllocatingOptions options_;
  const std::uint64_t block_;  // bytes
  BlockAllocator allocator_;
  ext4::MappingCache* cache_ = nullptr;  // set before the first map()
  std::mutex mutex_;
  // All guarded by mutex_.
  std::map<InodeNumber, InodePointer> inodes_;
  std::map<std::string, InodeNumber, std::less<>> names_;
  InodeNumber next_inode_ = 12;
  int failing_completions_ = 0;
};

}  // namespace fuse4fs::iomap_model
