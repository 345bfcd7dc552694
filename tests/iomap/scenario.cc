// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/scenario.h"

#include <linux/falloc.h>

#include <algorithm>
#include <memory>

namespace fuse4fs::iomap_model {
namespace {

constexpr std::uint64_t kBlock = 4096;

// Steps on files by name, all of one kernel.
class Steps {
 public:
  Steps(Kernel& kernel, AllocatingVolume& server) : kernel_(kernel), server_(server) {}

  void add(std::string_view name, std::function<Result<void>()> run) {
    steps_.push_back({name, std::move(run)});
  }
  // The file is made if it is not there.
  void with(std::string_view file, std::string_view name, std::function<Result<void>(File&)> run) {
    add(name, [this, file, run = std::move(run)]() -> Result<void> {
      auto opened = kernel_.open(file);
      if (!opened) opened = kernel_.create(file);
      if (!opened) return fail(opened.error());
      return run(**opened);
    });
  }
  Kernel& kernel() { return kernel_; }
  AllocatingVolume& server() { return server_; }
  std::vector<Step> take() { return std::move(steps_); }

 private:
  Kernel& kernel_;
  AllocatingVolume& server_;
  std::vector<Step> steps_;
};

Result<void> write(File& file, std::uint64_t position, std::size_t length) {
  ASSIGN_OR_RETURN(const std::size_t done,
                   file.write(position, pattern(static_cast<std::uint32_t>(file.node()), position, length)));
  return done == length ? Result<void>() : fail(EIO);
}

Result<void> direct_write(File& file, std::uint64_t position, std::size_t length) {
  ASSIGN_OR_RETURN(
      const std::size_t done,
      file.direct_write(position, pattern(static_cast<std::uint32_t>(file.node()) + 1000, position, length)));
  return done == length ? Result<void>() : fail(EIO);
}

Result<void> read_all(File& file) {
  std::vector<std::byte> bytes(file.size());
  ASSIGN_OR_RETURN(const std::size_t done, file.read(0, bytes));
  return done == bytes.size() ? Result<void>() : fail(EIO);
}

Result<void> direct_read_all(File& file) {
  std::vector<std::byte> bytes((file.size() + kBlock - 1) / kBlock * kBlock);
  ASSIGN_OR_RETURN(const std::size_t done, file.direct_read(0, bytes));
  return done == file.size() ? Result<void>() : fail(EIO);
}

// Synced, and there again.
Result<void> judge(File& file) {
  RETURN_IF_ERROR(file.sync());
  RETURN_IF_ERROR(direct_read_all(file));
  RETURN_IF_ERROR(file.judge_cache());
  return file.judge_durability();
}

// `outcome` must be that error.
template <class T>
Result<void> fails_with(const Result<T>& outcome, int error) {
  if (outcome) return fail(EPROTO);
  return outcome.error() == Errno(error) ? Result<void>() : fail(outcome.error());
}

void add_writes(Steps& steps) {
  steps.with("s", "write of some bytes", [](File& file) { return write(file, 0, 60); });
  steps.with("s", "sync of them", judge);
  steps.with("s", "direct read of more than there is", [](File& file) -> Result<void> {
    std::vector<std::byte> bytes(2 * kBlock);
    ASSIGN_OR_RETURN(const std::size_t done, file.direct_read(0, bytes));
    return done == 60 ? Result<void>() : fail(EIO);
  });
  steps.with("a", "buffered write", [](File& file) { return write(file, 0, 6 * kBlock); });
  steps.with("a", "read", read_all);
  steps.with("a", "sync", judge);
  steps.with("b", "second file", [](File& file) { return write(file, 0, 5 * kBlock + 100); });
  steps.with("b", "sync of the second", judge);
  steps.with("b", "append", [](File& file) { return write(file, file.size(), 3000); });
  steps.with("b", "close", [](File& file) { return file.close(); });
  steps.with("b", "sync of the append", judge);
  steps.with("b", "append that is looked at", [](File& file) -> Result<void> {
    RETURN_IF_ERROR(write(file, file.size(), 50));
    ASSIGN_OR_RETURN(const auto attributes, file.stat());
    return attributes.size == file.size() ? Result<void>() : fail(EPROTO);
  });
  steps.with("b", "sync of it", judge);
  steps.with("c", "allocate",
             [](File& file) { return file.fallocate(0, {.offset = 0, .length = 16 * kBlock}); });
  steps.with("c", "read of unwritten blocks", read_all);
  steps.with("c", "write among them", [](File& file) { return write(file, 2 * kBlock, kBlock); });
  steps.with("c", "sync of a part", judge);
  steps.with("d", "write behind a hole", [](File& file) { return write(file, 256 * kBlock, kBlock); });
  steps.with("d", "read of the hole", read_all);
  steps.with("d", "sync with a hole", judge);
  steps.with("d", "read of what is known afterwards", read_all);
  steps.with("d", "report", [](File& file) -> Result<void> {
    ASSIGN_OR_RETURN(const auto extents, file.extents());
    if (extents.size() != 1 || extents.front().offset != 256 * kBlock) return fail(EPROTO);
    ASSIGN_OR_RETURN(const auto data, file.seek(0, ext4::SeekTarget::kData));
    ASSIGN_OR_RETURN(const auto hole, file.seek(data, ext4::SeekTarget::kHole));
    return data == 256 * kBlock && hole == file.size() ? Result<void>() : fail(EPROTO);
  });
  steps.with("m", "mapped write", [](File& file) -> Result<void> {
    RETURN_IF_ERROR(write(file, 0, 3 * kBlock));
    return file.store(kBlock + 8, pattern(7, kBlock + 8, 2000));
  });
  steps.with("m", "sync of the mapped write", judge);
}

void add_direct(Steps& steps) {
  steps.with("x", "direct write", [](File& file) { return direct_write(file, 0, 8 * kBlock); });
  steps.with("x", "direct overwrite", [](File& file) { return direct_write(file, kBlock, 2 * kBlock); });
  steps.with("x", "direct write behind the end",
             [](File& file) { return direct_write(file, 12 * kBlock, 1536); });
  steps.with("x", "direct read", direct_read_all);
  steps.with("x", "sync of direct writes", judge);
  steps.with("c", "overwrite only, of unwritten blocks", [](File& file) {
    return fails_with(
        file.direct_write(8 * kBlock, pattern(1, 0, kBlock), {.operation = abi::kOpOverwriteOnly}), EAGAIN);
  });
  steps.with("x", "overwrite only", [](File& file) -> Result<void> {
    ASSIGN_OR_RETURN(const auto done,
                     file.direct_write(0, pattern(1, 0, kBlock), {.operation = abi::kOpOverwriteOnly}));
    return done == kBlock ? Result<void>() : fail(EIO);
  });
  steps.with("x", "atomic write", [](File& file) -> Result<void> {
    ASSIGN_OR_RETURN(const auto done,
                     file.direct_write(0, pattern(2, 0, kBlock), {.operation = abi::kOpAtomic}));
    return done == kBlock ? Result<void>() : fail(EIO);
  });
  steps.with("e", "allocate for a failure",
             [](File& file) { return file.fallocate(0, {.offset = 0, .length = 8 * kBlock}); });
  steps.with("e", "direct write that fails", [&kernel = steps.kernel()](File& file) {
    kernel.device()->fail_writes(1);
    return fails_with(file.direct_write(0, pattern(3, 0, 2 * kBlock)), EIO);
  });
  steps.with("e", "read after it", read_all);
  steps.with("e", "sync after it", judge);
  steps.with("e", "buffered write that fails", [&kernel = steps.kernel()](File& file) -> Result<void> {
    RETURN_IF_ERROR(write(file, 4 * kBlock, kBlock));
    kernel.device()->fail_writes(1);
    RETURN_IF_ERROR(fails_with(file.sync(), EIO));
    return file.sync();
  });
  steps.with("e", "sync after that", judge);
}

void add_sizes(Steps& steps) {
  steps.with("f", "write to truncate", [](File& file) { return write(file, 0, 40000); });
  steps.with("f", "sync to truncate", judge);
  steps.with("f", "keep mappings", direct_read_all);
  steps.with("f", "truncate down", [](File& file) { return file.truncate(10000); });
  steps.with("f", "read after truncate", read_all);
  steps.with("f", "sync after truncate", judge);
  steps.with("f", "truncate up", [](File& file) { return file.truncate(40000); });
  steps.with("f", "read after growth", read_all);
  steps.with("f", "sync after growth", judge);
  steps.with("g", "write to punch", [](File& file) { return write(file, 0, 16 * kBlock); });
  steps.with("g", "sync to punch", judge);
  steps.with("g", "keep mappings", direct_read_all);
  steps.with("g", "punch", [](File& file) {
    return file.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, {.offset = 8292, .length = 31708});
  });
  steps.with("g", "read after punch", read_all);
  steps.with("g", "sync after punch", judge);
  steps.with("g", "write-back beside a punch", [](File& file) -> Result<void> {
    RETURN_IF_ERROR(write(file, 0, 16 * kBlock));
    Result<void> between;
    const auto punch = [&](std::uint64_t offset) {
      if (offset != 4 * kBlock || !between) return;
      between = file.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               {.offset = offset, .length = 2 * kBlock});
      if (between) between = write(file, offset, kBlock);
    };
    RETURN_IF_ERROR(file.flush_in_background(punch));
    return between;
  });
  steps.with("g", "sync of that", judge);
  steps.with("h", "write to zero", [](File& file) { return write(file, 0, 16 * kBlock); });
  steps.with("h", "sync to zero", judge);
  steps.with("h", "zero", [](File& file) {
    return file.fallocate(FALLOC_FL_ZERO_RANGE, {.offset = 5000, .length = 20 * kBlock});
  });
  steps.with("h", "read after zero", read_all);
  steps.with("h", "sync after zero", judge);
  steps.with("j", "short write", [](File& file) -> Result<void> {
    ASSIGN_OR_RETURN(const auto done, file.write(0, pattern(4, 0, 10 * kBlock), {.readable = 5000}));
    return done == 5000 ? Result<void>() : fail(EPROTO);
  });
  steps.with("j", "the rest", [](File& file) { return write(file, 5000, 10 * kBlock); });
  steps.with("j", "sync of the rest", judge);
}

// The answer of who does not want to wait may be that he would have to.
template <class T>
Result<void> done_or_later(const Result<T>& outcome) {
  return outcome || outcome.error() == Errno(EAGAIN) ? Result<void>() : fail(outcome.error());
}

void add_other_ways(Steps& steps) {
  steps.with("n", "without waiting", [](File& file) -> Result<void> {
    RETURN_IF_ERROR(done_or_later(file.write(0, pattern(5, 0, 3 * kBlock), {.operation = abi::kOpNoWait})));
    RETURN_IF_ERROR(
        done_or_later(file.direct_write(4 * kBlock, pattern(6, 0, kBlock), {.operation = abi::kOpNoWait})));
    std::vector<std::byte> bytes(8 * kBlock);
    return done_or_later(file.direct_read(0, bytes, {.operation = abi::kOpNoWait}));
  });
  steps.with("n", "sync of it", judge);
  steps.with("q", "copy from another file", [&kernel = steps.kernel()](File& file) -> Result<void> {
    ASSIGN_OR_RETURN(const auto source, kernel.open("a"));
    ASSIGN_OR_RETURN(const auto done, file.copy_from(*source, {.offset = 100, .length = 3 * kBlock}, 5000));
    return done == 3 * kBlock ? Result<void>() : fail(EPROTO);
  });
  steps.with("q", "copy within the file", [](File& file) -> Result<void> {
    RETURN_IF_ERROR(fails_with(file.copy_from(file, {.offset = 0, .length = 5000}, 4000), EINVAL));
    ASSIGN_OR_RETURN(const auto done, file.copy_from(file, {.offset = 5000, .length = 5000}, 20000));
    return done == 5000 ? Result<void>() : fail(EPROTO);
  });
  steps.with("q", "sync of the copies", judge);
  steps.with("o", "write to open", [](File& file) { return write(file, 0, 5 * kBlock); });
  steps.with("o", "sync to open", judge);
  steps.with("o", "open truncating", [&kernel = steps.kernel()](File&) -> Result<void> {
    ASSIGN_OR_RETURN(const auto file, kernel.open("o"));
    RETURN_IF_ERROR(kernel.open_truncating(file));
    RETURN_IF_ERROR(file->sync());
    return kernel.evict(file);
  });
  steps.with("o", "read of what was truncated", read_all);
}

void add_rest(Steps& steps) {
  steps.with("i", "IOEND that the server cannot do",
             [&kernel = steps.kernel(), &server = steps.server()](File& file) -> Result<void> {
               RETURN_IF_ERROR(write(file, 0, kBlock));
               kernel.core().causes.set({EIO});
               server.fail_completions(1);
               return fails_with(file.sync(), EIO);
             });
  steps.with("i", "sync after it", [&kernel = steps.kernel()](File& file) -> Result<void> {
    kernel.core().causes.set({});
    RETURN_IF_ERROR(write(file, 0, kBlock));
    return judge(file);
  });
  steps.with("a", "swap file", [](File& file) -> Result<void> {
    ASSIGN_OR_RETURN(const auto extents, file.swap_on());
    if (extents.empty()) return fail(EPROTO);
    return file.swap_off();
  });
  steps.add("unlink", [&kernel = steps.kernel()] { return kernel.unlink("g"); });
  steps.with("k", "blocks again", [](File& file) { return write(file, 0, 64 * kBlock); });
  steps.with("k", "sync of them", judge);
  steps.with("b", "evict", [&kernel = steps.kernel()](File&) -> Result<void> {
    ASSIGN_OR_RETURN(const auto file, kernel.open("b"));
    return kernel.evict(file);
  });
  steps.with("b", "read of what was evicted", judge);
  steps.add("freeze", [&kernel = steps.kernel()]() -> Result<void> {
    RETURN_IF_ERROR(kernel.freeze());
    return kernel.unfreeze();
  });
  steps.add("unmount", [&kernel = steps.kernel()] { return kernel.unmount(); });
}

}  // namespace

std::vector<std::byte> pattern(std::uint32_t key, std::uint64_t position, std::size_t length) {
  constexpr std::uint64_t kMask = 0x5a5a5a5a5a5a5a5a;  // no zeros, for the most part
  const std::uint64_t begin = position / 8, end = (position + length + 7) / 8;
  std::vector<std::uint64_t> words;
  words.reserve(end - begin);
  for (std::uint64_t word = begin; word < end; ++word)
    words.push_back(((std::uint64_t{key} << 40) | word | 1) ^ kMask);
  const auto all = std::as_bytes(std::span(words)).subspan(position % 8, length);
  std::vector<std::byte> bytes(all.begin(), all.end());
  std::ranges::replace(bytes, kNeverWritten, std::byte{1});
  return bytes;
}

std::vector<Step> scenario(Kernel& kernel, AllocatingVolume& server) {
  // Its steps refer to it.
  const auto steps = std::make_shared<Steps>(kernel, server);
  steps->add("mount", [&kernel, steps] { return kernel.mount(); });
  add_writes(*steps);
  add_direct(*steps);
  add_sizes(*steps);
  add_other_ways(*steps);
  add_rest(*steps);
  return steps->take();
}

}  // namespace fuse4fs::iomap_model
