// SPDX-License-Identifier: GPL-2.0-or-later
// A mount as a kernel with fuse-iomap has it: one connection to a server, the names and inodes that it knows,
// and the device that it is told things through.
//
// Any thread, but for mount() first and unmount() last. The server's end of the socket is served by somebody
// else, who is given this as its KernelDevice.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "server/fuse/kernel_device.h"
#include "tests/iomap/core.h"
#include "tests/iomap/file.h"

namespace fuse4fs::iomap_model {

struct KernelOptions {
  Quirks quirks{};
  std::size_t folio_size = 4096;  // a power of two
  std::size_t completions_at_once = 1;
  std::uint32_t minor = iomap_abi::kProtocolMinor;
  std::uint64_t init_flags = iomap_abi::kInitIomap;  // beside those that every kernel has
  std::uint32_t cache_max_bytes = 262144;            // of mappings, a fork
  BlockOwners::Invalidation invalidation = BlockOwners::Invalidation::kBeforeEachFree;
  Core::Watch watch = Core::Watch::kNothing;
  Connection::Tampering tampering{};
  std::shared_ptr<cache::BlockBackend> medium{};  // instead of what the server registers
};

class Kernel final : public fuse::KernelDevice, public VolumeWatch {
 public:
  Kernel(UniqueFd socket, const KernelOptions& options);
  ~Kernel() override;

  // INIT and CONFIG.
  Result<void> mount();
  // SYNCFS and DESTROY. Files are gone then.
  Result<void> unmount();

  // In the root directory.
  Result<std::shared_ptr<File>> create(std::string_view name);
  Result<std::shared_ptr<File>> open(std::string_view name);
  // The inode goes, with its pages and its last handle: nobody uses it any more.
  Result<void> unlink(std::string_view name);
  // open(2) with O_TRUNC, of one that is in memory.
  Result<void> open_truncating(const std::shared_ptr<File>& file);
  // unlink() in two steps: the name goes, and the inode stays while it is open.
  Result<std::shared_ptr<File>> unlink_open(std::string_view name);
  void close_unlinked(const std::shared_ptr<File>& file);
  // Forgets an inode that nobody uses: writes it back, and opens it anew when it is asked for.
  Result<void> evict(const std::shared_ptr<File>& file);

  Result<void> sync_file_system();
  // Waits for those who change something, and holds them back until unfreeze(). Files may be read, synced and
  // evicted meanwhile.
  Result<void> freeze();
  Result<void> unfreeze();

  [[nodiscard]] Core& core() { return core_; }
  [[nodiscard]] Breaches& breaches() { return core_.breaches; }
  [[nodiscard]] UpcallCounts counts() const { return core_.connection.counts(); }
  // The first device; null before CONFIG.
  [[nodiscard]] Device* device() const { return core_.devices.find(1); }

  // fuse::KernelDevice: of the server's threads.
  Result<void> notify(int device_fd, std::int32_t code, std::span<const std::byte> what) override;
  std::uint64_t iomap_support(int device_fd) override;
  Result<std::uint32_t> register_block_device(int device_fd, int block_device) override;
  Result<void> never_wait_for_file_systems(int device_fd) override;

  // VolumeWatch.
  void allocated(ByteRange range) override { core_.owners.allocated(range); }
  void freed(ByteRange range) override { core_.owners.freed(range); }
  std::uint64_t flush_begins() override;
  void flush_ended(std::uint64_t began) override;

 private:
  Result<std::shared_ptr<File>> instantiate(std::string_view name, const fuse_entry_out& entry);
  Result<void> configure();
  void forget(const std::shared_ptr<File>& file, std::uint64_t lookups);
  [[nodiscard]] std::shared_ptr<File> find(std::uint64_t node);
  [[nodiscard]] bool is_cached(std::uint64_t node, std::uint64_t offset, std::uint64_t address);
  Result<void> invalidate_device(const iomap_abi::DeviceInvalidateOut& what);

  const KernelOptions options_;
  // Shared: who uses inodes without one of their handles; exclusively: one goes. Before all other locks.
  std::shared_mutex going_;
  std::mutex mutex_;
  struct Known {
    std::shared_ptr<File> file;
    std::uint64_t lookups = 0;
  };
  // Guarded by mutex_.
  std::map<std::uint64_t, Known> files_;  // by node
  struct Name {
    std::uint64_t node = 0;
    std::chrono::steady_clock::time_point until;  // then it is looked up again
  };
  std::map<std::string, Name> names_;  // of files_
  // Of inodes that exist, also of those that are not in memory.
  std::map<std::uint64_t, std::shared_ptr<FileLedger>> ledgers_;
  // ATOMIC_O_TRUNC was agreed to. Set by mount().
  bool truncates_in_open_ = false;
  enum class Iomap { kOff, kConnectionOnly, kOn } iomap_ = Iomap::kOff;  // set by mount()
  Core core_;                                                            // last: its thread ends first
};

}  // namespace fuse4fs::iomap_model
