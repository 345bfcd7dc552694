// SPDX-License-Identifier: GPL-2.0-or-later
// Contents: reads, writes, sizes and ranges. With O_DIRECT the buffer is aligned; offset and length are the
// step's.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tests/oracle/differences.h"
#include "tests/oracle/executor.h"
#include "tests/oracle/snapshot.h"

namespace fuse4fs::oracle {
namespace {

constexpr std::size_t kAlignment = 4096;

struct Free {
  void operator()(char* buffer) const { std::free(buffer); }
};
using Buffer = std::unique_ptr<char, Free>;

Buffer aligned(std::size_t length) {
  const std::size_t whole = (length + kAlignment) / kAlignment * kAlignment;
  return Buffer(static_cast<char*>(std::aligned_alloc(kAlignment, whole)));
}

// Opening a fifo without a partner would wait.
constexpr int kCalm = O_NONBLOCK;

// Where O_APPEND ignores the offset, one behind the end makes the file longer on kernels with fuse-iomap v7:
// a fault of theirs.
off_t offset_for(int file, off_t wanted) {
  struct stat status{};
  const bool appends = (::fcntl(file, F_GETFL) & O_APPEND) != 0 && ::fstat(file, &status) == 0;
  return appends ? std::min(wanted, status.st_size) : wanted;
}

Returned write_bytes(const Step& step, OpenFiles& files) {
  const Target target(step, files, static_cast<int>(step.flags) | O_WRONLY | kCalm);
  if (target.get() < 0) return failed("open");
  const auto length = static_cast<std::size_t>(step.length);
  const Buffer buffer = aligned(length);
  std::memcpy(buffer.get(), bytes_from(step.seed, length).data(), length);
  const ssize_t written = ::pwrite(target.get(), buffer.get(), length, offset_for(target.get(), step.offset));
  return written < 0 ? failed("pwrite") : done(written);
}

Returned read_bytes(const Step& step, OpenFiles& files) {
  const Target target(step, files, static_cast<int>(step.flags) | O_RDONLY | kCalm);
  if (target.get() < 0) return failed("open");
  const Buffer buffer = aligned(static_cast<std::size_t>(step.length));
  const ssize_t read =
      ::pread(target.get(), buffer.get(), static_cast<std::size_t>(step.length), step.offset);
  return read < 0 ? failed("pread") : done(read, std::string(buffer.get(), static_cast<std::size_t>(read)));
}

Returned truncate_file(const Step& step, OpenFiles& files) {
  struct stat status{};
  const int looked =
      step.slot < 0 ? ::stat(step.path.c_str(), &status) : ::fstat(Target(step, files, 0).get(), &status);
  if (looked == 0 && S_ISREG(status.st_mode) && truncate_is_left_out(status.st_size, step.length))
    return done();
  if (step.slot < 0) return ::truncate(step.path.c_str(), step.length) == 0 ? done() : failed("truncate");
  const Target target(step, files, 0);
  return ::ftruncate(target.get(), step.length) == 0 ? done() : failed("ftruncate");
}

Returned change_range(const Step& step, OpenFiles& files) {
  const Target target(step, files, O_WRONLY | kCalm);
  if (target.get() < 0) return failed("open");
  return ::fallocate(target.get(), static_cast<int>(step.flags), step.offset, step.length) == 0
             ? done()
             : failed("fallocate");
}

// Of the volume: over an unwritten range the kernel also takes for data what happens to be in its cache.
Returned seek(const Step& step, OpenFiles& files) {
  const Target target(step, files, O_RDONLY | kCalm);
  if (target.get() < 0) return failed("open");
  struct stat status{};
  if (::fstat(target.get(), &status) == 0 && seek_is_left_out(status.st_mode, flags_of(target.get())))
    return done();
  forget_cached(target.get());
  const off_t found = ::lseek(target.get(), step.offset, static_cast<int>(step.flags));
  return found < 0 ? failed("lseek") : done(found);
}

// From the step's target to `other`, at `number` there.
Returned copy(const Step& step, OpenFiles& files) {
  const Target from(step, files, O_RDONLY | kCalm);
  if (from.get() < 0) return failed("open");
  const UniqueFd to(::open(step.other.c_str(), O_WRONLY | kCalm | O_CLOEXEC));
  if (!to) return failed("open of the second");
  off_t in = step.offset, out = step.number;
  const ssize_t copied =
      ::copy_file_range(from.get(), &in, to.get(), &out, static_cast<std::size_t>(step.length), 0);
  return copied < 0 ? failed("copy_file_range") : done(copied);
}

Returned sync_file(const Step& step, OpenFiles& files) {
  const Target target(step, files, O_RDONLY | kCalm);
  if (target.get() < 0) return failed("open");
  return ::fsync(target.get()) == 0 ? done() : failed("fsync");
}

}  // namespace

Execute data_operation(Operation operation) {
  switch (operation) {
    case Operation::kWrite:
      return write_bytes;
    case Operation::kRead:
      return read_bytes;
    case Operation::kTruncate:
      return truncate_file;
    case Operation::kFallocate:
      return change_range;
    case Operation::kSeek:
      return seek;
    case Operation::kCopy:
      return copy;
    case Operation::kFsync:
      return sync_file;
    default:
      return nullptr;
  }
}

}  // namespace fuse4fs::oracle
