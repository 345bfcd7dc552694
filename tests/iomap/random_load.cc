// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/random_load.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <mutex>
#include <thread>

#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

constexpr std::uint64_t kSector = Device::kLogicalBlock;

Result<void> done(const Result<std::size_t>& outcome) {
  return outcome ? Result<void>() : fail(outcome.error());
}

// Nothing can be done any more.
bool is_the_end(Errno error) { return error == Errno(ENOTCONN) || error == Errno(EROFS); }

bool is_whole(const Result<void>& outcome, const FileChange& /*change*/) { return outcome.has_value(); }
bool is_whole(const Result<std::size_t>& outcome, const FileChange& change) {
  return outcome && *outcome == change.range.length;
}

}  // namespace

template <class Act>
auto RandomLoad::noted(const Target& target, const FileChange& change, const Act& act) -> decltype(act()) {
  if (options_.history == nullptr) return act();
  const auto place = options_.history->begins(target.number, change);
  auto outcome = act();
  options_.history->ended(
      place, is_whole(outcome, change) ? LoadHistory::Outcome::kDone : LoadHistory::Outcome::kPerhaps);
  return outcome;
}

Result<void> RandomLoad::make(Target& target) {
  target.file.reset();
  if (options_.history != nullptr) target.number = options_.history->making(target.name);
  ASSIGN_OR_RETURN(target.file, kernel_.create(target.name));
  if (options_.history != nullptr) options_.history->made(target.number, target.file->node());
  return {};
}

Result<void> RandomLoad::take_or_make(Target& target) {
  auto file = kernel_.open(target.name);
  if (!file) return file.error() == Errno(ENOENT) ? make(target) : fail(file.error());
  target.file = *file;
  if (options_.history == nullptr) return {};
  target.number = options_.history->latest(target.name);
  options_.history->made(target.number, target.file->node());
  return {};
}

Result<void> RandomLoad::prepare() {
  for (std::size_t at = 0; at < options_.files; ++at) {
    auto target = std::make_unique<Target>();
    target->name = "file" + std::to_string(at);
    RETURN_IF_ERROR(take_or_make(*target));
    targets_.push_back(std::move(target));
  }
  return {};
}

ByteRange RandomLoad::range(Random& random, const File& file, std::uint64_t alignment,
                            std::uint64_t most) const {
  const bool fixed = options_.blocks == LoadOptions::Blocks::kFixed;
  const std::uint64_t limit = fixed ? std::max<std::uint64_t>(file.size(), 1) : options_.largest_file;
  const std::uint64_t length = (random() % most + 1 + alignment - 1) / alignment * alignment;
  // Often near the end, where most can go wrong.
  std::uint64_t offset =
      random() % 4 == 0 && file.size() > length ? file.size() - length / 2 : random() % limit;
  offset = offset / alignment * alignment;
  if (!fixed || offset + length <= limit) return {.offset = offset, .length = length};
  return {.offset = offset, .length = std::max(alignment, (limit - offset) / alignment * alignment)};
}

Result<void> RandomLoad::one_write(Random& random, Target& target) {
  File& file = *target.file;
  const auto key = static_cast<std::uint32_t>(random());
  const auto write = [&](ByteRange where, const auto& act) {
    bytes_moved_ += where.length;
    return noted(target, {.kind = FileChange::Kind::kWrite, .range = where, .key = key},
                 [&] { return act(where, pattern(key, where.offset, where.length)); });
  };
  switch (random() % 4) {
    case 0: {
      const std::shared_lock none_mapped(target.mapped);
      const ByteRange where = range(random, file, random() % 2 == 0 ? 4096 : kSector, options_.largest_write);
      RETURN_IF_ERROR(done(write(
          where, [&](ByteRange at, const auto& bytes) { return file.direct_write(at.offset, bytes); })));
      break;
    }
    case 1: {
      const std::unique_lock none_direct(target.mapped);
      const ByteRange where = range(random, file, 1, 8192);
      const auto stored =
          write(where, [&](ByteRange at, const auto& bytes) { return file.store(at.offset, bytes); });
      // Behind the end there is nothing to store to.
      if (!stored && stored.error() != Errno(EFAULT)) return stored;
      break;
    }
    default: {
      const ByteRange where = range(random, file, 1, options_.largest_write);
      const std::size_t readable = options_.blocks == LoadOptions::Blocks::kFixed || random() % 8 != 0
                                       ? where.length
                                       : random() % where.length;
      const auto part = write(where, [&](ByteRange at, const auto& bytes) {
        return file.write(at.offset, bytes, {.readable = readable});
      });
      if (!part && part.error() != Errno(EFAULT)) return done(part);
    }
  }
  const bool is_synchronous = options_.syncs == LoadOptions::Syncs::kMany && random() % 8 == 0;
  return is_synchronous ? sync(target, File::SyncWhat::kDataOnly) : Result<void>();
}

Result<void> RandomLoad::one_read(Random& random, File& file) {
  const bool direct = random() % 3 == 0;
  const ByteRange where = range(random, file, direct ? kSector : 1, options_.largest_write);
  std::vector<std::byte> bytes(where.length);
  bytes_moved_ += where.length;
  return done(direct ? file.direct_read(where.offset, bytes) : file.read(where.offset, bytes));
}

Result<void> RandomLoad::one_change(Random& random, Target& target) {
  File& file = *target.file;
  if (options_.blocks == LoadOptions::Blocks::kFixed) return file.close();
  using Kind = FileChange::Kind;
  const auto truncate = [&](std::uint64_t size) {
    return noted(target, {.kind = Kind::kResize, .range = {.offset = size, .length = 0}},
                 [&] { return file.truncate(size); });
  };
  const ByteRange where = range(random, file, random() % 2 == 0 ? 4096 : 1, options_.largest_write);
  switch (random() % 5) {
    case 0:
      return truncate(random() % options_.largest_file);
    case 1:
      return truncate(where.offset);
    case 2:
      return noted(target, {.kind = Kind::kZero, .range = where},
                   [&] { return file.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, where); });
    default: {
      const int zeroes = random() % 2 == 0 ? FALLOC_FL_ZERO_RANGE : 0;
      const int keeps = random() % 2 == 0 ? FALLOC_FL_KEEP_SIZE : 0;
      const auto act = [&] { return file.fallocate(zeroes | keeps, where); };
      Result<void> changed;
      if (zeroes != 0)
        changed = noted(target, {.kind = keeps != 0 ? Kind::kZero : Kind::kZeroAndGrow, .range = where}, act);
      else
        changed = keeps != 0 ? act() : noted(target, {.kind = Kind::kGrow, .range = where}, act);
      // Without extents there is nothing unwritten.
      return !changed && changed.error() == Errno(EOPNOTSUPP) ? Result<void>() : changed;
    }
  }
}

Result<void> RandomLoad::sync(Target& target, File::SyncWhat what) {
  return noted(target, {.kind = FileChange::Kind::kSync}, [&] { return target.file->sync(what); });
}

// Files that come meanwhile are not told of, and none of the others goes.
Result<void> RandomLoad::sync_all() {
  std::vector<std::shared_lock<std::shared_mutex>> used;
  std::vector<LoadHistory::Place> places;
  for (const auto& target : targets_) {
    used.emplace_back(target->in_use);
    if (options_.history != nullptr && target->file)
      places.push_back(options_.history->begins(target->number, {.kind = FileChange::Kind::kSync}));
  }
  const auto outcome = kernel_.sync_file_system();
  for (const auto& place : places)
    options_.history->ended(place, outcome ? LoadHistory::Outcome::kDone : LoadHistory::Outcome::kPerhaps);
  return outcome;
}

Result<void> RandomLoad::one_look(Random& random, Target& target) {
  File& file = *target.file;
  const auto what = options_.syncs == LoadOptions::Syncs::kMany && random() % 2 == 0 ? 0 : random() % 6;
  switch (what) {
    case 0:
      return sync(target, random() % 2 == 0 ? File::SyncWhat::kAll : File::SyncWhat::kDataOnly);
    case 1:
      return file.close();
    case 2:
      if (options_.memory == LoadOptions::Memory::kShort) file.reclaim();
      return {};
    case 3: {
      const auto stat = file.stat();
      return stat ? Result<void>() : fail(stat.error());
    }
    case 4: {
      const auto found = file.seek(range(random, file, 1, 1).offset,
                                   random() % 2 == 0 ? ext4::SeekTarget::kData : ext4::SeekTarget::kHole);
      return found || found.error() == Errno(ENXIO) ? Result<void>() : fail(found.error());
    }
    default: {
      const auto found = file.extents();
      return found ? Result<void>() : fail(found.error());
    }
  }
}

Result<void> RandomLoad::replace(Random& random, Target& target) {
  const std::unique_lock alone(target.in_use);
  if (!target.file) return take_or_make(target);
  if (options_.blocks == LoadOptions::Blocks::kFixed || random() % 2 == 0) {
    RETURN_IF_ERROR(kernel_.evict(target.file));
    target.file.reset();
    ASSIGN_OR_RETURN(target.file, kernel_.open(target.name));
    return {};
  }
  RETURN_IF_ERROR(
      noted(target, {.kind = FileChange::Kind::kUnlink}, [&] { return kernel_.unlink(target.name); }));
  return make(target);
}

Result<void> RandomLoad::one(Random& random, Target& target) {
  const auto what = random() % 100;
  const bool syncs = options_.syncs == LoadOptions::Syncs::kMany;
  if (what < (syncs ? 4U : 1U) && options_.names == LoadOptions::Names::kChange)
    return replace(random, target);
  if (syncs && what == 4) return sync_all();
  {
    const std::shared_lock used(target.in_use);
    if (target.file) {
      if (what < 45) return one_write(random, target);
      if (what < 75) return one_read(random, *target.file);
      if (what < 88) return one_change(random, target);
      return one_look(random, target);
    }
  }
  return replace(random, target);
}

Result<void> RandomLoad::leave(Random& random, Target& target) {
  const std::shared_lock used(target.in_use);
  if (!target.file || random() % 4 == 0) return {};
  return sync(target, random() % 2 == 0 ? File::SyncWhat::kAll : File::SyncWhat::kDataOnly);
}

bool RandomLoad::is_expected(const Result<void>& outcome) const {
  return outcome || options_.expected_errors.contains(outcome.error().value());
}

void RandomLoad::thread(std::size_t number) {
  Random random(options_.seed * 1000 + rounds_ * 100 + number);
  Target* target = nullptr;
  for (std::size_t step = 0; step < options_.operations && kernel_.breaches().empty(); ++step) {
    Result<void> outcome;
    if (step % options_.burst == 0) {
      if (target != nullptr && options_.burst > 1 && options_.syncs == LoadOptions::Syncs::kMany)
        outcome = leave(random, *target);
      target = targets_[random() % targets_.size()].get();
    }
    if (outcome) outcome = one(random, *target);
    if (!outcome && is_expected(outcome) && is_the_end(outcome.error())) return;
    if (!is_expected(outcome) && kernel_.breaches().empty())
      ADD_FAILURE() << "thread " << number << " step " << step << ": " << outcome.error().message();
  }
}

void RandomLoad::flusher(const std::atomic<bool>& ends) {
  for (std::size_t at = 0; !ends; at = (at + 1) % targets_.size()) {
    const std::shared_lock used(targets_[at]->in_use);
    if (!targets_[at]->file) continue;
    const auto written = targets_[at]->file->flush_in_background();
    if (!is_expected(written) && kernel_.breaches().empty())
      ADD_FAILURE() << "write-back: " << written.error().message();
  }
}

void RandomLoad::run() {
  std::atomic<bool> ends = false;
  std::jthread flushing([&] { flusher(ends); });
  {
    std::vector<std::jthread> threads;
    for (std::size_t at = 0; at < options_.threads; ++at) threads.emplace_back([this, at] { thread(at); });
  }
  ends = true;
  flushing.join();
  ++rounds_;
}

Result<void> RandomLoad::judge() {
  for (const auto& target : targets_) {
    RETURN_IF_ERROR(target->file->sync());
    RETURN_IF_ERROR(target->file->judge_cache());
    RETURN_IF_ERROR(target->file->judge_durability());
  }
  return {};
}

Result<void> RandomLoad::unlink_all() {
  for (const auto& target : targets_) {
    target->file.reset();
    RETURN_IF_ERROR(kernel_.unlink(target->name));
  }
  return {};
}

}  // namespace fuse4fs::iomap_model
