// SPDX-License-Identifier: GPL-2.0-or-later
// What the fast-commit area of a journal says: small records of what changed since the last full commit.
//
// The area is a row of blocks; a record is a tag, a length and a value, and lies in one block. A fast commit
// is what lies between two TAIL records; it counts when its TAIL names the right transaction and holds the
// checksum of all its bytes. The first record of the area is a HEAD that names the transaction: an area with
// another one is left over from an earlier transaction, and says nothing.
//
// What ends the list and what is an error is as in the kernel (ext4_fc_replay_scan of 6.18), but for one
// thing: a first fast commit of several blocks, of which a power cut kept the later ones from being written,
// is an error there, and here the end of the list.
//
// Pure: bytes in, records or words out. Memory: kMostBytes, whatever the blocks say.
// Errors: EUCLEAN (damaged), EOPNOTSUPP (written by something newer), EFBIG (more than kMostBytes).
// Format: Documentation/filesystems/ext4/journal.rst (Fast commits).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "server/ext4/extent_map.h"

namespace fuse4fs::ext4 {

struct FastCommitForm {
  std::uint32_t block_size = 0;  // bytes; the journal's, which is the volume's
  std::uint32_t inode_size = 0;  // bytes
  std::uint32_t tid = 0;         // of the transaction behind the last full commit
};

// Blocks of a file lie here.
struct AddRange {
  InodeNumber inode = 0;
  std::uint64_t logical = 0, physical = 0, count = 0;  // blocks
  Mapping::Kind kind = Mapping::Kind::kWritten;        // never a hole
};

// Blocks of a file are a hole.
struct DeleteRange {
  InodeNumber inode = 0;
  std::uint64_t logical = 0, count = 0;  // blocks
};

struct NameChange {
  enum class What { kCreate, kLink, kUnlink };
  What what = What::kCreate;
  InodeNumber parent = 0, inode = 0;
  std::string name;  // 1 to 255 bytes, of any value
};

// An inode as it was when the fast commit was written. Its block map is not to be trusted.
struct InodeImage {
  InodeNumber inode = 0;
  std::vector<std::byte> bytes;  // 128 to inode_size
};

struct CommitEnd {};

using FastCommitRecord = std::variant<AddRange, DeleteRange, NameChange, InodeImage, CommitEnd>;

struct FastCommitLog {
  // Of complete fast commits only, each with a CommitEnd behind it. Empty: nothing to do.
  std::vector<FastCommitRecord> records;
  std::uint32_t commits = 0;
  std::string end;  // what damage ended the list before the area did, for the log; mostly empty
};

class FastCommitScan {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{32} << 20;

  explicit FastCommitScan(FastCommitForm form) : form_(form) {}

  enum class Next { kMore, kEnough };
  // The area's blocks one after the other, from its first. Not after kEnough or an error.
  Outcome<Next> add(std::span<const std::byte> block);
  // After kEnough, or the area's last block.
  FastCommitLog take();

 private:
  struct Tag;
  Outcome<Next> add_record(const Tag& tag);
  Outcome<Next> head(const Tag& tag);
  Outcome<Next> tail(const Tag& tag);
  Outcome<void> keep(FastCommitRecord record, std::size_t bytes);
  // The list ends here; an error if it has not begun and this cannot come of a power cut.
  enum class Blame { kDamage, kPowerCut };
  Outcome<Next> stop(Blame blame, std::string why);

  const FastCommitForm form_;
  std::uint32_t block_ = 0;  // how many came before the current one
  std::uint32_t crc_ = 0;
  std::size_t bytes_ = 0;
  std::size_t complete_ = 0;  // records of complete commits
  FastCommitLog log_;
};

// The same over an area that is in memory.
Outcome<FastCommitLog> read_fast_commits(std::span<const std::byte> area, FastCommitForm form);

// Which inode a record is about; none for CommitEnd.
template <class Record>
concept AboutInode = requires(const Record& record) { record.inode; };
template <AboutInode Record>
InodeNumber inode_of(const Record& record) {
  return record.inode;
}

}  // namespace fuse4fs::ext4
