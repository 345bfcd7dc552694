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

}  // namespace

Result<void> RandomLoad::prepare() {
  for (std::size_t at = 0; at < options_.files; ++at) {
    auto target = std::make_unique<Target>();
    target->name = "file" + std::to_string(at);
    auto file = kernel_.open(target->name);
    if (!file && file.error() == Errno(ENOENT)) file = kernel_.create(target->name);
    if (!file) return fail(file.error());
    target->file = *file;
    targets_.push_back(std::move(target));
  }
  return {};
}

ByteRange RandomLoad::range(Random& random, const File& file, std::uint64_t alignment,
                            std::uint64_t most) const {
  const bool fixed = options_.blocks == LoadOptions::Blocks::kFixed;
  const std::uint64_t limit = fixed ? file.size() : options_.largest_file;
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
  const auto bytes = [&](ByteRange range) {
    bytes_moved_ += range.length;
    return pattern(key, range.offset, range.length);
  };
  switch (random() % 4) {
    case 0: {
      const std::shared_lock none_mapped(target.mapped);
      const ByteRange where = range(random, file, random() % 2 == 0 ? 4096 : kSector, options_.largest_write);
      return done(file.direct_write(where.offset, bytes(where)));
    }
    case 1: {
      const std::unique_lock none_direct(target.mapped);
      const ByteRange where = range(random, file, 1, 8192);
      const auto stored = file.store(where.offset, bytes(where));
      // Behind the end there is nothing to store to.
      return !stored && stored.error() == Errno(EFAULT) ? Result<void>() : stored;
    }
    default: {
      const ByteRange where = range(random, file, 1, options_.largest_write);
      if (options_.blocks == LoadOptions::Blocks::kFixed || random() % 8 != 0)
        return done(file.write(where.offset, bytes(where)));
      const auto part = file.write(where.offset, bytes(where), {.readable = random() % where.length});
      return !part && part.error() == Errno(EFAULT) ? Result<void>() : done(part);
    }
  }
}

Result<void> RandomLoad::one_read(Random& random, File& file) {
  const bool direct = random() % 3 == 0;
  const ByteRange where = range(random, file, direct ? kSector : 1, options_.largest_write);
  std::vector<std::byte> bytes(where.length);
  bytes_moved_ += where.length;
  return done(direct ? file.direct_read(where.offset, bytes) : file.read(where.offset, bytes));
}

Result<void> RandomLoad::one_change(Random& random, File& file) {
  if (options_.blocks == LoadOptions::Blocks::kFixed) return file.close();
  const ByteRange where = range(random, file, random() % 2 == 0 ? 4096 : 1, options_.largest_write);
  switch (random() % 5) {
    case 0:
      return file.truncate(random() % options_.largest_file);
    case 1:
      return file.truncate(where.offset);
    case 2:
      return file.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, where);
    default: {
      const int mode =
          (random() % 2 == 0 ? FALLOC_FL_ZERO_RANGE : 0) | (random() % 2 == 0 ? FALLOC_FL_KEEP_SIZE : 0);
      const auto changed = file.fallocate(mode, where);
      // Without extents there is nothing unwritten.
      return !changed && changed.error() == Errno(EOPNOTSUPP) ? Result<void>() : changed;
    }
  }
}

Result<void> RandomLoad::one_look(Random& random, File& file) {
  switch (random() % 6) {
    case 0:
      return file.sync(random() % 2 == 0 ? File::SyncWhat::kAll : File::SyncWhat::kDataOnly);
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
  if (options_.blocks == LoadOptions::Blocks::kFixed || random() % 2 == 0) {
    RETURN_IF_ERROR(kernel_.evict(target.file));
    ASSIGN_OR_RETURN(target.file, kernel_.open(target.name));
    return {};
  }
  RETURN_IF_ERROR(kernel_.unlink(target.name));
  ASSIGN_OR_RETURN(target.file, kernel_.create(target.name));
  return {};
}

Result<void> RandomLoad::one(Random& random, Target& target) {
  const auto what = random() % 100;
  if (what == 0 && options_.names == LoadOptions::Names::kChange) return replace(random, target);
  const std::shared_lock used(target.in_use);
  if (what < 45) return one_write(random, target);
  if (what < 75) return one_read(random, *target.file);
  if (what < 88) return one_change(random, *target.file);
  return one_look(random, *target.file);
}

void RandomLoad::thread(std::size_t number) {
  Random random(options_.seed * 1000 + rounds_ * 100 + number);
  for (std::size_t step = 0; step < options_.operations && kernel_.breaches().empty(); ++step) {
    const auto outcome = one(random, *targets_[random() % targets_.size()]);
    if (!outcome && kernel_.breaches().empty())
      ADD_FAILURE() << "thread " << number << " step " << step << ": " << outcome.error().message();
  }
}

void RandomLoad::flusher(const std::atomic<bool>& ends) {
  for (std::size_t at = 0; !ends; at = (at + 1) % targets_.size()) {
    const std::shared_lock used(targets_[at]->in_use);
    const auto written = targets_[at]->file->flush_in_background();
    if (!written && kernel_.breaches().empty()) ADD_FAILURE() << "write-back: " << written.error().message();
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
