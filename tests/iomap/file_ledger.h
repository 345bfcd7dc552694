// SPDX-License-Identifier: GPL-2.0-or-later
// What is known of one file beside what the server says: its contents, and which of its blocks were written,
// reported and removed. Judges what is read, and what BEGIN answers.
//
// Any thread. Bytes; blocks are the volume's.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/fuse_iomap_abi.h"
#include "server/ext4/file_system.h"
#include "tests/iomap/breaches.h"
#include "tests/iomap/contents.h"
#include "tests/iomap/device.h"

namespace fuse4fs::iomap_model {

using ext4::ByteRange;

class FileLedger {
 public:
  FileLedger(std::uint64_t node, std::uint64_t block_size) : node_(node), block_size_(block_size) {}

  // ---- contents ----
  // The page that holds the bytes is locked by who calls wrote() and judge_read().
  enum class Way { kPage, kMappedPage };  // kMappedPage: a store to a mapping, beside whatever goes on
  void wrote(std::uint64_t position, std::span<const std::byte> bytes, Way way = Way::kPage);
  // While it lives the contents change in several steps, and reads are not compared.
  class [[nodiscard]] Changing {
   public:
    explicit Changing(FileLedger& ledger);
    ~Changing();
    Changing(const Changing&) = delete;
    Changing& operator=(const Changing&) = delete;

   private:
    FileLedger& ledger_;
  };
  void zeroed(ByteRange range);
  void resized(std::uint64_t size);
  // While it lives a direct write is under way: its bytes are neither old nor new. Of two that overlap nobody
  // knows which was the last.
  class [[nodiscard]] Direct {
   public:
    Direct(FileLedger& ledger, ByteRange range);
    ~Direct();
    Direct(const Direct&) = delete;
    Direct& operator=(const Direct&) = delete;

   private:
    FileLedger& ledger_;
    struct Place {
      ByteRange range;
      enum class Company { kAlone, kOverlapped } company = Company::kAlone;
    };
    friend class FileLedger;
    std::list<Place>::iterator place_;
  };
  // The state of what was read, to be taken before.
  struct Ticket {
    std::uint64_t changes, stores;
  };
  enum class Reader { kPage, kDirect };
  [[nodiscard]] Ticket ticket() const;
  [[nodiscard]] std::optional<Breach> judge_read(const Ticket& ticket, Reader reader, std::uint64_t position,
                                                 std::span<const std::byte> bytes) const;
  // What was said to be a hole: it reads as zeros.
  [[nodiscard]] std::optional<Breach> judge_hole(const Ticket& ticket, ByteRange range) const;
  // What reads should give, and up to where.
  void expect(std::uint64_t position, std::span<std::byte> into) const;
  [[nodiscard]] std::uint64_t size() const;

  // ---- blocks ----
  // What is mapped was written by somebody before, until blocks are removed.
  void adopted();
  // Before the IOEND, if there is one.
  // To blocks that the server says are written: from now on they hold the data, or what they held.
  void device_writing(ByteRange range);
  void device_written(ByteRange range);
  // What the range holds cannot be known: the device refused it.
  void device_refused(ByteRange range);
  void ioend_succeeded(ByteRange range);
  // While it lives the server is asked to remove the whole blocks of the range (abi::kToEndOfFile: to the
  // end), or to make them unwritten. What it says of them meanwhile may be old.
  class [[nodiscard]] Removing {
   public:
    Removing(FileLedger& ledger, ByteRange range);
    ~Removing();
    Removing(const Removing&) = delete;
    Removing& operator=(const Removing&) = delete;
    // The server refused: all is as it was.
    void was_refused();

   private:
    FileLedger& ledger_;
    std::unordered_map<std::uint64_t, std::uint8_t> before_;
  };

  struct Snapshot {
    std::uint64_t removals = 0;
    std::vector<std::uint64_t> converted;  // blocks
  };
  [[nodiscard]] Snapshot before_begin(ByteRange request) const;
  // The part of an answer that was asked for.
  std::optional<Breach> judge_answer(const Snapshot& snapshot, const iomap_abi::Mapping& part,
                                     std::uint32_t operation, std::uint64_t file_size, const Device* device);

 private:
  // mutex_ held: whether the contents of the range are what they were, and known.
  [[nodiscard]] bool is_settled(const Ticket& ticket, ByteRange range) const;
  enum Mark : std::uint8_t {
    kWritten = 1,    // the kernel's data, or zeros, are there
    kConverted = 2,  // an IOEND for it succeeded
    kUnwritten = 4,  // so was it answered last
    kRefused = 8,    // the device refused the last write
    // One of several direct writes was the last, or the device has refused one: until all of the block is
    // new.
    kUncertain = 16
  };
  template <class Change>
  void each_block(ByteRange range, const Change& change);
  std::optional<Breach> judge_mapped(std::uint64_t block, std::uint64_t address, const Device& device,
                                     std::uint32_t operation, std::uint64_t file_size);

  const std::uint64_t node_, block_size_;
  mutable std::mutex mutex_;
  // All guarded by mutex_.
  Contents contents_;
  std::uint64_t changes_ = 0;  // odd: a Changing lives
  std::uint64_t stores_ = 0;
  std::list<Direct::Place> direct_;
  std::unordered_map<std::uint64_t, std::uint8_t> blocks_;  // Mark, by number
  std::uint64_t removals_ = 0;
  bool adopted_ = false;
  // The blocks of the Removing that lives; there is one at most.
  std::uint64_t removing_begin_ = 0, removing_end_ = 0;
};

}  // namespace fuse4fs::iomap_model
