// SPDX-License-Identifier: GPL-2.0-or-later
#include "image_journal.h"

extern "C" {
#include <et/com_err.h>
}
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "server/journal/external_journal.h"

namespace fuse4fs::journal::tools {
namespace {

class MappedLog final : public LogSource {
 public:
  MappedLog(const cache::BlockDevice& device, std::uint32_t block_size, const std::vector<std::uint64_t>& map)
      : device_(device), block_size_(block_size), map_(map) {}

  [[nodiscard]] std::uint32_t block_size() const override { return block_size_; }
  [[nodiscard]] std::uint32_t blocks() const override { return static_cast<std::uint32_t>(map_.size()); }
  [[nodiscard]] std::uint32_t superblock() const override { return 0; }
  Result<void> read(std::uint32_t first, std::span<std::byte> into) override {
    if (into.size() % block_size_ != 0 || first > map_.size() ||
        into.size() / block_size_ > map_.size() - first)
      return fail(EINVAL);
    for (; !into.empty(); ++first, into = into.subspan(block_size_))
      RETURN_IF_ERROR(device_.read(map_[first] * block_size_, into.first(block_size_)));
    return {};
  }

 private:
  const cache::BlockDevice& device_;
  const std::uint32_t block_size_;
  const std::vector<std::uint64_t>& map_;
};

Outcome<std::unique_ptr<cache::BlockDevice>> open_device(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(Errno::last(), fmt::format("cannot open {}", path));
  ASSIGN_OR_RETURN(auto device,
                   cache::BlockDevice::adopt(std::move(fd), UniqueFd(), cache::Access::kReadOnly));
  return std::make_unique<cache::BlockDevice>(std::move(device));
}

struct CloseVolume {
  void operator()(ext2_filsys volume) const { ext2fs_free(volume); }
};
using Volume = std::unique_ptr<struct_ext2_filsys, CloseVolume>;

std::unexpected<Failure> from_library(errcode_t code, const std::string& what) {
  return fail(Errno(EIO), fmt::format("{}: {}", what, error_message(code)));
}

Outcome<std::vector<std::uint64_t>> map_inode(ext2_filsys volume, ext2_ino_t number) {
  ext2_inode inode{};
  if (const auto code = ext2fs_read_inode(volume, number, &inode); code != 0)
    return from_library(code, "the journal's inode cannot be read");
  const std::uint64_t blocks = EXT2_I_SIZE(&inode) / volume->blocksize;
  if (blocks == 0 || blocks > UINT32_MAX) return fail(kCorrupted, "the journal's inode has no possible size");
  std::vector<std::uint64_t> map;
  for (std::uint64_t index = 0; index < blocks; ++index) {
    blk64_t home = 0;
    if (const auto code = ext2fs_bmap2(volume, number, &inode, nullptr, 0, index, nullptr, &home); code != 0)
      return from_library(code, fmt::format("block {} of the journal's inode cannot be found", index));
    if (home == 0) return fail(kCorrupted, fmt::format("the journal's inode has a hole at block {}", index));
    map.push_back(home);
  }
  return map;
}

Uuid uuid_of(const __u8* bytes) {
  Uuid uuid;
  std::copy_n(bytes, uuid.size(), uuid.begin());
  return uuid;
}

}  // namespace

Outcome<std::unique_ptr<ImageJournal>> ImageJournal::open(const std::string& path,
                                                          const std::string& journal_path) {
  add_error_table(&et_ext2_error_table);
  ext2_filsys opened = nullptr;
  constexpr int kFlags = EXT2_FLAG_64BITS | EXT2_FLAG_IGNORE_CSUM_ERRORS | EXT2_FLAG_SKIP_MMP;
  if (const auto code = ext2fs_open2(path.c_str(), nullptr, kFlags, 0, 0, unix_io_manager, &opened);
      code != 0)
    return from_library(code, path);
  const Volume volume(opened);

  std::unique_ptr<ImageJournal> journal(new ImageJournal);
  journal->volume_blocks_ = ext2fs_blocks_count(volume->super);
  journal->expectation_ = {.block_size = volume->blocksize,
                           .external = !journal_path.empty(),
                           .volume_uuid = uuid_of(volume->super->s_uuid)};
  ASSIGN_OR_RETURN(journal->device_, open_device(journal_path.empty() ? path : journal_path));
  if (!journal_path.empty()) {
    ASSIGN_OR_RETURN(auto log, ExternalLog::open(*journal->device_, volume->blocksize,
                                                 uuid_of(volume->super->s_journal_uuid)));
    journal->log_ = std::make_unique<ExternalLog>(std::move(log));
    return journal;
  }
  if (volume->super->s_journal_inum == 0)
    return fail(Errno(ENOENT), fmt::format("{} has no internal journal", path));
  ASSIGN_OR_RETURN(journal->map_, map_inode(volume.get(), volume->super->s_journal_inum));
  journal->sorted_ = journal->map_;
  std::ranges::sort(journal->sorted_);
  journal->log_ = std::make_unique<MappedLog>(*journal->device_, volume->blocksize, journal->map_);
  return journal;
}

std::uint64_t ImageJournal::offset(std::uint32_t number) const {
  return (map_.empty() ? number : map_[number]) * std::uint64_t{expectation_.block_size};
}

std::optional<std::string> ImageJournal::object(std::uint64_t home, HomeUse use) const {
  if (home >= volume_blocks_) return fmt::format("is outside of the volume ({} blocks)", volume_blocks_);
  if (std::ranges::binary_search(sorted_, home)) return "is a block of the journal";
  if (use == HomeUse::kRevoke && home == (expectation_.block_size == 1024 ? 1 : 0))
    return "is the superblock's";
  return std::nullopt;
}

}  // namespace fuse4fs::journal::tools
