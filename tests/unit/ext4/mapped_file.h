// SPDX-License-Identifier: GPL-2.0-or-later
// Data that the caller moves itself: a small stand-in for the kernel asks for mappings, writes to the image
// where they say, and tells what it did. The whole of the kernel's side is tests/iomap.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "server/cache/direct_backend.h"
#include "server/ext4/mapping_service.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {

// Keeps what it is told, as long as it is not told otherwise.
class KeptMappings final : public MappingCache {
 public:
  Result<void> forget(InodeNumber inode, ByteRange range) override {
    forgotten.push_back(range);
    if (!forgets) return fail(EIO);
    for (auto* mappings : {&kept, &kept_of[inode]})
      std::erase_if(*mappings, [&](const auto& entry) {
        return entry.second.offset + entry.second.length > range.offset;
      });
    if (behind_forget) behind_forget(inode);
    return {};
  }
  bool remember(InodeNumber inode, const DataMapping& mapping) override {
    if (keeps) kept.insert_or_assign(mapping.offset, mapping);
    if (keeps) kept_of[inode].insert_or_assign(mapping.offset, mapping);
    return keeps;
  }
  Result<void> forget_device(ByteRange) override { return {}; }

  std::map<std::uint64_t, DataMapping> kept;  // of whatever file
  std::map<InodeNumber, std::map<std::uint64_t, DataMapping>> kept_of;
  std::vector<ByteRange> forgotten;
  bool keeps = true;
  bool forgets = true;
  // What the caller does as soon as it has forgotten.
  std::function<void(InodeNumber)> behind_forget;
};

class MappedFile : public testing::Test {
 protected:
  using Kind = DataMapping::Kind;
  static constexpr std::uint64_t kBlock = 4096;

  void mount(const std::string& options = "-t ext4 -b 4096", const std::string& size = "64M") {
    volume_ = std::make_unique<TestVolume>(options, size);
    volume_->wrap_device = [](TestVolume::Backend below) {
      return std::make_unique<cache::DirectBackend>(std::move(below));
    };
    mount_again();
  }
  void mount_again() {
    volume_->mount({.clock = [this] { return now_; }});
    begin();
  }
  // Some seconds pass, and what has changed is written back.
  void rounds(int count) {
    for (int i = 0; i < count; ++i) {
      now_ += std::chrono::seconds(5);
      ASSERT_TRUE(volume_->fs().write_back());
    }
  }
  void begin() {
    ASSERT_NE(volume_->fs().mappings(), nullptr);
    cache_.kept.clear();
    cache_.kept_of.clear();
    service().set_mapping_cache(cache_);
    image_ = UniqueFd(::open(volume_->image().c_str(), O_RDWR | O_CLOEXEC));
  }
  MappingService& service() { return *volume_->fs().mappings(); }

  Result<DataMapping> ask(std::uint64_t offset, std::uint64_t length, MappingPurpose purpose) {
    ++asked_;
    return service().map(file_, {.range = {.offset = offset, .length = length}, .purpose = purpose});
  }
  // Of a whole number of blocks at the end of the file, or directly, in as many mappings as it takes.
  void write(std::uint64_t offset, std::string_view bytes,
             MappingPurpose purpose = MappingPurpose::kDirectWrite) {
    bool unwritten = false;
    for (std::size_t done = 0; done < bytes.size();) {
      const auto mapping = ask(offset + done, bytes.size() - done, purpose);
      ASSERT_TRUE(mapping) << mapping.error().message();
      ASSERT_TRUE(mapping->kind == Kind::kWritten || mapping->kind == Kind::kUnwritten);
      unwritten = unwritten || mapping->kind == Kind::kUnwritten;
      const std::uint64_t inside = offset + done - mapping->offset;
      const auto part = std::min<std::uint64_t>(bytes.size() - done, mapping->length - inside);
      put(mapping->device_offset + inside, bytes.substr(done, part));
      if (mapping->kind == Kind::kUnwritten) clear_edges(*mapping, inside, part);
      done += part;
    }
    const auto way = purpose == MappingPurpose::kDirectWrite ? CompletedWrite::Way::kDirect
                                                             : CompletedWrite::Way::kWriteBack;
    const auto size = service().complete_write(
        file_,
        {.range = {.offset = offset, .length = bytes.size()},
         .extents = unwritten ? CompletedWrite::Extents::kUnwritten : CompletedWrite::Extents::kWritten,
         .way = way});
    ASSERT_TRUE(size) << size.error().message();
    EXPECT_GE(*size, offset + bytes.size());
  }
  void put(std::uint64_t device_offset, std::string_view bytes) {
    ASSERT_EQ(::pwrite(image_.get(), bytes.data(), bytes.size(), static_cast<off_t>(device_offset)),
              static_cast<ssize_t>(bytes.size()));
  }
  // Of a block that was not shown before the kernel writes zeros around what is written.
  void clear_edges(const DataMapping& mapping, std::uint64_t inside, std::uint64_t length) {
    const std::uint64_t head = inside % kBlock;
    const std::uint64_t tail = (kBlock - (inside + length) % kBlock) % kBlock;
    put(mapping.device_offset + inside - head, std::string(head, '\0'));
    put(mapping.device_offset + inside + length, std::string(tail, '\0'));
  }
  Result<std::uint64_t> completed(std::uint64_t offset, std::uint64_t length, bool unwritten,
                                  std::optional<Errno> error = std::nullopt) {
    return service().complete_write(file_, {.range = {.offset = offset, .length = length},
                                            .extents = unwritten ? CompletedWrite::Extents::kUnwritten
                                                                 : CompletedWrite::Extents::kWritten,
                                            .error = error});
  }
  void complete(std::uint64_t offset, std::uint64_t length, bool unwritten) {
    const auto size = completed(offset, length, unwritten);
    ASSERT_TRUE(size) << size.error().message();
    EXPECT_GE(*size, offset + length);
  }
  Result<void> change_range(RangeChange change, ByteRange range, EndOfFile end_of_file = EndOfFile::kKeep) {
    return volume_->fs().change_range(file_, change, range, end_of_file, AttributeChanges::Privileges::kKeep);
  }
  // Of another file, to the last block that its owner can have.
  void fill_volume(Caller owner = {}) {
    const InodeNumber file = std::exchange(file_, volume_->make_file(kRootInode, "filler"));
    ASSERT_TRUE(volume_->fs().set_attributes(file_, {.uid = owner.uid, .gid = owner.gid}));
    Result<DataMapping> given = fail(EIO);
    for (std::uint64_t at = 0; (given = ask(at, 1 << 20, MappingPurpose::kBufferedWrite));)
      at = given->offset + given->length;
    EXPECT_EQ(given.error(), Errno(ENOSPC));
    file_ = file;
  }
  Result<void> sync() { return volume_->fs().sync_inode(file_, FileSystem::SyncWhat::kAll); }
  std::uint64_t size() { return volume_->fs().attributes(file_)->size; }
  // That it has, whoever asked for them.
  std::uint64_t mapped() {
    std::uint64_t bytes = 0;
    for (std::uint64_t at = 0; at < std::uint64_t{1} << 32;) {
      const auto mapping =
          service().map(file_, {.range = {.offset = at, .length = 1}, .purpose = MappingPurpose::kReport});
      if (!mapping) return 0;
      if (mapping->has_blocks()) bytes += mapping->length;
      at = mapping->offset + mapping->length;
    }
    return bytes / kBlock;
  }
  // That callers see.
  std::uint64_t blocks() { return volume_->fs().attributes(file_)->sectors / (kBlock / 512); }
  std::string content() { return volume_->read(file_, 0, size()); }
  void resize(std::uint64_t size) { ASSERT_TRUE(volume_->fs().set_attributes(file_, {.size = size})); }

  std::unique_ptr<TestVolume> volume_;
  KeptMappings cache_;
  UniqueFd image_;
  InodeNumber file_ = 0;
  unsigned asked_ = 0;
  std::chrono::steady_clock::time_point now_{};
};

}  // namespace fuse4fs::ext4
