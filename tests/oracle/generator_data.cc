// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <array>

#include "tests/oracle/generator.h"

namespace fuse4fs::oracle {
namespace {

constexpr std::int64_t kDirect = 4096;  // what every kind lets O_DIRECT be aligned to

}  // namespace

// Mostly near the start, where the same blocks are met again; some far out, where the file is sparse.
std::int64_t Generator::some_offset() {
  if (one_in(40)) return static_cast<std::int64_t>(below(std::uint64_t{1} << 33));
  if (one_in(6)) return static_cast<std::int64_t>(below(3 << 20));
  if (one_in(3)) return static_cast<std::int64_t>(below(64) * 1024);
  return static_cast<std::int64_t>(below(std::uint64_t{1} << (1 + below(17))));
}

Step Generator::write_bytes() {
  Step step{.operation = Operation::kWrite, .who = somebody()};
  aim(step, 'f');
  step.offset = some_offset();
  step.length = static_cast<std::int64_t>(1 + below(std::uint64_t{1} << (1 + below(16))));
  step.seed = static_cast<std::uint32_t>(below(1'000'000));
  if (one_in(6)) step.flags = O_APPEND;
  if (one_in(10)) step.flags |= O_SYNC;
  if (one_in(12)) step.flags |= O_TRUNC;
  return step;
}

Step Generator::read_bytes() {
  Step step{.operation = Operation::kRead, .who = somebody()};
  aim(step, 'f');
  step.offset = some_offset();
  step.length = static_cast<std::int64_t>(1 + below(std::uint64_t{1} << (1 + below(17))));
  return step;
}

Step Generator::direct_write() {
  Step step = write_bytes();
  step.slot = -1;
  if (step.path.empty()) step.path = some('f');
  step.flags = O_DIRECT;
  step.offset = step.offset / kDirect * kDirect;
  step.length = (step.length / kDirect + 1) * kDirect;
  return step;
}

Step Generator::direct_read() {
  Step step = direct_write();
  step.operation = Operation::kRead;
  step.seed = 0;
  return step;
}

Step Generator::truncate_file() {
  Step step{.operation = Operation::kTruncate, .who = somebody()};
  aim(step, 'f');
  step.length = one_in(5) ? 0 : some_offset();
  if (one_in(25))
    step.length = static_cast<std::int64_t>(std::uint64_t{1} << (30 + below(15)));  // EFBIG for some
  return step;
}

Step Generator::sync_file() {
  Step step{.operation = Operation::kFsync, .who = 0};
  aim(step, one_in(4) ? 'd' : 'f');
  return step;
}

// Not collapse and insert: the kernel's FUSE refuses them (EOPNOTSUPP) without asking the server.
Step Generator::change_range() {
  constexpr std::array<std::uint64_t, 7> kModes = {0,
                                                   FALLOC_FL_KEEP_SIZE,
                                                   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                   FALLOC_FL_ZERO_RANGE,
                                                   FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                                   FALLOC_FL_PUNCH_HOLE};
  Step step{.operation = Operation::kFallocate, .who = somebody()};
  aim(step, 'f');
  step.flags = pick(kModes);
  step.offset = static_cast<std::int64_t>(below(std::uint64_t{1} << (1 + below(20))));
  step.length = static_cast<std::int64_t>(below(std::uint64_t{1} << (1 + below(19))));
  if (one_in(3)) {
    step.offset = step.offset / 16384 * 16384;
    step.length = (step.length / 16384 + 1) * 16384;
  }
  return step;
}

Step Generator::seek() {
  Step step{.operation = Operation::kSeek, .who = 0};
  aim(step, 'f');
  step.offset = some_offset();
  step.flags = one_in(2) ? SEEK_DATA : SEEK_HOLE;
  return step;
}

Step Generator::copy() {
  Step step{.operation = Operation::kCopy, .who = somebody()};
  aim(step, 'f');
  step.other = one_in(8) && !step.path.empty() ? step.path : some('f');  // onto itself
  step.offset = static_cast<std::int64_t>(below(std::uint64_t{1} << (1 + below(17))));
  step.number = static_cast<std::int64_t>(below(std::uint64_t{1} << (1 + below(17))));
  step.length = static_cast<std::int64_t>(1 + below(std::uint64_t{1} << (1 + below(17))));
  return step;
}

}  // namespace fuse4fs::oracle
