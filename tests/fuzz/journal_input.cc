// SPDX-License-Identifier: GPL-2.0-or-later
#include "journal_input.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>

#include "server/journal/checksum.h"
#include "server/journal/records.h"
#include "server/journal/recovery.h"

namespace fuse4fs::journal::fuzz {
namespace {

// The volume is said to have so many blocks, the journal to lie in these.
constexpr std::uint64_t kVolumeBlocks = std::uint64_t{1} << 33;
constexpr std::uint64_t kJournalFirst = 4000;
constexpr std::uint64_t kJournalEnd = kJournalFirst + kBlocks;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz_journal: %s\n", what);
  std::abort();
}

class InputLog final : public LogSource {
 public:
  explicit InputLog(std::span<const std::byte> input) {
    const std::size_t at_the_end = input.empty() ? 0 : std::to_integer<std::size_t>(input[0]);
    bits_ = input.size() < 2 ? 0 : std::to_integer<unsigned>(input[1]);
    input = input.subspan(std::min<std::size_t>(2, input.size()));
    put(superblock(), take(input, kBlockSize));
    std::vector<std::span<const std::byte>> rest;
    while (!input.empty()) rest.push_back(take(input, kBlockSize));
    const std::size_t end = log_end();
    const std::size_t back = std::min({at_the_end, rest.size(), end / 2});
    for (std::size_t index = 0; index < rest.size(); ++index) {
      const std::size_t number = index < back ? end - back + index : superblock() + 1 + index - back;
      if (number < kBlocks) put(static_cast<std::uint32_t>(number), rest[index]);
    }
  }

  [[nodiscard]] bool has(InputBits bit) const { return (bits_ & bit) != 0; }
  [[nodiscard]] std::uint32_t block_size() const override { return kBlockSize; }
  [[nodiscard]] std::uint32_t blocks() const override { return kBlocks; }
  [[nodiscard]] std::uint32_t superblock() const override { return has(kExternal) ? 2 : 0; }
  Result<void> read(std::uint32_t first, std::span<std::byte> into) override {
    require(into.size() % kBlockSize == 0 && first < kBlocks && into.size() / kBlockSize <= kBlocks - first,
            "a block outside of the log was read");
    for (; !into.empty(); ++first, into = into.subspan(kBlockSize)) {
      ++reads_;
      const auto found = written_.find(first);
      if (found == written_.end()) {
        std::ranges::fill(into.first(kBlockSize), std::byte{0});
      } else {
        std::ranges::copy(found->second, into.begin());
      }
    }
    return {};
  }
  std::vector<std::byte>* find(std::uint32_t number) {
    const auto found = written_.find(number);
    return found == written_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] std::uint64_t reads() const { return reads_; }

 private:
  static std::span<const std::byte> take(std::span<const std::byte>& input, std::size_t size) {
    const auto front = input.first(std::min(size, input.size()));
    input = input.subspan(front.size());
    return front;
  }
  void put(std::uint32_t number, std::span<const std::byte> bytes) {
    std::vector<std::byte> block(kBlockSize);
    std::ranges::copy(bytes, block.begin());
    written_[number] = std::move(block);
  }
  [[nodiscard]] std::size_t log_end() {
    const auto& raw = written_[superblock()];
    const std::uint32_t length = std::min(load32(raw, superblock_at::kMaxLength), kBlocks);
    const bool fast = (load32(raw, superblock_at::kIncompatible) & kFeatureFastCommit) != 0;
    return length - (fast ? std::min(load32(raw, superblock_at::kFastCommitBlocks), length) : 0);
  }

  unsigned bits_ = 0;
  std::map<std::uint32_t, std::vector<std::byte>> written_;
  std::uint64_t reads_ = 0;
};

std::uint32_t checksum_without(std::span<std::byte> block, std::size_t field, std::uint32_t seed) {
  store_big_endian<std::uint32_t>(block, field, 0);
  return crc32c(seed, block);
}

void seal_superblock(std::span<std::byte> raw) {
  store_big_endian(raw, superblock_at::kChecksum, checksum_without(raw, superblock_at::kChecksum, ~0U));
}

// The checksums of the data that follows, into the tags.
void seal_tags(InputLog& log, const JournalSuperblock& superblock, std::uint32_t place,
               std::span<std::byte> descriptor) {
  const std::uint32_t sequence = load32(descriptor, kHeaderSequence);
  std::byte number[4];
  store_big_endian(std::span<std::byte>(number), 0, sequence);
  const std::vector<std::byte> zeros(kBlockSize);
  std::size_t offset = kHeaderSize;
  while (offset + superblock.tag_size() <= superblock.records_end()) {
    place = superblock.after(place, 1);
    const std::vector<std::byte>* data = log.find(place);
    const std::uint32_t sum =
        crc32c(crc32c(superblock.checksum_seed, number), data == nullptr ? zeros : *data);
    std::uint32_t flags = 0;
    if (superblock.has(kFeatureChecksumV3)) {
      flags = load32(descriptor, offset + tag_at::kFlags32);
      store_big_endian(descriptor, offset + tag_at::kChecksum32, sum);
    } else {
      flags = load16(descriptor, offset + tag_at::kFlags16);
      store_big_endian(descriptor, offset + tag_at::kChecksum16, static_cast<std::uint16_t>(sum));
    }
    offset += superblock.tag_size() + ((flags & kTagSameUuid) != 0 ? 0 : kUuidSize);
    if ((flags & kTagLast) != 0) return;
  }
}

void seal_records(InputLog& log, const JournalSuperblock& superblock) {
  if (!superblock.block_checksums()) return;
  for (std::uint32_t place = superblock.first; place < superblock.log_end; ++place) {
    std::vector<std::byte>* block = log.find(place);
    if (block == nullptr) continue;
    const auto header = parse_header(*block);
    if (!header) continue;
    if (header->is(BlockKind::kDescriptor)) seal_tags(log, superblock, place, *block);
    const std::size_t field = header->is(BlockKind::kCommit) ? commit_at::kChecksum : kBlockSize - kTailSize;
    store_big_endian(std::span(*block), field, checksum_without(*block, field, superblock.checksum_seed));
  }
}

std::optional<std::string> object(std::uint64_t home, HomeUse) {
  if (home >= kVolumeBlocks) return "is outside of the volume";
  if (home >= kJournalFirst && home < kJournalEnd) return "is a block of the journal";
  return std::nullopt;
}

void judge_plan(const ReplayPlan& plan, const JournalSuperblock& superblock, const RecoveryLimits& limits) {
  require(plan.blocks.size() <= limits.blocks, "the plan is larger than its limit");
  for (std::size_t index = 0; index < plan.blocks.size(); ++index) {
    const ReplayBlock& block = plan.blocks[index];
    require(index == 0 || plan.blocks[index - 1].home < block.home,
            "home blocks are not in order, each once");
    require(!object(block.home, HomeUse::kReplay), "a home block was objected to");
    require(block.log_block >= superblock.first && block.log_block < superblock.log_end,
            "a copy lies outside of the records");
  }
  require(plan.transactions() <= superblock.ring(), "more transactions than blocks");
  require(plan.next_sequence == plan.end_sequence + 1, "the next sequence");
  require(plan.fast_commit.count == 0 || (plan.fast_commit.first >= superblock.log_end &&
                                          plan.fast_commit.count <= kBlocks - plan.fast_commit.first),
          "the fast-commit area leaves the log");
}

}  // namespace

void try_journal(std::span<const std::byte> input) {
  InputLog log(input);
  const JournalExpectation expected{
      .block_size = kBlockSize, .external = log.has(kExternal), .volume_uuid = {}};
  std::vector<std::byte>& raw = *log.find(log.superblock());
  if (log.has(kSealSuperblock)) seal_superblock(raw);
  const auto superblock = read_superblock(log, expected);
  if (!superblock) {
    require(!superblock.error().message.empty(), "a refusal without words");
    return;
  }
  if (log.has(kSealRecords)) seal_records(log, *superblock);

  const RecoveryOptions options{.object = object, .progress = {}, .limits = {.blocks = 300, .revokes = 300}};
  const std::uint64_t before = log.reads();
  const auto plan = plan_recovery(log, *superblock, options);
  // Three passes over the records and one over the data, each of which may look a descriptor's data too far.
  require(log.reads() - before <= 4 * (std::uint64_t{superblock->ring()} + 300),
          "blocks are read again and again");
  if (!plan) {
    require(plan.error().message.find("journal block") != std::string::npos, "a refusal that names no block");
    return;
  }
  judge_plan(*plan, *superblock, options.limits);
  clear_superblock(raw, *superblock, plan->next_sequence);
  const auto cleared = read_superblock(log, expected);
  require(cleared && !cleared->needs_recovery() && cleared->sequence == plan->next_sequence,
          "a cleared superblock is not that of an empty log");
}

}  // namespace fuse4fs::journal::fuzz
