// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/oracle/kernel_side.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <system_error>

#include "tests/oracle/process.h"

namespace fuse4fs::iomap_model {
namespace {

constexpr std::size_t kPage = 4096;

struct Free {
  void operator()(std::byte* bytes) const { std::free(bytes); }
};

Outcome outcome(long done) {
  if (done < 0) return {.error = errno};
  return {.error = 0, .value = static_cast<std::uint64_t>(done)};
}

[[noreturn]] void trouble(const char* doing) {
  throw std::system_error(errno, std::generic_category(), doing);
}

void enter_namespace() {
  static const bool entered = [] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      trouble("a mount namespace");
    return true;
  }();
  (void)entered;
}

}  // namespace

std::string KernelSide::impossible() {
  if (::geteuid() != 0) return "to mount by the kernel's ext4 needs root";
  if (::access("/dev/loop-control", R_OK | W_OK) != 0) return "there are no loop devices";
  return "";
}

KernelSide::KernelSide(const std::filesystem::path& image, const std::filesystem::path& point,
                       Writing writing, std::size_t files)
    : point_(point), writing_(writing) {
  enter_namespace();
  // Only explicit changes, and none by a thread of its own.
  const char* const options =
      writing == Writing::kAllowed ? "loop,rw,noatime,noinit_itable" : "loop,ro,noatime";
  const auto mounted = oracle::run({"mount", "-t", "ext4", "-o", options, image, point});
  if (mounted.status != 0) throw std::runtime_error("mount by the kernel: " + mounted.output);
  for (std::size_t at = 0; at < files; ++at)
    files_.push_back(open(at, writing == Writing::kAllowed ? O_RDWR | O_CREAT : O_RDONLY));
}

KernelSide::~KernelSide() {
  files_.clear();
  if (::umount2(point_.c_str(), 0) != 0) ::umount2(point_.c_str(), MNT_DETACH);
}

UniqueFd KernelSide::open(std::size_t file, int flags) const {
  UniqueFd fd(::open(path(file).c_str(), flags | O_CLOEXEC, 0644));
  if (!fd) trouble(path(file).c_str());
  return fd;
}

Outcome KernelSide::read(const Operation& operation, int fd) {
  const std::unique_ptr<std::byte, Free> memory(
      static_cast<std::byte*>(std::aligned_alloc(kPage, (operation.length + kPage - 1) / kPage * kPage)));
  Outcome done = outcome(::pread(fd, memory.get(), operation.length, static_cast<off_t>(operation.position)));
  done.bytes.assign(memory.get(), memory.get() + done.value);
  return done;
}

Outcome KernelSide::write(const Operation& operation, int fd) {
  const auto bytes = bytes_of(operation);
  const std::unique_ptr<std::byte, Free> memory(
      static_cast<std::byte*>(std::aligned_alloc(kPage, (operation.length + kPage - 1) / kPage * kPage)));
  std::ranges::copy(bytes, memory.get());
  return outcome(::pwrite(fd, memory.get(), operation.length, static_cast<off_t>(operation.position)));
}

Outcome KernelSide::direct(const Operation& operation) {
  const int mode = writing_ == Writing::kAllowed ? O_RDWR : O_RDONLY;
  const UniqueFd fd = open(operation.file, mode | O_DIRECT);
  return operation.kind == Operation::Kind::kDirectRead ? read(operation, fd.get())
                                                        : write(operation, fd.get());
}

Outcome KernelSide::store(const Operation& operation) {
  const auto bytes = bytes_of(operation);
  const std::uint64_t begin = operation.position / kPage * kPage;
  const std::size_t length = operation.position + operation.length - begin;
  void* const memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED,
                              files_[operation.file].get(), static_cast<off_t>(begin));
  if (memory == MAP_FAILED) return {.error = errno};
  std::memcpy(static_cast<std::byte*>(memory) + (operation.position - begin), bytes.data(), bytes.size());
  ::munmap(memory, length);
  return {};
}

void KernelSide::forget_pages(std::size_t file) {
  ::posix_fadvise(files_[file].get(), 0, 0, POSIX_FADV_DONTNEED);
}

Outcome KernelSide::seek(const Operation& operation) {
  const int fd = files_[operation.file].get();
  if (::fsync(fd) != 0) return {.error = errno};
  forget_pages(operation.file);
  return outcome(::lseek(fd, static_cast<off_t>(operation.position),
                         operation.kind == Operation::Kind::kSeekData ? SEEK_DATA : SEEK_HOLE));
}

Outcome KernelSide::replace(const Operation& operation) {
  auto& file = files_[operation.file];
  if (operation.kind == Operation::Kind::kOpenTruncating) {
    (void)open(operation.file, O_RDWR | O_TRUNC);
    return {};
  }
  if (operation.kind == Operation::Kind::kEvict) {
    // As close to it as one file can be brought: it is written and its pages go.
    ::fsync(file.get());
    forget_pages(operation.file);
    file.reset();
    file = open(operation.file, O_RDWR);
    return {};
  }
  file.reset();
  if (::unlink(path(operation.file).c_str()) != 0) return {.error = errno};
  file = open(operation.file, O_RDWR | O_CREAT | O_EXCL);
  return {};
}

Outcome KernelSide::apply(const Operation& operation) {
  const int fd = files_[operation.file].get();
  const auto position = static_cast<off_t>(operation.position);
  const auto length = static_cast<off_t>(operation.length);
  const auto allocate = [&](int mode) { return outcome(::fallocate(fd, mode, position, length)); };
  switch (operation.kind) {
    using enum Operation::Kind;
    case kRead:
      return read(operation, fd);
    case kWrite:
      return write(operation, fd);
    case kDirectRead:
    case kDirectWrite:
      return direct(operation);
    case kStore:
      return store(operation);
    case kTruncate:
      return outcome(::ftruncate(fd, position));
    case kAllocate:
      return allocate(0);
    case kAllocateKeepingSize:
      return allocate(FALLOC_FL_KEEP_SIZE);
    case kPunch:
      return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    case kZero:
      return allocate(FALLOC_FL_ZERO_RANGE);
    case kZeroKeepingSize:
      return allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    case kCopy: {
      off_t from = position, to = static_cast<off_t>(operation.to);
      return outcome(::copy_file_range(fd, &from, files_[operation.to_file].get(), &to, operation.length, 0));
    }
    case kSync:
      return outcome(::fsync(fd));
    case kSyncData:
      return outcome(::fdatasync(fd));
    case kReclaim:
      forget_pages(operation.file);
      return {};
    case kSeekData:
    case kSeekHole:
      return seek(operation);
    case kClose:
    case kTick:
      return {};
    default:
      return replace(operation);
  }
}

std::uint64_t KernelSide::size(std::size_t file) {
  struct stat attributes{};
  if (::fstat(files_[file].get(), &attributes) != 0) trouble("fstat");
  return static_cast<std::uint64_t>(attributes.st_size);
}

Side::Layout KernelSide::layout(std::size_t file) {
  const int fd = files_[file].get();
  if (writing_ == Writing::kAllowed && ::fsync(fd) != 0) trouble("fsync");
  forget_pages(file);
  Layout layout;
  const auto end = static_cast<off_t>(size(file));
  for (off_t at = 0; at < end;) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0) break;
    at = ::lseek(fd, data, SEEK_HOLE);
    layout.data.push_back(
        {.offset = static_cast<std::uint64_t>(data), .length = static_cast<std::uint64_t>(at - data)});
  }
  if (end == 0) return layout;
  constexpr std::size_t kMost = 4096;
  std::vector<std::byte> memory(sizeof(fiemap) + kMost * sizeof(fiemap_extent));
  auto* const map = reinterpret_cast<fiemap*>(memory.data());
  map->fm_length = static_cast<std::uint64_t>(end);
  map->fm_flags = FIEMAP_FLAG_SYNC;
  map->fm_extent_count = kMost;
  if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0) trouble("FIEMAP");
  for (const fiemap_extent& extent : std::span(map->fm_extents, map->fm_mapped_extents)) {
    const auto stop = std::min<std::uint64_t>(extent.fe_logical + extent.fe_length, map->fm_length);
    const std::uint64_t length = stop - std::min<std::uint64_t>(extent.fe_logical, stop);
    auto& all = layout.allocated;
    if (!all.empty() && all.back().offset + all.back().length == extent.fe_logical)
      all.back().length += length;
    else
      all.push_back({.offset = extent.fe_logical, .length = length});
  }
  struct stat attributes{};
  if (::fstat(fd, &attributes) != 0) trouble("fstat");
  layout.sectors = static_cast<std::uint64_t>(attributes.st_blocks);
  return layout;
}

std::uint64_t KernelSide::free_bytes() {
  struct statvfs statistics{};
  if (::fstatvfs(files_[0].get(), &statistics) != 0) trouble("statvfs");
  return std::uint64_t{statistics.f_bfree} * statistics.f_frsize;
}

}  // namespace fuse4fs::iomap_model
