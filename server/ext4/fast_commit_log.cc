// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/fast_commit_log.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "server/ext4/crc32c.h"
#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {
namespace {

enum class Kind : std::uint16_t {
  kAddRange = 1,
  kDeleteRange = 2,
  kCreate = 3,
  kLink = 4,
  kUnlink = 5,
  kInode = 6,
  kPadding = 7,
  kTail = 8,
  kHead = 9,
};

constexpr std::size_t kTagLength = 4;     // kind and length, two bytes each
constexpr std::size_t kRangeLength = 16;  // inode, and an extent as in a tree
constexpr std::size_t kDeleteLength = 12;
constexpr std::size_t kNameHeader = 8;   // parent and inode
constexpr std::size_t kInodeHeader = 4;  // number
constexpr std::size_t kTailLength = 8;   // transaction, checksum
constexpr std::size_t kHeadLength = 8;   // features, transaction
constexpr std::uint32_t kKnownFeatures = 0;
constexpr std::uint16_t kLongestWritten = 1 << 15;  // longer ones mean unwritten, minus this

template <class Number>
Number number_at(std::span<const std::byte> bytes, std::size_t offset) {
  Number number;
  std::memcpy(&number, bytes.data() + offset, sizeof number);
  return number;
}

bool may_have_length(Kind kind, std::size_t length, std::uint32_t inode_size) {
  switch (kind) {
    case Kind::kAddRange:
      return length == kRangeLength;
    case Kind::kDeleteRange:
      return length == kDeleteLength;
    case Kind::kCreate:
    case Kind::kLink:
    case Kind::kUnlink:
      return length > kNameHeader && length <= kNameHeader + kMaxNameLength;
    case Kind::kInode:
      return length >= kInodeHeader + EXT2_GOOD_OLD_INODE_SIZE && length <= kInodeHeader + inode_size;
    case Kind::kPadding:
      return true;
    case Kind::kTail:
      return length >= kTailLength;
    case Kind::kHead:
      return length == kHeadLength;
  }
  return false;
}

AddRange range_of(std::span<const std::byte> value) {
  AddRange range;
  range.inode = number_at<std::uint32_t>(value, 0);
  range.logical = number_at<std::uint32_t>(value, 4);
  const auto length = number_at<std::uint16_t>(value, 8);
  range.kind = length > kLongestWritten ? Mapping::Kind::kUnwritten : Mapping::Kind::kWritten;
  range.count = length > kLongestWritten ? length - kLongestWritten : length;
  range.physical = number_at<std::uint32_t>(value, 12) |
                   static_cast<std::uint64_t>(number_at<std::uint16_t>(value, 10)) << 32;
  return range;
}

NameChange name_of(Kind kind, std::span<const std::byte> value) {
  NameChange change;
  change.what = kind == Kind::kCreate ? NameChange::What::kCreate
                : kind == Kind::kLink ? NameChange::What::kLink
                                      : NameChange::What::kUnlink;
  change.parent = number_at<std::uint32_t>(value, 0);
  change.inode = number_at<std::uint32_t>(value, 4);
  const auto name = value.subspan(kNameHeader);
  change.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
  return change;
}

}  // namespace

struct FastCommitScan::Tag {
  Kind kind{};
  std::span<const std::byte> whole;  // with kind and length
  std::span<const std::byte> value;
};

Outcome<FastCommitScan::Next> FastCommitScan::add(std::span<const std::byte> block) {
  if (block.size() != form_.block_size || block.size() < kTagLength)
    return fail(Errno(EINVAL), "a block of the fast commits has another size than the journal's");
  // Whatever else is here when it does not begin so: nothing was committed since the log's end.
  if (block_ == 0 && static_cast<Kind>(number_at<std::uint16_t>(block, 0)) != Kind::kHead)
    return Next::kEnough;
  for (std::size_t offset = 0; offset + kTagLength <= block.size();) {
    const auto kind = static_cast<Kind>(number_at<std::uint16_t>(block, offset));
    const std::size_t length = number_at<std::uint16_t>(block, offset + 2);
    if (length > block.size() - offset - kTagLength || !may_have_length(kind, length, form_.inode_size))
      // A block that begins with nothing known was never written.
      return stop(block_ > 0 && offset == 0 ? Blame::kPowerCut : Blame::kDamage,
                  fmt::format("byte {} holds no record (kind {}, {} bytes)", offset, std::to_underlying(kind),
                              length));
    const Tag tag{kind, block.subspan(offset, kTagLength + length),
                  block.subspan(offset + kTagLength, length)};
    ASSIGN_OR_RETURN(const Next next, add_record(tag));
    if (next == Next::kEnough) return next;
    offset += kTagLength + length;
  }
  ++block_;
  return Next::kMore;
}

Outcome<FastCommitScan::Next> FastCommitScan::add_record(const Tag& tag) {
  if (tag.kind == Kind::kHead) return head(tag);
  if (tag.kind == Kind::kTail) return tail(tag);
  crc_ = crc32c(crc_, tag.whole.data(), tag.whole.size());
  switch (tag.kind) {
    case Kind::kAddRange:
      RETURN_IF_ERROR(keep(range_of(tag.value), 0));
      break;
    case Kind::kDeleteRange:
      RETURN_IF_ERROR(
          keep(DeleteRange{number_at<std::uint32_t>(tag.value, 0), number_at<std::uint32_t>(tag.value, 4),
                           number_at<std::uint32_t>(tag.value, 8)},
               0));
      break;
    case Kind::kCreate:
    case Kind::kLink:
    case Kind::kUnlink:
      RETURN_IF_ERROR(keep(name_of(tag.kind, tag.value), tag.value.size()));
      break;
    case Kind::kInode: {
      const auto bytes = tag.value.subspan(kInodeHeader);
      RETURN_IF_ERROR(keep(InodeImage{number_at<std::uint32_t>(tag.value, 0), {bytes.begin(), bytes.end()}},
                           bytes.size()));
      break;
    }
    default:
      break;
  }
  return Next::kMore;
}

Outcome<FastCommitScan::Next> FastCommitScan::head(const Tag& tag) {
  if ((number_at<std::uint32_t>(tag.value, 0) & ~kKnownFeatures) != 0)
    return fail(Errno(EOPNOTSUPP),
                fmt::format("the journal's fast commits use unknown features ({:#x}); try: e2fsck DEVICE",
                            number_at<std::uint32_t>(tag.value, 0)));
  // Left over from an earlier transaction: nothing new from here on.
  if (number_at<std::uint32_t>(tag.value, 4) != form_.tid) return Next::kEnough;
  crc_ = crc32c(crc_, tag.whole.data(), tag.whole.size());
  return Next::kMore;
}

Outcome<FastCommitScan::Next> FastCommitScan::tail(const Tag& tag) {
  constexpr std::size_t kChecked = kTagLength + 4;
  crc_ = crc32c(crc_, tag.whole.data(), kChecked);
  const auto tid = number_at<std::uint32_t>(tag.value, 0);
  if (tid != form_.tid)
    return stop(block_ > 0 ? Blame::kPowerCut : Blame::kDamage,
                fmt::format("a commit of transaction {}, not {}", tid, form_.tid));
  if (number_at<std::uint32_t>(tag.value, 4) != crc_)
    return stop(Blame::kDamage, "the checksum of a commit is wrong");
  crc_ = 0;
  RETURN_IF_ERROR(keep(CommitEnd{}, 0));
  complete_ = log_.records.size();
  ++log_.commits;
  return Next::kMore;
}

Outcome<void> FastCommitScan::keep(FastCommitRecord record, std::size_t bytes) {
  bytes_ += sizeof record + bytes;
  if (bytes_ > kMostBytes)
    return fail(Errno(EFBIG), fmt::format("the journal's fast commits hold more than {} MiB of changes; run: "
                                          "e2fsck -p DEVICE",
                                          kMostBytes >> 20));
  log_.records.push_back(std::move(record));
  return {};
}

Outcome<FastCommitScan::Next> FastCommitScan::stop(Blame blame, std::string why) {
  if (log_.commits == 0 && blame == Blame::kDamage)
    return fail(kCorrupted, fmt::format("block {} of the journal's fast commits is damaged: {}; try: e2fsck "
                                        "DEVICE",
                                        block_, why));
  // What an older transaction left behind the last commit is no news.
  if (log_.commits != 0 && blame == Blame::kPowerCut) return Next::kEnough;
  log_.end = fmt::format("the fast commits end in block {}: {}", block_, why);
  return Next::kEnough;
}

FastCommitLog FastCommitScan::take() {
  log_.records.erase(log_.records.begin() + static_cast<std::ptrdiff_t>(complete_), log_.records.end());
  return std::move(log_);
}

Outcome<FastCommitLog> read_fast_commits(std::span<const std::byte> area, FastCommitForm form) {
  FastCommitScan scan(form);
  while (form.block_size != 0 && area.size() >= form.block_size) {
    ASSIGN_OR_RETURN(const auto next, scan.add(area.first(form.block_size)));
    if (next == FastCommitScan::Next::kEnough) break;
    area = area.subspan(form.block_size);
  }
  return scan.take();
}

}  // namespace fuse4fs::ext4
