// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/journal_recovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "server/ext4/error_record.h"
#include "server/journal/external_journal.h"
#include "server/journal/records.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kChunk = std::size_t{4} << 20;         // bytes read from the log at a time
constexpr std::size_t kLargestWrite = std::size_t{1} << 20;  // bytes

ext2_super_block parsed(const JournalRecovery::RawSuperblock& raw) {
  ext2_super_block super;
  static_assert(sizeof super == kSuperblockSize);
  std::memcpy(&super, raw.data(), sizeof super);
  return super;
}

// Where the superblock holds what went wrong: from s_error_count up to what is behind the fields of it.
constexpr std::size_t kErrorsBegin = offsetof(ext2_super_block, s_error_count);
constexpr std::size_t kErrorsEnd = offsetof(ext2_super_block, s_mount_opts);

Failure with_advice(Failure failure) {
  if (failure.error == kCorrupted || failure.error == Errno(EBADMSG) || failure.error == Errno(E2BIG)) {
    if (failure.message.find("e2fsck") == std::string::npos) failure.message += "; run: e2fsck DEVICE";
  }
  return failure;
}

}  // namespace

Outcome<std::unique_ptr<JournalRecovery>> JournalRecovery::open(cache::BlockDevice& device,
                                                                const RawSuperblock& raw,
                                                                const MountOptions& options, Events& events) {
  const ext2_super_block super = parsed(raw);
  const bool has_journal = super.s_rev_level != EXT2_GOOD_OLD_REV &&
                           (super.s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL) != 0;
  const bool dirty = super.s_rev_level != EXT2_GOOD_OLD_REV &&
                     (super.s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER) != 0;
  const bool writing = options.access == cache::Access::kReadWrite;
  if (dirty && !has_journal)
    return fail(kCorrupted,
                "the volume's journal is to be replayed, but it has none; run: e2fsck DEVICE, or mount with "
                "-o ro,noload to read it as it is");
  if (options.journal == MountOptions::Journal::kIgnore) {
    if (dirty && writing)
      return fail(Errno(EINVAL),
                  "the volume was not unmounted and its journal must be replayed before anything is written; "
                  "mount without noload, or with -o ro,noload to read it as it is");
    if (dirty)
      events.notice(
          "the journal is not replayed, as asked (noload): what was written last may be missing "
          "or half there");
    return nullptr;
  }
  if (options.external_journal && (!has_journal || super.s_journal_inum != 0))
    return fail(Errno(EINVAL), has_journal
                                   ? "the volume's journal is inside of it; mount without journal_path"
                                   : "the volume has no journal; mount without journal_path");
  if (!has_journal) return nullptr;
  if (super.s_journal_inum == 0 && !options.external_journal) {
    if (!dirty) return nullptr;
    return fail(Errno(EINVAL),
                "the volume was not unmounted, and its journal is on a device of its own; mount with -o "
                "journal_path=DEVICE, or with -o ro,noload to read it as it is");
  }

  auto recovery = std::unique_ptr<JournalRecovery>(new JournalRecovery(device, options, events));
  recovery->needed_ = dirty;
  auto judged = recovery->find(super);
  if (judged) judged = recovery->judge(super);
  if (!judged) return std::unexpected(refusal(device, options.access, std::move(judged.error())));
  return recovery;
}

Failure JournalRecovery::refusal(const cache::BlockDevice& device, cache::Access access, Failure failure) {
  failure = with_advice(std::move(failure));
  if (access == cache::Access::kReadWrite)
    record(device, failure);
  else if (failure.message.find("noload") == std::string::npos)
    failure.message += ", or mount with -o ro,noload to read the volume as it is";
  return failure;
}

int JournalRecovery::error_of(std::int32_t recorded) {
  constexpr std::int32_t kLargestErrno = 4095;  // the kernel's MAX_ERRNO
  if (recorded == 0) return 0;
  return recorded < 0 && recorded >= -kLargestErrno ? -recorded : EIO;
}

Outcome<void> JournalRecovery::find(const ext2_super_block& super) {
  block_size_ = 1024U << super.s_log_block_size;
  superblock_home_ = kSuperblockOffset / block_size_;
  if ((super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_MMP) != 0) guard_block_ = super.s_mmp_block;
  if (external_) {
    journal::Uuid uuid;
    static_assert(sizeof uuid == sizeof super.s_journal_uuid);
    std::memcpy(uuid.data(), super.s_journal_uuid, sizeof uuid);
    ASSIGN_OR_RETURN(auto log, journal::ExternalLog::open(*external_, block_size_, uuid));
    log_ = std::make_unique<journal::ExternalLog>(std::move(log));
    return {};
  }
  ASSIGN_OR_RETURN(map_, JournalMap::read(device_, super));
  if (!map_->fallback().empty())
    events_.notice(fmt::format("{}; its copy in the superblock is used", map_->fallback()));
  log_ = std::make_unique<InternalLog>(device_, *map_, block_size_);
  return {};
}

Outcome<void> JournalRecovery::judge(const ext2_super_block& super) {
  journal::JournalExpectation expected;
  expected.block_size = block_size_;
  expected.external = external_ != nullptr;
  std::memcpy(expected.volume_uuid.data(), super.s_uuid, sizeof super.s_uuid);
  ASSIGN_OR_RETURN(superblock_, journal::read_superblock(*log_, expected));
  for (const auto& notice : superblock_.notices) events_.notice(notice);

  std::vector<std::byte> block(block_size_);
  const std::uint64_t at = place_of(log_->superblock());
  if (const auto read = log_device().read(at * block_size_, block); !read)
    return fail(read.error(), fmt::format("cannot read the journal's superblock (block {}): {}", at,
                                          read.error().message()));
  raw_superblock_.assign(block.begin(), block.begin() + journal::superblock_at::kSize);

  if (!needed_) {
    // As the kernel: without the flag what is in the log does not count.
    if (superblock_.needs_recovery())
      events_.notice(
          "the journal holds transactions, but the volume does not ask for them: they are dropped");
    return {};
  }
  if (!superblock_.needs_recovery()) return {};
  journal::RecoveryOptions options;
  options.object = [this](std::uint64_t home, journal::HomeUse use) { return object(home, use); };
  options.progress = [this](const journal::RecoveryProgress& at_now) {
    progress_.at("reading the journal", at_now.blocks_done, at_now.blocks_all);
  };
  ASSIGN_OR_RETURN(plan_, journal::plan_recovery(*log_, superblock_, options));
  for (const auto& notice : plan_.notices) events_.notice(notice);
  return {};
}

// Of the device, not of the volume: where it was growing the log may speak of blocks that its superblock does
// not have yet.
std::optional<std::string> JournalRecovery::object(std::uint64_t home, journal::HomeUse use) const {
  if (home >= device_.size() / block_size_) return "is outside of the device";
  if (map_ && map_->owns(home)) return "is one of the journal's own";
  if (guard_block_ != 0 && home == guard_block_) return "is the one that guards against mounting twice";
  if (use == journal::HomeUse::kRevoke && home == superblock_home_) return "is the superblock's";
  return std::nullopt;
}

std::uint64_t JournalRecovery::place_of(std::uint32_t log) const {
  return map_ ? map_->find(log).block : log;
}

std::string JournalRecovery::summary() const {
  return fmt::format("{} transactions, {} blocks", plan_.transactions(), replayed_blocks_);
}

Outcome<void> JournalRecovery::replay() {
  replayed_blocks_ = plan_.blocks.size();
  if (writing_)
    RETURN_IF_ERROR(replay_onto_device());
  else
    replay_into_overlay();
  plan_.blocks = {};
  return {};
}

Outcome<void> JournalRecovery::replay_onto_device() {
  const std::size_t chunk = std::max<std::size_t>(kChunk / block_size_, 1);
  const std::size_t longest = std::max<std::size_t>(kLargestWrite / block_size_, 1);
  const std::span<const journal::ReplayBlock> all(plan_.blocks);
  std::vector<std::byte> bytes(std::min(chunk, all.size()) * block_size_);
  const auto slot = [&](std::size_t i, std::size_t count) {
    return std::span(bytes).subspan(i * block_size_, count * block_size_);
  };
  for (std::size_t done = 0; done < all.size();) {
    const auto part = all.subspan(done, std::min(chunk, all.size() - done));
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (const auto read = log_->read(part[i].log_block, slot(i, 1)); !read)
        return fail(read.error(), fmt::format("cannot read block {} of the journal: {}", part[i].log_block,
                                              read.error().message()));
      if (part[i].escaped) journal::unescape(slot(i, 1));
    }
    for (std::size_t first = 0; first < part.size();) {
      std::size_t count = 1;
      while (first + count < part.size() && count < longest &&
             part[first + count].home == part[first].home + count)
        ++count;
      if (const auto written = device_.write(part[first].home * block_size_, slot(first, count)); !written)
        return fail(written.error(), fmt::format("cannot write block {} while replaying the journal: {}",
                                                 part[first].home, written.error().message()));
      first += count;
    }
    done += part.size();
    progress_.at("replaying the journal", done, all.size());
  }
  if (const auto flushed = device_.flush(); !flushed)
    return fail(flushed.error(),
                fmt::format("the device could not be flushed while replaying the journal: {}",
                            flushed.error().message()));
  return {};
}

void JournalRecovery::replay_into_overlay() {
  cache::BlockOverlay::Options options;
  options.block_size = block_size_;
  options.source = external_;
  std::vector<std::byte> magic(block_size_);
  journal::unescape(magic);
  std::copy_n(magic.begin(), options.prefix.size(), options.prefix.begin());
  options.redirects.reserve(plan_.blocks.size());
  for (const auto& block : plan_.blocks)
    options.redirects.push_back(
        {.block = block.home, .at = place_of(block.log_block), .prefixed = block.escaped ? 1U : 0U});
  device_.lay_over(std::make_unique<cache::BlockOverlay>(std::move(options)));
}

Outcome<void> JournalRecovery::read_fast_commits(
    const std::function<Outcome<bool>(std::span<const std::byte>)>& take) {
  std::vector<std::byte> block(block_size_);
  const auto& area = plan_.fast_commit;
  for (std::uint32_t i = 0; i < area.count; ++i) {
    if (const auto read = log_->read(area.first + i, block); !read)
      return fail(read.error(), fmt::format("cannot read block {} of the journal: {}", area.first + i,
                                            read.error().message()));
    ASSIGN_OR_RETURN(const bool enough, take(block));
    if (enough) break;
    progress_.at("reading the journal's fast commits", i + 1, area.count);
  }
  return {};
}

Outcome<void> JournalRecovery::write_superblock() {
  const std::uint64_t at = place_of(log_->superblock());
  // What it stands for was flushed before.
  if (const auto written = log_device().write_durably(at * block_size_, raw_superblock_); !written)
    return fail(written.error(), fmt::format("cannot write the journal's superblock (block {}): {}", at,
                                             written.error().message()));
  return {};
}

Outcome<void> JournalRecovery::empty_log() {
  if (!superblock_.needs_recovery()) return {};
  // Behind everything that may still lie in a log that was not looked at.
  const std::uint32_t next = needed_ ? plan_.next_sequence : superblock_.sequence + superblock_.ring();
  journal::clear_superblock(raw_superblock_, superblock_, next);
  return write_superblock();
}

Outcome<void> JournalRecovery::clear_error() {
  if (superblock_.error == 0) return {};
  journal::clear_error(raw_superblock_, superblock_);
  return write_superblock();
}

void JournalRecovery::keep_errors(const RawSuperblock& before, ext2_super_block& now) {
  const ext2_super_block old = parsed(before);
  now.s_state |= old.s_state & EXT2_ERROR_FS;
  std::memcpy(reinterpret_cast<std::byte*>(&now) + kErrorsBegin, before.data() + kErrorsBegin,
              kErrorsEnd - kErrorsBegin);
}

void JournalRecovery::record(const cache::BlockDevice& device, const Failure& failure) {
  if (failure.error != kCorrupted && failure.error != Errno(EBADMSG)) return;
  RawSuperblock raw;
  if (!device.read(kSuperblockOffset, raw) || !check_superblock_checksum(raw)) return;
  ext2_super_block super = parsed(raw);
  note_error(super, {.error = failure.error.value()});
  if ((super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) != 0)
    super.s_checksum = superblock_checksum(super);
  if (device.write(kSuperblockOffset, std::as_bytes(std::span(&super, 1)))) std::ignore = device.flush();
}

}  // namespace fuse4fs::ext4
