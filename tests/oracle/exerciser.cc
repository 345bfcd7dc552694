// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/exerciser.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "tests/oracle/snapshot.h"

namespace fuse4fs::oracle {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLargest = 1 << 20;  // of the file, bytes
constexpr std::size_t kLogged = 60;        // operations shown after a failure

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }
void must(bool done, const char* call) {
  if (!done) fail(fmt::format("{}: {}", call, ::strerrorname_np(errno)));
}

}  // namespace

Exerciser::Exerciser(Mounted& mounted, const Options& options)
    : mounted_(&mounted), options_(options), random_(options.seed) {
  direct_.reset(static_cast<char*>(std::aligned_alloc(kPage, kLargest + kPage)));
  open_file();
}

void Exerciser::close_file() {
  file_.reset();
  direct_file_.reset();
}

void Exerciser::move_to(Mounted& mounted) {
  mounted_ = &mounted;
  open_file();
}

void Exerciser::note(std::string what) {
  log_.push_back(std::move(what));
  if (log_.size() > kLogged) log_.pop_front();
}

void Exerciser::grow(std::size_t size) {
  if (size > model_.size()) model_.resize(size, '\0');
}

// Mostly near the start, where the same pages are met again.
std::size_t Exerciser::some_offset() {
  return below(4) == 0 ? below(kLargest) : below(std::size_t{1} << (10 + below(10)));
}
std::size_t Exerciser::some_length() { return 1 + below(std::size_t{1} << (4 + below(14))); }

void Exerciser::open_file() {
  const std::string path = mounted_->point() / "file";
  const bool read_only = ::access(mounted_->point().c_str(), W_OK) != 0;
  file_.reset(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC, 0644));
  must(static_cast<bool>(file_), "open");
  direct_file_.reset(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC));
  must(static_cast<bool>(direct_file_), "open with O_DIRECT");
}

std::string Exerciser::some_bytes(std::size_t length) {
  return bytes_from(static_cast<std::uint32_t>(random_() | 1), length);
}

void Exerciser::compare(std::string_view found, std::size_t offset, const char* how) {
  const std::string_view wanted =
      std::string_view(model_).substr(std::min(offset, model_.size()), found.size());
  if (found == wanted) return;
  if (found.size() != wanted.size())
    fail(fmt::format("{} at {}: {} bytes instead of {}", how, offset, found.size(), wanted.size()));
  const auto [one, two] = std::ranges::mismatch(found, wanted);
  const auto at = static_cast<std::size_t>(one - found.begin());
  std::size_t wrong = 0, last = at;
  for (std::size_t i = at; i < found.size(); ++i)
    if (found[i] != wanted[i]) {
      ++wrong;
      last = i;
    }
  fail(fmt::format("{}: byte {} is {:02x} instead of {:02x}; {} wrong bytes up to {}", how, offset + at,
                   static_cast<unsigned char>(*one), static_cast<unsigned char>(*two), wrong, offset + last));
}

void Exerciser::compare_whole() {
  struct stat status{};
  must(::fstat(file_.get(), &status) == 0, "fstat");
  if (static_cast<std::size_t>(status.st_size) != model_.size())
    fail(fmt::format("st_size is {} instead of {}", status.st_size, model_.size()));
  std::string found(model_.size(), '\0');
  const ssize_t read = ::pread(file_.get(), found.data(), found.size(), 0);
  must(read >= 0, "pread");
  found.resize(static_cast<std::size_t>(read));
  if (found.size() != model_.size())
    fail(fmt::format("{} of {} bytes can be read", found.size(), model_.size()));
  compare(found, 0, "the whole file");
}

void Exerciser::read_buffered() {
  const std::size_t offset = some_offset(), length = some_length();
  note(fmt::format("read {} +{}", offset, length));
  std::string found(length, '\0');
  const ssize_t read = ::pread(file_.get(), found.data(), length, static_cast<off_t>(offset));
  must(read >= 0, "pread");
  const std::size_t there = model_.size() > offset ? std::min(length, model_.size() - offset) : 0;
  found.resize(static_cast<std::size_t>(read));
  if (found.size() != there) fail(fmt::format("pread gives {} bytes instead of {}", found.size(), there));
  compare(found, offset, "pread");
}

void Exerciser::write_buffered() {
  const std::size_t offset = some_offset(), length = std::min(some_length(), kLargest - offset);
  note(fmt::format("write {} +{}", offset, length));
  const std::string bytes = some_bytes(length);
  must(
      ::pwrite(file_.get(), bytes.data(), length, static_cast<off_t>(offset)) == static_cast<ssize_t>(length),
      "pwrite");
  grow(offset + length);
  model_.replace(offset, length, bytes);
}

void Exerciser::read_mapped() {
  if (model_.empty()) return;
  const std::size_t offset = below(model_.size());
  const std::size_t length = std::min(some_length(), model_.size() - offset), start = offset / kPage * kPage;
  note(fmt::format("mapped read {} +{}", offset, length));
  void* map =
      ::mmap(nullptr, offset + length - start, PROT_READ, MAP_SHARED, file_.get(), static_cast<off_t>(start));
  must(map != MAP_FAILED, "mmap");
  const std::string found(static_cast<char*>(map) + (offset - start), length);
  ::munmap(map, offset + length - start);
  compare(found, offset, "a mapping");
}

// A mapping does not move the end of file: that is done first where it must be.
void Exerciser::write_mapped() {
  const std::size_t offset = some_offset(), length = std::min(some_length(), kLargest - offset);
  const std::size_t start = offset / kPage * kPage;
  const bool synced = below(2) == 0;
  note(fmt::format("mapped write {} +{}{}", offset, length, synced ? " msync" : ""));
  if (offset + length > model_.size()) {
    must(::ftruncate(file_.get(), static_cast<off_t>(offset + length)) == 0, "ftruncate");
    grow(offset + length);
  }
  const std::string bytes = some_bytes(length);
  void* map = ::mmap(nullptr, offset + length - start, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(),
                     static_cast<off_t>(start));
  must(map != MAP_FAILED, "mmap");
  std::memcpy(static_cast<char*>(map) + (offset - start), bytes.data(), length);
  if (synced) must(::msync(map, offset + length - start, MS_SYNC) == 0, "msync");
  ::munmap(map, offset + length - start);
  model_.replace(offset, length, bytes);
}

void Exerciser::read_direct() {
  const std::size_t offset = some_offset() / kPage * kPage, length = (some_length() / kPage + 1) * kPage;
  note(fmt::format("direct read {} +{}", offset, length));
  const ssize_t read = ::pread(direct_file_.get(), direct_.get(), length, static_cast<off_t>(offset));
  must(read >= 0, "direct pread");
  const std::size_t there = model_.size() > offset ? std::min(length, model_.size() - offset) : 0;
  if (static_cast<std::size_t>(read) != there)
    fail(fmt::format("direct pread gives {} bytes instead of {}", read, there));
  compare({direct_.get(), there}, offset, "direct pread");
}

void Exerciser::write_direct() {
  const std::size_t offset = some_offset() / kPage * kPage;
  const std::size_t length = std::min((some_length() / kPage + 1) * kPage, kLargest - offset);
  note(fmt::format("direct write {} +{}", offset, length));
  const std::string bytes = some_bytes(length);
  std::memcpy(direct_.get(), bytes.data(), length);
  must(::pwrite(direct_file_.get(), direct_.get(), length, static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(length),
       "direct pwrite");
  grow(offset + length);
  model_.replace(offset, length, bytes);
}

void Exerciser::truncate() {
  const std::size_t size = below(3) == 0 ? below(kLargest) : std::min(some_offset(), kLargest);
  note(fmt::format("truncate {} (was {})", size, model_.size()));
  must(::ftruncate(file_.get(), static_cast<off_t>(size)) == 0, "ftruncate");
  model_.resize(size, '\0');
}

void Exerciser::punch() {
  const std::size_t offset = some_offset(), length = some_length();
  note(fmt::format("punch {} +{}", offset, length));
  must(::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                   static_cast<off_t>(length)) == 0,
       "fallocate(PUNCH_HOLE)");
  if (offset < model_.size())
    std::fill_n(model_.begin() + static_cast<std::ptrdiff_t>(offset),
                std::min(length, model_.size() - offset), '\0');
}

void Exerciser::zero() {
  const std::size_t offset = some_offset(), length = std::min(some_length(), kLargest - offset);
  const int keep = below(2) == 0 ? FALLOC_FL_KEEP_SIZE : 0;
  note(fmt::format("zero {} +{}{}", offset, length, keep != 0 ? " keep" : ""));
  must(::fallocate(file_.get(), FALLOC_FL_ZERO_RANGE | keep, static_cast<off_t>(offset),
                   static_cast<off_t>(length)) == 0,
       "fallocate(ZERO_RANGE)");
  if (keep == 0) grow(offset + length);
  if (offset < model_.size())
    std::fill_n(model_.begin() + static_cast<std::ptrdiff_t>(offset),
                std::min(length, model_.size() - offset), '\0');
}

void Exerciser::allocate() {
  const std::size_t offset = some_offset(), length = std::min(some_length(), kLargest - offset);
  const int keep = below(2) == 0 ? FALLOC_FL_KEEP_SIZE : 0;
  note(fmt::format("allocate {} +{}{}", offset, length, keep != 0 ? " keep" : ""));
  must(::fallocate(file_.get(), keep, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0,
       "fallocate");
  if (keep == 0) grow(offset + length);
}

void Exerciser::collapse() {
  const std::size_t offset = below(kLargest / options_.range_unit) * options_.range_unit,
                    length = (1 + below(8)) * options_.range_unit;
  if (offset + length >= model_.size()) return;
  note(fmt::format("collapse {} +{}", offset, length));
  must(::fallocate(file_.get(), FALLOC_FL_COLLAPSE_RANGE, static_cast<off_t>(offset),
                   static_cast<off_t>(length)) == 0,
       "fallocate(COLLAPSE_RANGE)");
  model_.erase(offset, length);
}

void Exerciser::insert() {
  const std::size_t offset = below(kLargest / options_.range_unit) * options_.range_unit,
                    length = (1 + below(8)) * options_.range_unit;
  if (offset >= model_.size() || model_.size() + length > kLargest) return;
  note(fmt::format("insert {} +{}", offset, length));
  must(::fallocate(file_.get(), FALLOC_FL_INSERT_RANGE, static_cast<off_t>(offset),
                   static_cast<off_t>(length)) == 0,
       "fallocate(INSERT_RANGE)");
  model_.insert(offset, length, '\0');
}

// Within the file, not onto itself.
void Exerciser::copy() {
  if (model_.empty()) return;
  const std::size_t from = below(model_.size());
  const std::size_t length = std::min(some_length(), model_.size() - from);
  const std::size_t to = some_offset();
  if (to + length > kLargest || (to < from + length && from < to + length)) return;
  note(fmt::format("copy {} +{} to {}", from, length, to));
  std::size_t copied = 0;
  while (copied < length) {
    off_t in = static_cast<off_t>(from + copied), out = static_cast<off_t>(to + copied);
    const ssize_t now = ::copy_file_range(file_.get(), &in, file_.get(), &out, length - copied, 0);
    must(now >= 0, "copy_file_range");
    if (now == 0) fail("copy_file_range copies nothing");
    copied += static_cast<std::size_t>(now);
  }
  const std::string bytes = model_.substr(from, length);
  grow(to + length);
  model_.replace(to, length, bytes);
}

void Exerciser::sync() {
  note("fsync");
  must(::fsync(file_.get()) == 0, "fsync");
}

void Exerciser::reopen() {
  const bool forget = below(2) == 0;
  note(forget ? "forget what is cached, reopen" : "reopen");
  if (forget) forget_cached(file_.get());
  if (below(40) == 0) std::ofstream("/proc/sys/vm/drop_caches") << 3;
  open_file();
}

void Exerciser::step() {
  using Operation = void (Exerciser::*)();
  std::vector<Operation> choices = {&Exerciser::truncate, &Exerciser::truncate, &Exerciser::sync,
                                    &Exerciser::reopen};
  const auto add = [&choices](unsigned weight, Operation operation) {
    choices.insert(choices.end(), weight, operation);
  };
  add(options_.variant == Variant::kMapped ? 2 : 8, &Exerciser::read_buffered);
  add(options_.variant == Variant::kMapped ? 2 : 8, &Exerciser::write_buffered);
  if (options_.variant != Variant::kBuffered) {
    add(6, &Exerciser::read_mapped);
    add(6, &Exerciser::write_mapped);
  }
  if (options_.variant == Variant::kMixed) {
    add(6, &Exerciser::read_direct);
    add(6, &Exerciser::write_direct);
  }
  if (options_.ranges != Ranges::kNone) add(2, &Exerciser::punch);
  if (options_.ranges >= Ranges::kInPlace) {
    add(2, &Exerciser::zero);
    add(2, &Exerciser::allocate);
  }
  if (options_.ranges == Ranges::kAll) {
    add(2, &Exerciser::collapse);
    add(2, &Exerciser::insert);
  }
  add(2, &Exerciser::copy);
  (this->*choices[below(choices.size())])();
}

}  // namespace fuse4fs::oracle
