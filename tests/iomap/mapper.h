// SPDX-License-Identifier: GPL-2.0-or-later
// Where the data of one inode lies: out of the cache of mappings, or by asking the server; and telling it
// what became of it (END, IOEND). All answers are judged here.
//
// Any thread. Bytes.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/fuse_iomap_abi.h"
#include "base/result.h"
#include "tests/iomap/core.h"
#include "tests/iomap/file_ledger.h"
#include "tests/iomap/mapping_cache.h"
#include "tests/iomap/rules.h"

namespace fuse4fs::iomap_model {

struct NodeId {
  std::uint64_t node = 0;
  std::uint64_t inode = 0;  // fuse_attr.ino
};

class Mapper {
 public:
  Mapper(Core& core, NodeId id, FileLedger& ledger);

  struct Answer {
    iomap_abi::Mapping mapping;  // where the operation goes
    iomap_abi::Mapping source;   // where the data is
    std::uint64_t cookie = 0;    // 0: good for ever
    ByteRange asked{};           // of BEGIN
    [[nodiscard]] std::uint64_t end() const { return mapping.offset + mapping.length; }
  };
  // kServer: past the cache, as for swap files; what it says is judged all the same.
  enum class From { kCache, kServer };
  // EUCLEAN for an answer that breaks a rule. `file_size`: as the kernel knows it.
  Result<Answer> begin(std::uint32_t operation, std::uint64_t position, std::uint64_t count,
                       std::uint64_t file_size, From from = From::kCache);
  // An answer goes on to be used for a range of whole blocks.
  void reuse(const Answer& answer, ByteRange range);
  [[nodiscard]] bool is_current(const Answer& answer) const {
    return answer.cookie == 0 || answer.cookie == cache_.sequence();
  }

  struct Finished {
    std::uint32_t operation = 0;
    std::uint64_t position = 0, count = 0, written = 0;
    std::uint16_t more_flags = 0;  // kSizeChanged, kStale
  };
  // Tells it if the kernel would. Fails if nothing was written and the server says so.
  Result<void> end(const Answer& answer, const Finished& finished);

  struct Completed {
    std::uint32_t flags = 0;  // IoendFlag; kIoendAppend is added here
    int error = 0;            // an errno
    ByteRange range;
    std::uint64_t address = iomap_abi::kNullAddress;
    std::uint32_t device = iomap_abi::kNullDevice;
  };
  // After device_written() or device_refused(). The server's refusal is the error.
  Result<void> ioend(const Completed& completed);
  // Since the last time: whether the server refused an IOEND.
  bool take_refusal() { return refused_.exchange(false); }

  // What the kernel believes to be the size on the disk: only it decides APPEND.
  [[nodiscard]] std::uint64_t disk_size() const { return disk_size_; }
  void set_disk_size(std::uint64_t size) { disk_size_ = size; }

  [[nodiscard]] MappingCache& cache() { return cache_; }
  // Notifications.
  Result<void> upsert(const iomap_abi::UpsertMappingsOut& what);
  Result<void> invalidate(const iomap_abi::InvalidateMappingsOut& what);

 private:
  [[nodiscard]] RuleContext context() const;
  std::optional<Answer> cached(std::uint32_t operation, std::uint64_t position, std::uint64_t count) const;
  Result<Answer> refused(std::uint32_t operation, Errno error);
  std::optional<Breach> judge(const FileLedger::Snapshot& snapshot, const Answer& answer,
                              std::uint32_t operation, std::uint64_t position, std::uint64_t count,
                              std::uint64_t file_size);
  std::optional<Breach> judge_device(const iomap_abi::Mapping& part);
  bool sends_ioend(const Completed& completed) const;
  std::unexpected<Errno> broken(Breach breach);

  Core& core_;
  const NodeId id_;
  FileLedger& ledger_;
  MappingCache cache_;
  std::atomic<std::uint64_t> disk_size_ = 0;
  std::atomic<bool> refused_ = false;
};

}  // namespace fuse4fs::iomap_model
