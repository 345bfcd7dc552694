// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/images/judge.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>

#include "server/ext4/file_system.h"
#include "tests/devices/counting_backend.h"
#include "tests/devices/memory_backend.h"
#include "tests/fuzz/memory_volume.h"
#include "tests/fuzz/volume_use.h"

namespace fuse4fs::hostile {
namespace {

using namespace ext4;
using ext4::fuzz::require;

class Trial {
 public:
  Trial(const std::vector<std::byte>& image, Events& events)
      : memory_(std::make_shared<cache::Memory>(image)), events_(events) {}

  Outcome<std::unique_ptr<FileSystem>> mount(cache::Access access) {
    auto device =
        std::make_unique<cache::CountingBackend>(std::make_unique<cache::MemoryBackend>(memory_), counts_);
    // With the policy that goes on longest. Nobody else has it: what waits for another host's claim need not.
    const MountOptions options{.access = access,
                               .errors = ErrorPolicy::kContinue,
                               .wait = [](std::chrono::seconds) { return false; }};
    auto mounted = FileSystem::mount(cache::BlockDevice(std::move(device), access), options, events_);
    require(mounted || !mounted.error().message.empty(), "a refusal says why");
    if (!mounted) events_.notice(mounted.error().message);
    return mounted;
  }
  [[nodiscard]] bool has_changes() const { return counts_->changes != 0; }
  [[nodiscard]] bool stayed_inside() const { return counts_->outside == 0; }

 private:
  const std::shared_ptr<cache::Memory> memory_;
  const std::shared_ptr<cache::RequestCounts> counts_ = std::make_shared<cache::RequestCounts>();
  Events& events_;
};

// A few blocks, others far behind them, then some in the middle, and one of them again.
class NewFile {
 public:
  explicit NewFile(std::string_view name) : name_(name) {}

  // Whether all of it succeeded.
  bool make(FileSystem& fs) {
    const auto made = fs.make(kRootInode, name_, {.mode = S_IFREG | 0644});
    if (!made) return false;
    inode_ = made->inode;
    const std::size_t block = fs.block_size();
    const bool written = write(fs, 0, 3 * block + 100) && write(fs, 40 * block, 2 * block) &&
                         write(fs, 20 * block, 2 * block + 7) && write(fs, block, 50);
    if (!written || !fs.sync_inode(inode_, FileSystem::SyncWhat::kAll)) return false;
    require(reads_back(fs, inode_), "a new file reads back as it was written");
    fs.forget(inode_, 1);
    return true;
  }
  [[nodiscard]] bool is_there(FileSystem& fs) const {
    const auto found = fs.lookup(kRootInode, name_);
    if (!found) {
      fmt::print(stderr, "{}: {}\n", name_, found.error().message());
      return false;
    }
    const bool same = found->size == content_.size() && reads_back(fs, found->inode);
    fs.forget(found->inode, 1);
    return same;
  }

 private:
  bool write(FileSystem& fs, std::size_t offset, std::size_t length) {
    std::string bytes(length, '\0');
    for (std::size_t i = 0; i < length; ++i)
      bytes[i] = static_cast<char>('A' + (offset + i * 7 + ++salt_) % 53);
    content_.resize(std::max(content_.size(), offset + length));
    std::ranges::copy(bytes, content_.begin() + static_cast<std::ptrdiff_t>(offset));
    return fs.write(inode_, offset, std::as_bytes(std::span(bytes)), AttributeChanges::Privileges::kKeep)
        .has_value();
  }
  [[nodiscard]] bool reads_back(FileSystem& fs, InodeNumber inode) const {
    std::string found(content_.size() + 1, '\0');
    const auto length = fs.read(inode, 0, std::as_writable_bytes(std::span(found)));
    found.resize(length.value_or(0));
    if (found == content_) return true;
    const auto differs = std::ranges::mismatch(found, content_).in1 - found.begin();
    fmt::print(stderr, "{}, inode {}: {} of {} bytes, which differ from byte {} on{}\n", name_, inode,
               found.size(), content_.size(), differs, length ? "" : ": " + length.error().message());
    return false;
  }

  const std::string name_;
  InodeNumber inode_ = 0;
  std::string content_;
  std::size_t salt_ = 0;
};

}  // namespace

Verdict judge_image(const std::vector<std::byte>& image) {
  ext4::fuzz::QuietEvents quiet;
  return judge_image(image, quiet);
}

Verdict judge_image(const std::vector<std::byte>& image, Events& events) {
  Verdict verdict;
  Trial trial(image, events);
  if (auto fs = trial.mount(cache::Access::kReadOnly)) {
    verdict.mounted = Verdict::Mounted::kReadOnly;
    ext4::fuzz::look_at_volume(**fs);
    (void)(*fs)->unmount();
  } else {
    verdict.words = fs.error().message;
  }
  require(!trial.has_changes(), "a mount that only reads leaves the image as it is");

  // One file on the volume as it is, one on what is left when everything was changed.
  NewFile first("first new file");
  NewFile second("second new file");
  bool has_first = false;
  bool has_second = false;
  if (auto fs = trial.mount(cache::Access::kReadWrite)) {
    if ((*fs)->access() == cache::Access::kReadWrite) verdict.mounted = Verdict::Mounted::kReadWrite;
    has_first = first.make(**fs);
    has_first = (*fs)->unmount().has_value() && has_first;
  } else if (verdict.words.empty()) {
    verdict.words = fs.error().message;
  }
  if (verdict.mounted == Verdict::Mounted::kReadWrite) {
    auto fs = trial.mount(cache::Access::kReadWrite);
    require(fs.has_value() || !has_first, "what was unmounted well can be mounted again");
    if (fs) {
      if (has_first) {
        require(first.is_there(**fs), "a new file reads back after another mount");
        ++verdict.files_read;
      }
      ext4::fuzz::use_volume(**fs);
      has_second = second.make(**fs);
      has_second = (*fs)->unmount().has_value() && has_second;
    }
  }
  if (has_second) {
    auto fs = trial.mount(cache::Access::kReadOnly);
    require(fs.has_value(), "what was unmounted well can be mounted again");
    require(second.is_there(**fs), "a second new file reads back after another mount");
    ++verdict.files_read;
    (void)(*fs)->unmount();
  }
  require(trial.stayed_inside(), "nothing outside of the device is asked for");
  return verdict;
}

}  // namespace fuse4fs::hostile
