// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/kernel.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <shared_mutex>

namespace fuse4fs::iomap_model {
namespace {

constexpr std::uint64_t kRoot = FUSE_ROOT_ID;
constexpr std::uint32_t kLeastCache = 256, kMostCache = 2 << 20;  // bytes

template <class Struct>
bool take(std::span<const std::byte> bytes, Struct& into) {
  if (bytes.size() != sizeof into) return false;
  std::memcpy(&into, bytes.data(), sizeof into);
  return true;
}

std::string with_nul(std::string_view name) { return std::string(name) + '\0'; }

}  // namespace

Kernel::Kernel(UniqueFd socket, const KernelOptions& options)
    : options_(options),
      core_(
          options.quirks, options.folio_size, options.completions_at_once, options.invalidation,
          [this](auto node, auto offset, auto address) { return is_cached(node, offset, address); },
          options.watch, std::move(socket), options.tampering) {
  core_.limits.cache_max_bytes = options.cache_max_bytes;
  core_.devices.lie_on(options.medium);
}

Kernel::~Kernel() = default;

Result<void> Kernel::mount() {
  fuse_init_in in{};
  in.major = FUSE_KERNEL_VERSION;
  in.minor = options_.minor;
  in.max_readahead = 128 << 10;
  const std::uint64_t flags = options_.init_flags | FUSE_INIT_EXT | FUSE_ASYNC_READ | FUSE_BIG_WRITES |
                              FUSE_DO_READDIRPLUS | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
                              FUSE_NO_OPEN_SUPPORT | FUSE_ATOMIC_O_TRUNC | FUSE_WRITEBACK_CACHE |
                              FUSE_HANDLE_KILLPRIV_V2;
  in.flags = static_cast<std::uint32_t>(flags);
  in.flags2 = static_cast<std::uint32_t>(flags >> 32);
  ASSIGN_OR_RETURN(const auto out, core_.connection.ask<fuse_init_out>(FUSE_INIT, 0, in));
  std::uint64_t agreed = out.flags;
  if ((out.flags & FUSE_INIT_EXT) != 0) agreed |= std::uint64_t{out.flags2} << 32;
  truncates_in_open_ = (agreed & FUSE_ATOMIC_O_TRUNC) != 0;
  if ((agreed & options_.init_flags & abi::kInitIomap) == 0) return {};
  iomap_ = out.minor >= abi::kProtocolMinor ? Iomap::kOn : Iomap::kConnectionOnly;
  // The connection is one for iomap, and no inode ever will be.
  if (iomap_ == Iomap::kConnectionOnly)
    core_.breaches.add(Rule::kInitMinorTooLow, fmt::format("{}", out.minor));
  // Kernels of v7 fall when a file is opened to write.
  if ((agreed & FUSE_WRITEBACK_CACHE) != 0) core_.breaches.add(Rule::kInitWritebackCache, "beside iomap");
  return configure();
}

Result<void> Kernel::configure() {
  abi::ConfigIn in{};
  in.flags = abi::kConfigId | abi::kConfigUuid | abi::kConfigBlockSize | abi::kConfigMaxLinks |
             abi::kConfigTime | abi::kConfigMaxBytes | abi::kConfigCacheMaxBytes;
  in.max_bytes = std::numeric_limits<std::int64_t>::max();
  in.cache_max_bytes = options_.cache_max_bytes;
  const auto bytes = core_.connection.call(abi::kConfig, 0, std::as_bytes(std::span(&in, 1)));
  if (!bytes && bytes.error() == Errno(ENOSYS)) return {};
  if (!bytes) return fail(bytes.error());
  const auto refuse = [&](std::string_view why) {
    core_.breaches.add(Rule::kConfigRefused, std::string(why));
    return fail(EINVAL);
  };
  abi::ConfigOut out{};
  if (bytes->size() > sizeof out) return refuse("longer than its struct");
  std::memcpy(&out, bytes->data(), bytes->size());
  if ((out.flags & ~in.flags) != 0) return refuse("unknown flags");
  if (out.uuid_length > sizeof out.uuid) return refuse("length of the UUID");
  if (std::ranges::any_of(out.padding, [](auto byte) { return byte != 0; })) return refuse("padding");
  if ((out.flags & abi::kConfigBlockSize) != 0) {
    // Unchecked by the kernel, and what every alignment is judged by.
    if (!std::has_single_bit(out.block_size)) return refuse("block size");
    core_.limits.block_size = out.block_size;
  }
  if ((out.flags & abi::kConfigMaxBytes) != 0)
    core_.limits.largest_file = static_cast<std::uint64_t>(out.max_bytes);
  if ((out.flags & abi::kConfigCacheMaxBytes) != 0 && out.cache_max_bytes != 0)
    core_.limits.cache_max_bytes = std::clamp(out.cache_max_bytes, kLeastCache, kMostCache);
  core_.owners.set_block_size(core_.limits.block_size);
  return {};
}

Result<void> Kernel::sync_file_system() {
  const std::shared_lock none_goes(going_);
  std::vector<std::shared_ptr<File>> files;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [node, known] : files_) files.push_back(known.file);
  }
  for (const auto& file : files) {
    RETURN_IF_ERROR(file->write_back());
    RETURN_IF_ERROR(file->flush_times());
  }
  return core_.connection.tell(FUSE_SYNCFS, kRoot, fuse_syncfs_in{});
}

Result<void> Kernel::unmount() {
  while (true) {
    std::shared_ptr<File> file;
    {
      const std::lock_guard lock(mutex_);
      if (files_.empty()) break;
      file = files_.begin()->second.file;
    }
    RETURN_IF_ERROR(evict(file));
  }
  // Whatever comes of it, the end comes as well.
  const auto synced = core_.connection.tell(FUSE_SYNCFS, kRoot, fuse_syncfs_in{});
  ASSIGN_OR_RETURN(const auto answer, core_.connection.call(FUSE_DESTROY, 0));
  (void)answer;
  return synced;
}

Result<void> Kernel::freeze() {
  core_.gate.close();
  auto frozen = sync_file_system();
  if (frozen) frozen = core_.connection.tell(abi::kFreeze, kRoot, abi::FreezeIn{});
  if (frozen) return {};
  core_.gate.open();
  return fail(frozen.error() == Errno(ENOSYS) ? Errno(EOPNOTSUPP) : frozen.error());
}

Result<void> Kernel::unfreeze() {
  const auto thawed = core_.connection.call(abi::kUnfreeze, kRoot);
  if (!thawed && thawed.error() != Errno(ENOSYS)) return fail(thawed.error());
  core_.gate.open();
  return {};
}

Result<std::shared_ptr<File>> Kernel::instantiate(std::string_view name, const fuse_entry_out& entry) {
  if (entry.nodeid == 0) return fail(ENOENT);
  const bool regular = S_ISREG(entry.attr.mode);
  const std::uint32_t both = abi::kExclusive | abi::kIomap;
  if (regular && iomap_ == Iomap::kOn && (entry.attr.flags & both) != both)
    core_.breaches.add(Rule::kInodeWithoutIomap,
                       fmt::format("node {} flags {:#x}", entry.nodeid, entry.attr.flags));
  // Only what iomap does is modelled.
  if (!regular || iomap_ != Iomap::kOn || (entry.attr.flags & both) != both) return fail(EOPNOTSUPP);
  const std::lock_guard lock(mutex_);
  Known& known = files_[entry.nodeid];
  auto& ledger = ledgers_[entry.nodeid];
  if (!ledger) ledger = std::make_shared<FileLedger>(entry.nodeid, core_.limits.block_size);
  if (!known.file) known.file = std::make_shared<File>(core_, entry, ledger);
  ++known.lookups;
  names_[std::string(name)] = {.node = entry.nodeid,
                               .until = valid_until(entry.entry_valid, entry.entry_valid_nsec)};
  return known.file;
}

Result<std::shared_ptr<File>> Kernel::create(std::string_view name) {
  const FreezeGate::Writer writer(core_.gate);
  fuse_mknod_in in{};
  in.mode = S_IFREG | 0644;
  ASSIGN_OR_RETURN(const auto entry,
                   core_.connection.ask<fuse_entry_out>(FUSE_MKNOD, kRoot, in, with_nul(name)));
  return instantiate(name, entry);
}

Result<std::shared_ptr<File>> Kernel::open(std::string_view name) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = names_.find(std::string(name));
    if (known != names_.end() && std::chrono::steady_clock::now() < known->second.until)
      return files_.at(known->second.node).file;
  }
  const std::string wire = with_nul(name);
  ASSIGN_OR_RETURN(const auto bytes,
                   core_.connection.call(FUSE_LOOKUP, kRoot, std::as_bytes(std::span(wire))));
  fuse_entry_out entry{};
  if (!take(bytes, entry)) return fail(EIO);
  return instantiate(name, entry);
}

void Kernel::forget(const std::shared_ptr<File>& file, std::uint64_t lookups) {
  core_.owners.forget(file->node());
  core_.connection.post(FUSE_FORGET, file->node(), fuse_forget_in{.nlookup = lookups});
}

Result<void> Kernel::open_truncating(const std::shared_ptr<File>& file) {
  return truncates_in_open_ ? file->open_truncating() : file->truncate(0);
}

Result<std::shared_ptr<File>> Kernel::unlink_open(std::string_view name) {
  const FreezeGate::Writer writer(core_.gate);
  // A name is looked up before it goes.
  ASSIGN_OR_RETURN(auto file, open(name));
  const std::string wire = with_nul(name);
  ASSIGN_OR_RETURN(const auto answer,
                   core_.connection.call(FUSE_UNLINK, kRoot, std::as_bytes(std::span(wire))));
  (void)answer;
  const std::lock_guard lock(mutex_);
  names_.erase(std::string(name));
  return file;
}

void Kernel::close_unlinked(const std::shared_ptr<File>& file) {
  const std::unique_lock alone(going_);
  file->drop_pages();
  std::uint64_t lookups = 0;
  {
    const std::lock_guard lock(mutex_);
    lookups = files_.at(file->node()).lookups;
    files_.erase(file->node());
    ledgers_.erase(file->node());
  }
  forget(file, lookups);
}

Result<void> Kernel::unlink(std::string_view name) {
  ASSIGN_OR_RETURN(const auto file, unlink_open(name));
  close_unlinked(file);
  return {};
}

Result<void> Kernel::evict(const std::shared_ptr<File>& file) {
  const std::unique_lock alone(going_);
  (void)file->write_back();
  RETURN_IF_ERROR(file->flush_times());
  file->drop_pages();
  std::uint64_t lookups = 0;
  {
    const std::lock_guard lock(mutex_);
    lookups = files_.at(file->node()).lookups;
    files_.erase(file->node());
    std::erase_if(names_, [&](const auto& name) { return name.second.node == file->node(); });
  }
  forget(file, lookups);
  return {};
}

std::shared_ptr<File> Kernel::find(std::uint64_t node) {
  const std::lock_guard lock(mutex_);
  const auto known = files_.find(node);
  return known == files_.end() ? nullptr : known->second.file;
}

bool Kernel::is_cached(std::uint64_t node, std::uint64_t offset, std::uint64_t address) {
  const auto file = find(node);
  if (!file) return false;
  const auto hit = file->mapper().cache().find(offset, 1);
  return hit && hit->read.address == address;
}

Result<void> Kernel::notify(int, std::int32_t code, std::span<const std::byte> what) {
  const auto wrong_size = [&] {
    core_.breaches.add(Rule::kNotificationSize,
                       fmt::format("{} bytes of notification {}", what.size(), code));
    return fail(EINVAL);
  };
  switch (code) {
    case abi::kDeviceInvalidate: {
      abi::DeviceInvalidateOut out{};
      if (!take(what, out)) return wrong_size();
      return invalidate_device(out);
    }
    case abi::kUpsertMappings: {
      abi::UpsertMappingsOut out{};
      if (!take(what, out)) return wrong_size();
      const auto file = find(out.node);
      return file ? file->mapper().upsert(out) : Result<void>(fail(ESTALE));
    }
    case abi::kInvalidateMappings: {
      abi::InvalidateMappingsOut out{};
      if (!take(what, out)) return wrong_size();
      const auto file = find(out.node);
      return file ? file->mapper().invalidate(out) : Result<void>(fail(ESTALE));
    }
    default:
      return {};  // of older protocols: nothing that is modelled
  }
}

Result<void> Kernel::invalidate_device(const abi::DeviceInvalidateOut& what) {
  const auto refuse = [&](int error) {
    core_.breaches.add(Rule::kDeviceInvalidationRefused,
                       fmt::format("{}+{} of device {}", what.range.offset, what.range.length, what.device));
    return fail(error);
  };
  if (what.device == abi::kNullDevice || what.reserved != 0) return refuse(EINVAL);
  const Device* const device = core_.devices.find(what.device);
  if (!device) return refuse(ENODEV);
  if (what.range.offset + what.range.length < what.range.offset || what.range.offset >= device->size())
    return refuse(EINVAL);
  return {};  // the model keeps no page of the device
}

std::uint64_t Kernel::iomap_support(int) {
  return (options_.init_flags & abi::kInitIomap) != 0 ? abi::kSupportFileIo | abi::kSupportAtomic : 0;
}

Result<std::uint32_t> Kernel::register_block_device(int, int block_device) {
  if (iomap_ == Iomap::kOff) return fail(EPERM);
  return core_.devices.add(block_device);
}

Result<void> Kernel::never_wait_for_file_systems(int) { return {}; }

std::uint64_t Kernel::flush_begins() {
  const Device* const first = device();
  return first ? first->flush_begins() : 0;
}

void Kernel::flush_ended(std::uint64_t began) {
  if (Device* const first = device()) first->flush_ended(began);
}

}  // namespace fuse4fs::iomap_model
