// SPDX-License-Identifier: GPL-2.0-or-later
// A regular file as the kernel has it in memory: its pages, mappings, size and locks, and the system calls on
// it. The data of its blocks is read and written on the device; everything else is asked of the server.
//
// Any thread. Locks are the kernel's, taken in this order: inode_lock_, invalidate_lock_, folios (ascending).
// Positions and lengths in bytes. Errors as the system calls'.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <shared_mutex>
#include <span>
#include <vector>

#include "server/fuse/kernel_abi.h"
#include "tests/iomap/attribute_cache.h"
#include "tests/iomap/core.h"
#include "tests/iomap/file_ledger.h"
#include "tests/iomap/mapper.h"
#include "tests/iomap/page_cache.h"

namespace fuse4fs::iomap_model {

class File {
 public:
  // `ledger`: of the inode, which may have been in memory before.
  File(Core& core, const fuse_entry_out& entry, std::shared_ptr<FileLedger> ledger);
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] std::uint64_t node() const { return id_.node; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] Mapper& mapper() { return mapper_; }
  [[nodiscard]] FileLedger& ledger() { return ledger_; }
  // Takes what the file holds for what somebody wrote: of a volume that is not new.
  Result<void> adopt();

  // ---- through the page cache (file_buffered.cc) ----
  Result<std::size_t> read(std::uint64_t position, std::span<std::byte> into);
  struct WriteOptions {
    // Behind so many bytes the caller's memory cannot be read: a short write.
    std::size_t readable = std::numeric_limits<std::size_t>::max();
    std::uint32_t operation = 0;  // kOpNoWait
  };
  Result<std::size_t> write(std::uint64_t position, std::span<const std::byte> from,
                            const WriteOptions& options);
  Result<std::size_t> write(std::uint64_t position, std::span<const std::byte> from) {
    return write(position, from, {});
  }
  // To a shared mapping of the file: each page by a write fault. EFAULT behind its end.
  Result<void> store(std::uint64_t position, std::span<const std::byte> from);

  // ---- past the page cache (file_direct.cc) ----
  struct DirectOptions {
    // kOpNoWait; of writes also kOpOverwriteOnly, kOpAtomic: EOPNOTSUPP where the inode is not said to take
    // such, EINVAL but for an aligned block.
    std::uint32_t operation = 0;
  };
  Result<std::size_t> direct_read(std::uint64_t position, std::span<std::byte> into,
                                  const DirectOptions& options);
  Result<std::size_t> direct_read(std::uint64_t position, std::span<std::byte> into) {
    return direct_read(position, into, {});
  }
  Result<std::size_t> direct_write(std::uint64_t position, std::span<const std::byte> from,
                                   const DirectOptions& options);
  Result<std::size_t> direct_write(std::uint64_t position, std::span<const std::byte> from) {
    return direct_write(position, from, {});
  }

  // copy_file_range(2), of a part of `source` or of this file (file_copy.cc).
  Result<std::size_t> copy_from(File& source, ByteRange range, std::uint64_t position);

  // ---- its blocks and its end (file_resize.cc) ----
  Result<void> truncate(std::uint64_t size);
  // open(2) with O_TRUNC, where the server truncates in OPEN.
  Result<void> open_truncating();
  // mode: FALLOC_FL_*.
  Result<void> fallocate(int mode, ByteRange range);

  // ---- to the device (file_write_back.cc) ----
  // Of what is dirty now.
  Result<void> write_back(ByteRange range = kAll);
  // As the kernel's flusher: of what it comes by, also what became dirty since it began. `before_folio` is
  // called without a lock, for a test that puts something in between.
  using BeforeFolio = std::function<void(std::uint64_t offset)>;
  Result<void> flush_in_background(const BeforeFolio& before_folio = {});
  enum class SyncWhat { kDataOnly, kAll };
  Result<void> sync(SyncWhat what = SyncWhat::kAll);
  Result<void> close();

  // ---- the rest (file.cc) ----
  // SEEK_DATA, SEEK_HOLE. ENXIO at or behind the end.
  Result<std::uint64_t> seek(std::uint64_t position, ext4::SeekTarget target);
  // FIEMAP, flushed before: what is no hole.
  Result<std::vector<iomap_abi::Mapping>> extents();
  // A swap file's mappings; let go by swap_off().
  Result<std::vector<iomap_abi::Mapping>> swap_on();
  Result<void> swap_off();
  // stat(2): as the attributes are kept, or by asking.
  Result<fuse_attr> attributes();
  // The same past their timeout.
  Result<fuse_attr> stat();
  // What memory pressure does: clean pages go. drop_caches(): mappings too.
  void reclaim();
  void drop_caches();
  // The same, dirty pages included: the inode goes. Which pages are written before it is the caller's.
  void drop_pages();
  // Sends the times if they have changed.
  Result<void> flush_times();
  // After a sync and with nobody at work: that what was synced comes from the server and the device again.
  // Leaves the caches empty.
  Result<void> judge_durability();
  // Cached mappings against what the server says now. With nobody at work. EUCLEAN if they differ.
  Result<void> judge_cache();

 private:
  static constexpr ByteRange kAll{.offset = 0, .length = ~std::uint64_t{0}};
  static constexpr std::uint64_t kReadAhead = 128 << 10;

  [[nodiscard]] std::uint64_t round_down(std::uint64_t at) const { return at / block_ * block_; }
  [[nodiscard]] std::uint64_t round_up(std::uint64_t at) const { return round_down(at + block_ - 1); }

  // How much of a write fits below the end of the largest file. EFBIG: nothing.
  [[nodiscard]] Result<std::uint64_t> limit_write(std::uint64_t position, std::uint64_t length) const;
  Result<std::size_t> copy_on_server(File& source, ByteRange range, std::uint64_t position);
  Result<void> read_device(const iomap_abi::Mapping& mapping, std::uint64_t position,
                           std::span<std::byte> into);
  Result<void> write_device(const iomap_abi::Mapping& mapping, std::uint64_t position,
                            std::span<const std::byte> from);
  // What was reported as a hole since the ticket was taken.
  void judge_hole(const FileLedger::Ticket& ticket, ByteRange range);
  // FUSE_READ and FUSE_WRITE without a handle. The kernel reads as much as BEGIN was asked for, into memory
  // for the mapping.
  Result<void> read_inline(const Mapper::Answer& answer, std::uint64_t position, std::span<std::byte> into);
  Result<void> write_inline(std::uint64_t position, std::span<const std::byte> from);

  // invalidate_lock_ shared (or nobody else can remove), the folio locked.
  Result<void> fill(Folio& folio, ByteRange range);
  Result<void> fill_part(Folio& folio, const Mapper::Answer& answer, ByteRange part);
  Result<void> read_ahead(std::uint64_t position);
  // The blocks of the range that will not be overwritten in whole are made up to date.
  Result<void> prepare(Folio& folio, const Mapper::Answer& answer, ByteRange range);
  struct Copied {
    std::uint64_t bytes = 0;
    std::uint16_t flags = 0;
    Result<void> outcome{};
  };
  Copied copy_in(const Mapper::Answer& answer, std::uint64_t position, std::span<const std::byte> from,
                 std::size_t readable);
  Copied copy_inline(std::uint64_t position, std::span<const std::byte> from);
  // inode_lock_ held exclusively, as in all of these.
  Result<std::size_t> write_locked(std::uint64_t position, std::span<const std::byte> from,
                                   const WriteOptions& options);
  Result<void> zero_range(ByteRange range);
  Result<void> zero_pages(const Mapper::Answer& answer, ByteRange range);
  Result<void> zero_behind(std::uint64_t old_size, std::uint64_t position);

  struct DirectOutcome {
    std::uint64_t done = 0;
    std::uint32_t flags = 0;  // of IOEND
    Result<void> outcome{};
    // kByPages: of one that failed, what is left goes through the page cache.
    enum class Then { kNothing, kByPages } then = Then::kNothing;
    // The server refused a BEGIN.
    void stop(Errno error);
  };
  DirectOutcome read_directly(std::uint64_t position, std::span<std::byte> into,
                              const DirectOptions& options);
  Result<void> read_piece(const Mapper::Answer& answer, std::uint64_t position, std::span<std::byte> into);
  DirectOutcome write_directly(std::uint64_t position, std::span<const std::byte> from,
                               const DirectOptions& options);
  // inode_lock_ held, in one way or the other.
  DirectOutcome direct_write_locked(std::uint64_t position, std::span<const std::byte> from,
                                    const DirectOptions& options);
  // What is left of it goes to where all of it should have begun.
  void judge_going_by_pages(const DirectOutcome& direct, std::uint64_t position);
  DirectOutcome write_pieces(std::uint64_t position, std::span<const std::byte> from,
                             std::uint32_t operation);
  Result<void> write_piece(const iomap_abi::Mapping& mapping, std::uint64_t position,
                           std::span<const std::byte> from);
  // Whether none is dirty (again).
  bool invalidate_pages(ByteRange range);

  // Pages wholly behind, the rest of one zeroed.
  void truncate_pages(std::uint64_t size);
  void remove_pages(ByteRange range);
  Result<void> set_size_on_server(std::uint64_t size);
  // `removed`: the whole blocks that it takes away.
  Result<void> fallocate_on_server(int mode, ByteRange range, ByteRange removed);

  struct Ioend;
  struct Completion;
  struct WriteBack;
  void write_back_one(WriteBack& state, const std::shared_ptr<Folio>& folio);
  Result<void> finish_write_back(WriteBack& state);
  Result<void> write_back_folio(WriteBack& state, LockedFolio& folio);
  Result<void> write_back_run(WriteBack& state, LockedFolio& folio, ByteRange run);
  // From `position` on nothing of the folio is written.
  void discard(const LockedFolio& folio, std::uint64_t position, Errno error);
  void submit(WriteBack& state);
  void cancel(WriteBack& state);
  void complete_all(WriteBack& state);
  Result<void> complete(const Completion& completion);
  void remember_error(Errno error);

  Core& core_;
  const NodeId id_;
  const std::uint64_t block_;
  const std::uint32_t flags_;  // of its attributes when the inode was made
  const std::shared_ptr<FileLedger> kept_ledger_;
  FileLedger& ledger_;
  Mapper mapper_;
  PageCache pages_;
  AttributeCache attributes_;

  std::shared_mutex inode_lock_;
  std::shared_mutex invalidate_lock_;
  // Changed with inode_lock_ held exclusively.
  std::atomic<std::uint64_t> size_;
  std::atomic<std::uint64_t> synced_size_ = 0;
  std::atomic<bool> times_changed_ = false;
  std::atomic<int> write_back_error_ = 0;      // an errno, until the next sync
  std::atomic<std::uint64_t> last_write_ = 0;  // of Device
  std::atomic<std::uint32_t> last_device_ = 0;
};

}  // namespace fuse4fs::iomap_model
