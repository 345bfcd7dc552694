// SPDX-License-Identifier: GPL-2.0-or-later
// The log: erasing what it says of the attack, filling the disk with it, writing what the reader's terminal
// obeys.
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

// The runner looks whether the lines are still there (Judge): these only say what the calls said.
Verdict over_the_beginning(long written) {
  return written < 0 ? by_errno(-1) : succeeded("lines at the end: what was written stays");
}

// Above what a server may add (64 MiB). The runner gives it a small file system, so that no disk fills.
constexpr std::size_t kFlood = std::size_t{128} << 20;

Verdict flood(Place& place) {
  const std::string piece(1 << 20, 'x');
  std::size_t written = 0;
  while (written < kFlood) {
    const ssize_t now = ::write(place.log, piece.data(), piece.size());
    if (now < 0) return by_errno(-1);
    written += static_cast<std::size_t>(now);
  }
  return succeeded("128 MiB of log");
}

constexpr Attempt kTable[] = {
    {"truncate_log", "truncate the log", [](Place& place) { return by_errno(::ftruncate(place.log, 0)); },
     Expected::kKilled, filter_alone("an empty log")},
    {"punch_log", "punch a hole into the log",
     [](Place& place) {
       return by_errno(::fallocate(place.log, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
     },
     Expected::kKilled, filter_alone("an empty log")},
    {"fill_disk_by_log", "claim a terabyte for the log",
     [](Place& place) { return by_errno(::fallocate(place.log, 0, 0, off_t{1} << 40)); }, Expected::kKilled,
     behind("RLIMIT_FSIZE")},
    {"overwrite_log", "write over the beginning of the log (pwrite)",
     [](Place& place) { return over_the_beginning(::pwrite(place.log, "\n", 1, 0)); }, Expected::kAllowed,
     behind("O_APPEND: it lands at the end")},
    {"overwrite_log_in_pieces", "the same by pwritev",
     [](Place& place) {
       iovec piece{const_cast<char*>("\n"), 1};
       return over_the_beginning(::pwritev(place.log, &piece, 1, 0));
     },
     Expected::kAllowed, behind("O_APPEND: it lands at the end")},
    {"overwrite_log_without_append", "pwritev2 without O_APPEND",
     [](Place& place) {
       iovec piece{const_cast<char*>("\n"), 1};
       constexpr int kNoAppend = 0x20;
       return by_errno(::syscall(SYS_pwritev2, place.log, &piece, 1, 0, 0, kNoAppend),
                       "a log that is written over");
     },
     Expected::kKilled, filter_alone("a log that is written over")},
    {"seek_log", "seek to the beginning of the log and write",
     [](Place& place) {
       if (::lseek(place.log, 0, SEEK_SET) != 0) return by_errno(-1);
       return over_the_beginning(::write(place.log, "\n", 1));
     },
     Expected::kAllowed, behind("O_APPEND: it lands at the end")},
    {"read_log", "read what the log said before",
     [](Place& place) {
       char byte = 0;
       return by_errno(::pread(place.log, &byte, 1, 0));
     },
     Expected::kErrno, behind("the descriptor is open for writing only")},
    {"flood_log", "write into the log without end", flood, Expected::kErrno, behind("RLIMIT_FSIZE")},
    {"far_end_of_log", "write far behind the log's end",
     [](Place& place) { return over_the_beginning(::pwrite(place.log, "\n", 1, off_t{1} << 40)); },
     Expected::kAllowed, behind("O_APPEND: it lands at the end")},
};

}  // namespace

constinit const Theme kLog{"The log", kTable};

}  // namespace fuse4fs::rogue
