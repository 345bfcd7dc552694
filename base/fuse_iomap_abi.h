// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel's fuse-iomap interface (public patch series v7, protocol minor 99): every number and struct of
// it.
//
// No released kernel has it, and the numbers may change when it is merged: they are here and nowhere else.
// What the running kernel offers is probed (kIomapSupport, the flags of INIT), never assumed. Integers are in
// host byte order; offsets and lengths are bytes unless a field says otherwise. Names are the series' own,
// without its prefixes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fuse4fs::iomap_abi {

// ---- negotiation ----
inline constexpr std::uint32_t kProtocolMinor = 99;  // an INIT reply below it gives no inode iomap
inline constexpr std::uint64_t kInitIomap = std::uint64_t{1} << 43;

// ---- opcodes ----
enum Opcode : std::uint32_t {
  kFreeze = 4089,
  kUnfreeze = 4090,
  kShutdown = 4091,
  kConfig = 4092,
  kIoend = 4093,
  kBegin = 4094,
  kEnd = 4095,
};

// ---- notifications ----
enum Notification : std::int32_t {
  kDeviceInvalidate = 99,
  kUpsertMappings = 100,
  kInvalidateMappings = 101,
};

// ---- ioctls of /dev/fuse ----
// Fills a Support. Works before the mount, and never for lack of permission fails.
inline constexpr unsigned long kIoctlSupport = 0x8010e563;
// Argument: pointer to u32, 1 or 0: this thread's allocations do not wait for file systems. Only once
// mounted: kernels of v7 fall over a descriptor that is not bound.
inline constexpr unsigned long kIoctlSetNoFs = 0x4004e564;
// No argument, before the mount, by a process with CAP_SYS_RAWIO: the mount may ask for iomap.
inline constexpr unsigned long kIoctlAddIomap = 0xe565;
// A BackingInfo: the block size of a registered device that the server opened with O_EXCL.
inline constexpr unsigned long kIoctlSetBlockSize = 0x4008e566;
// A BackingMap (protocol 7.40): registers a block device, answers its id. Once INIT is answered.
inline constexpr unsigned long kIoctlBackingOpen = 0x4010e501;

struct Support {
  std::uint64_t flags;
  std::uint64_t padding;
};
inline constexpr std::uint64_t kSupportFileIo = 1 << 0;
inline constexpr std::uint64_t kSupportAtomic = 1 << 1;

struct BackingInfo {
  std::uint32_t backing_id;
  std::uint32_t block_size;
};
struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
inline constexpr std::uint32_t kBackingIomap = 1;  // BackingMap::flags

// ---- mappings ----
enum MappingType : std::uint16_t {
  kHole = 0,
  kDelalloc = 1,
  kMapped = 2,
  kUnwritten = 3,
  kInline = 4,
  kNoCache = 253,        // upsert only: leave this fork alone
  kRetryCache = 254,     // the read record of a BEGIN reply only: look into the cache again
  kPureOverwrite = 255,  // a write record only: where the read record says
};
enum MappingFlag : std::uint16_t {
  kNew = 0x1,
  kDirty = 0x2,
  kShared = 0x4,
  kMerged = 0x8,
  kBoundary = 0x10,
  kAnonWrite = 0x20,
  kAtomicBio = 0x40,
  kWantEnd = 0x80,
  kServersFlags = 0xff,  // all that a server may set
  kSizeChanged = 0x100,  // in END
  kStale = 0x200,        // in END
};
enum OperationFlag : std::uint32_t {
  kOpWrite = 0x1,
  kOpZero = 0x2,
  kOpReport = 0x4,
  kOpFault = 0x8,
  kOpDirect = 0x10,
  kOpNoWait = 0x20,
  kOpOverwriteOnly = 0x40,
  kOpUnshare = 0x80,
  kOpDax = 0x100,
  kOpAtomic = 0x200,
  kOpDontCache = 0x400,
  kOpSwapFile = 1U << 30,
  kOpWriteback = 1U << 31,
};
inline constexpr std::uint32_t kFileWriteOps = kOpWrite | kOpZero | kOpUnshare | kOpWriteback;
enum IoendFlag : std::uint32_t {
  kIoendShared = 0x1,
  kIoendUnwritten = 0x2,
  kIoendBoundary = 0x4,
  kIoendDirect = 0x8,
  kIoendAppend = 0x10,
  kIoendWriteback = 0x20,
  kIoendSwapOff = 0x40,
};
inline constexpr std::uint64_t kNullAddress = ~std::uint64_t{0};
inline constexpr std::uint64_t kToEndOfFile = ~std::uint64_t{0};  // Range::length, of an invalidation
inline constexpr std::uint32_t kNullDevice = 0;

struct Mapping {  // fuse_iomap_io
  std::uint64_t offset;
  std::uint64_t length;
  std::uint64_t address;  // on the device
  std::uint16_t type;     // MappingType
  std::uint16_t flags;    // MappingFlag
  std::uint32_t device;   // id of a registered device
};
struct Range {
  std::uint64_t offset;
  std::uint64_t length;
};

// ---- requests and their replies ----
struct BeginIn {
  std::uint32_t operation;  // OperationFlag
  std::uint32_t reserved;
  std::uint64_t inode;  // fuse_attr.ino
  std::uint64_t position;
  std::uint64_t count;
};
struct BeginOut {
  Mapping read;
  Mapping write;
};
struct EndIn {
  std::uint32_t operation;
  std::uint32_t reserved;
  std::uint64_t inode;
  std::uint64_t position;
  std::uint64_t count;
  std::int64_t written;
  Mapping mapping;
};
struct IoendIn {
  std::uint32_t flags;  // IoendFlag
  std::int32_t error;   // 0 or a negative errno
  std::uint64_t inode;
  std::uint64_t position;
  std::uint64_t new_address;  // kernels of v7 give a sector of 512 bytes
  std::uint64_t written;
  std::uint32_t device;
  std::uint32_t padding;
};
struct IoendOut {
  std::uint64_t new_size;  // on the disk
};
struct ConfigIn {
  std::uint64_t flags;  // the ConfigFlag that the kernel knows
  std::int64_t max_bytes;
  std::uint32_t cache_max_bytes;
  std::uint32_t zero;
  std::uint64_t padding[5];
};
enum ConfigFlag : std::uint64_t {
  kConfigId = 0x1,
  kConfigUuid = 0x2,
  kConfigBlockSize = 0x4,
  kConfigMaxLinks = 0x8,
  kConfigTime = 0x10,
  kConfigMaxBytes = 0x20,
  kConfigCacheMaxBytes = 0x40,
};
struct ConfigOut {
  std::uint64_t flags;
  char id[32];  // how the kernel's messages call the mount
  std::uint8_t uuid[16];
  std::uint8_t uuid_length;
  std::uint8_t padding[3];
  std::uint32_t block_size;
  std::uint32_t max_links;
  std::uint32_t time_granularity;  // ns
  std::int64_t time_min;           // s
  std::int64_t time_max;           // s
  std::int64_t max_bytes;
  std::uint32_t cache_max_bytes;  // 0: leave it
  std::uint32_t tail_padding;
};
struct FreezeIn {
  std::uint64_t unlinked;  // inodes that are open and have no name
};
struct ShutdownIn {
  std::uint64_t flags;
};

// ---- what the server tells unasked ----
struct DeviceInvalidateOut {
  std::uint32_t device;
  std::uint32_t reserved;
  Range range;
};
struct InvalidateMappingsOut {
  std::uint64_t node;
  std::uint64_t inode;
  Range read;
  Range write;
};
struct UpsertMappingsOut {
  std::uint64_t node;
  std::uint64_t inode;
  Mapping read;
  Mapping write;
};

// ---- fuse_attr.flags ----
enum AttributeFlag : std::uint32_t {
  kExclusive = 0x4,  // nobody else changes this inode: the kernel keeps its ACLs, mode and flags itself
  kIomap = 0x8,      // only with kExclusive
  kAtomic = 0x10,
  kSync = 0x20,
  kImmutable = 0x40,
  kAppend = 0x80,
};

static_assert(sizeof(Support) == 16 && sizeof(BackingInfo) == 8 && sizeof(BackingMap) == 16);
static_assert(offsetof(BackingMap, flags) == 4 && offsetof(BackingMap, padding) == 8);
static_assert(sizeof(Mapping) == 32 && offsetof(Mapping, length) == 8 && offsetof(Mapping, address) == 16 &&
              offsetof(Mapping, type) == 24 && offsetof(Mapping, flags) == 26 &&
              offsetof(Mapping, device) == 28);
static_assert(sizeof(BeginIn) == 32 && offsetof(BeginIn, inode) == 8 && offsetof(BeginIn, position) == 16 &&
              offsetof(BeginIn, count) == 24);
static_assert(sizeof(BeginOut) == 64 && offsetof(BeginOut, write) == 32);
static_assert(sizeof(EndIn) == 72 && offsetof(EndIn, position) == 16 && offsetof(EndIn, written) == 32 &&
              offsetof(EndIn, mapping) == 40);
static_assert(sizeof(IoendIn) == 48 && offsetof(IoendIn, error) == 4 && offsetof(IoendIn, position) == 16 &&
              offsetof(IoendIn, new_address) == 24 && offsetof(IoendIn, written) == 32 &&
              offsetof(IoendIn, device) == 40);
static_assert(sizeof(IoendOut) == 8);
static_assert(sizeof(ConfigIn) == 64 && offsetof(ConfigIn, cache_max_bytes) == 16 &&
              offsetof(ConfigIn, padding) == 24);
static_assert(sizeof(ConfigOut) == 104 && offsetof(ConfigOut, id) == 8 && offsetof(ConfigOut, uuid) == 40 &&
              offsetof(ConfigOut, uuid_length) == 56 && offsetof(ConfigOut, block_size) == 60 &&
              offsetof(ConfigOut, max_links) == 64 && offsetof(ConfigOut, time_granularity) == 68 &&
              offsetof(ConfigOut, time_min) == 72 && offsetof(ConfigOut, time_max) == 80 &&
              offsetof(ConfigOut, max_bytes) == 88 && offsetof(ConfigOut, cache_max_bytes) == 96);
static_assert(sizeof(FreezeIn) == 8 && sizeof(ShutdownIn) == 8);
static_assert(sizeof(DeviceInvalidateOut) == 24 && offsetof(DeviceInvalidateOut, range) == 8);
static_assert(sizeof(InvalidateMappingsOut) == 48 && offsetof(InvalidateMappingsOut, read) == 16 &&
              offsetof(InvalidateMappingsOut, write) == 32);
static_assert(sizeof(UpsertMappingsOut) == 80 && offsetof(UpsertMappingsOut, read) == 16 &&
              offsetof(UpsertMappingsOut, write) == 48);

}  // namespace fuse4fs::iomap_abi
