// SPDX-License-Identifier: GPL-2.0-or-later
// The public face of the ext4 engine: one mounted volume, one method per operation of a file system.
//
// Knows nothing of FUSE: a test, a fuzzer or another front end links it as it is. Inodes are named by their
// ext4 number (the root is 2). Permission bits have been checked by the caller (the kernel,
// default_permissions); what ext4 itself enforces (immutable, append-only, name length, link limits,
// read-only) is checked here.
//
// Locking: every method may be called by any thread at any time, but for unmount(), which is called once,
// alone, last. Errors: ENOENT, ENOSPC and the like as the kernel's ext4; EUCLEAN for what cannot be (see
// Events::corruption); EIO from the device; EROFS where nothing may be written.
#pragma once

#include <sys/types.h>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/cache/block_device.h"

namespace fuse4fs::ext4 {

using InodeNumber = std::uint32_t;
inline constexpr InodeNumber kRootInode = 2;
inline constexpr std::size_t kMaxNameLength = 255;  // bytes

// Seconds since 1970 and nanoseconds, as ext4 stores them (epoch bits included: the years 1901 to 2446).
struct Timestamp {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};

struct Attributes {
  InodeNumber inode = 0;
  std::uint32_t generation = 0;  // tells a reused inode number from its former owner
  mode_t mode = 0;               // type and permission bits
  std::uint32_t links = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  dev_t device = 0;           // of device nodes
  std::uint64_t size = 0;     // bytes
  std::uint64_t sectors = 0;  // 512 bytes each, as st_blocks
  Timestamp accessed{}, modified{}, changed{};
  std::optional<Timestamp> created = std::nullopt;  // not in inodes of 128 bytes
  std::uint32_t flags = 0;                          // EXT4_*_FL, as lsattr shows them
};

// Only what is set is changed. `changed` is the new ctime; without it, ctime becomes now.
struct AttributeChanges {
  std::optional<mode_t> permissions = std::nullopt;  // the 07777 bits
  std::optional<uid_t> uid = std::nullopt;
  std::optional<gid_t> gid = std::nullopt;
  std::optional<std::uint64_t> size = std::nullopt;
  std::optional<Timestamp> accessed = std::nullopt, modified = std::nullopt, changed = std::nullopt;
  // Where the times come from decides what immutable and append-only files say to them.
  enum class Times {
    kGiven,       // utimensat(2) with times: neither takes them
    kNow,         // utimensat(2) without, or a truncation's: append-only files take them
    kWrittenBack  // the caller's cache kept them of changes that were allowed: always taken
  };
  Times times = Times::kGiven;
  enum class Privileges { kKeep, kClear };
  // kClear: setuid, setgid (if group-executable) and file capabilities go, as after a write by a non-owner.
  Privileges privileges = Privileges::kKeep;
};

// What a new inode starts with. `mode` includes the type; `umask` counts only where the directory has no
// default ACL.
struct NewInode {
  mode_t mode = 0;
  mode_t umask = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  dev_t device = 0;
};

// Who asks for something.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
};

enum class RenameMode { kReplace, kNoReplace, kExchange };
struct RenameOptions {
  RenameMode mode = RenameMode::kReplace;
  // RENAME_WHITEOUT: what takes the place of the old name, a character device 0:0.
  std::optional<NewInode> whiteout = std::nullopt;
};

// How much an extended attribute that is already there matters.
enum class XattrMode { kCreateOrReplace, kCreate, kReplace };
// SETXATTR of an access ACL by somebody outside of the file's group.
enum class SetgidBit { kKeep, kClear };

// fallocate(2).
enum class RangeChange { kAllocate, kPunchHole, kZero, kCollapse, kInsert };
enum class EndOfFile { kMayMove, kKeep };  // kKeep: FALLOC_FL_KEEP_SIZE
enum class SeekTarget { kData, kHole };

struct ByteRange {
  std::uint64_t offset = 0, length = 0;  // bytes
};

// FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR.
struct InodeFlags {
  std::uint32_t flags = 0;    // FS_*_FL, those that users see
  std::uint32_t project = 0;  // project id
};

enum class ShutdownMode { kFlushFirst, kAtOnce };
// Which reads of a file or directory update its access time.
enum class AccessTimes { kNever, kRelative, kStrict };
// Of one read: kKeep is O_NOATIME, or a read that is only part of a write.
enum class AccessTime { kUpdate, kKeep };

// `next` is handed to read_directory() to go on behind this entry. Cookies stay good while names come and go.
struct DirectoryEntry {
  std::string_view name;
  InodeNumber inode;
  std::uint8_t type;  // DT_* of readdir(3), DT_UNKNOWN on volumes that do not store it
  std::uint64_t next;
};
// Answers whether it took the entry; after a refusal the listing ends and the entry comes first next time.
using DirectorySink = std::function<bool(const DirectoryEntry&)>;

struct VolumeStatistics {
  std::uint32_t block_size = 0;                                     // bytes
  std::uint64_t blocks = 0, free_blocks = 0, available_blocks = 0;  // available: without the root's reserve
  std::uint64_t inodes = 0, free_inodes = 0;
  std::uint64_t id = 0;  // from the volume's UUID, as the kernel's f_fsid
};

enum class ErrorPolicy { kContinue, kRemountReadOnly, kShutDown };

struct MountOptions {
  cache::Access access = cache::Access::kReadWrite;
  // Without it the superblock's own choice counts.
  std::optional<ErrorPolicy> errors = std::nullopt;
  // kReplay: a volume that was not unmounted is made whole first; in memory where access is kReadOnly.
  // kIgnore: noload, norecovery.
  enum class Journal { kReplay, kIgnore };
  Journal journal = Journal::kReplay;
  // The volume's journal where that is a device of its own. With the same access.
  std::shared_ptr<cache::BlockDevice> external_journal = {};
  // What the time is: for the log lines of a long recovery, and for what is given back when nobody used it
  // for a while. Without it: the machine's.
  std::function<std::chrono::steady_clock::time_point()> clock = {};
  // kIgnore: noacl. They are neither shown nor changed, and new files inherit none.
  enum class Acls { kServe, kIgnore };
  Acls acls = Acls::kServe;
  // Who sets mtime and ctime where contents change (write, change_range, copy_range). kCallers: the caller
  // does it by set_attributes(), before or after.
  enum class ContentTimes { kOurs, kCallers };
  ContentTimes content_times = ContentTimes::kOurs;
  // Whether the device is told what was freed, once that is on its medium.
  enum class Discards { kOnRequest, kWhatIsFreed };
  Discards discards = Discards::kOnRequest;
  AccessTimes access_times = AccessTimes::kRelative;
  AccessTimes directory_access_times = AccessTimes::kRelative;
  // Metadata that is kept in memory, at most, in bytes.
  std::size_t cache_memory = std::size_t{64} << 20;
  // How this machine and the device are called to others who might mount the same volume (feature mmp).
  std::string node_name = {}, device_name = {};
  // Waits so long, while it is found out whether somebody else has the volume; false: the mount is given up.
  // Without it the thread just sleeps.
  std::function<bool(std::chrono::seconds)> wait = {};
};

// What an event is about, for logs that keep such things apart. 0: not known, or not about one.
struct EventSubject {
  InodeNumber inode = 0;
  std::uint64_t block = 0;
  int error = 0;  // as errno
};
// kRecovered: what a crash had left unfinished (journal, orphans) has been brought to its end.
enum class Notice { kOther, kReadOnly, kShutDown, kRecovered };

// What the engine tells about itself while it runs. Called from any thread, with locks held: only log.
class Events {
 public:
  virtual ~Events() = default;
  // The volume says something that cannot be. The words name inode and block. Already recorded in the
  // superblock.
  virtual void corruption(std::string_view words, const EventSubject& about) = 0;
  // The device failed. The words name what was read or written.
  virtual void device_error(std::string_view words, const EventSubject& about) = 0;
  // Something a user should know: mounted with errors, turned read-only, …
  virtual void notice(Notice kind, std::string_view words) = 0;

  void corruption(std::string_view words) { corruption(words, {.error = EUCLEAN}); }
  void device_error(std::string_view words) { device_error(words, {.error = EIO}); }
  void notice(std::string_view words) { notice(Notice::kOther, words); }
};

// Of 512 bytes, as Attributes::sectors.
struct SectorCounts {
  std::uint64_t before = 0;
  std::uint64_t after = 0;
};

class MappingService;

class FileSystem {
 public:
  // Reads and judges the volume. A refusal says in words which feature or field is why, and what to do.
  // EBUSY where somebody else has it mounted; finding that out may take minutes (options.wait).
  // Where access is kReadWrite the volume is marked as in use on the device before this returns.
  static Outcome<std::unique_ptr<FileSystem>> mount(cache::BlockDevice device, const MountOptions& options,
                                                    Events& events);
  virtual ~FileSystem() = default;

  [[nodiscard]] virtual std::uint32_t block_size() const = 0;  // bytes
  [[nodiscard]] virtual cache::Access access() const = 0;      // kReadOnly once errors= made it so
  [[nodiscard]] virtual bool has_acls() const = 0;             // MountOptions::acls
  [[nodiscard]] virtual std::string label() const = 0;
  // Of the times that inodes of this volume can hold: 1, or a second where they have 128 bytes.
  [[nodiscard]] virtual std::uint32_t time_granularity() const = 0;  // nanoseconds
  // Where who sets them turns out after the mount. Before the first change.
  virtual void set_content_times(MountOptions::ContentTimes times) = 0;

  // Look-ups are counted: each successful lookup(), look_up_inode(), look_up_handle(), make(),
  // make_symlink(), make_temporary() and link() adds one to its inode, forget() takes them back. An inode
  // without links lives until its count is 0.
  virtual Result<Attributes> lookup(InodeNumber parent, std::string_view name) = 0;
  // The same for an inode whose number read_directory() just gave, without searching the directory again.
  // ENOENT if it is gone by now.
  virtual Result<Attributes> look_up_inode(InodeNumber inode) = 0;
  // The same for a number out of a file handle, which may be anything. ESTALE for what is no file (any more).
  virtual Result<Attributes> look_up_handle(std::uint64_t inode) = 0;
  virtual void forget(InodeNumber inode, std::uint64_t count) = 0;

  virtual Result<Attributes> attributes(InodeNumber inode) = 0;
  virtual Result<Attributes> set_attributes(InodeNumber inode, const AttributeChanges& changes) = 0;

  virtual Result<Attributes> make(InodeNumber parent, std::string_view name, const NewInode& what) = 0;
  virtual Result<Attributes> make_symlink(InodeNumber parent, std::string_view name, std::string_view target,
                                          const NewInode& what) = 0;
  // A regular file without a name (O_TMPFILE); link() may give it one, once. Without one it goes with its
  // last forget().
  virtual Result<Attributes> make_temporary(InodeNumber parent, const NewInode& what) = 0;
  virtual Result<Attributes> link(InodeNumber inode, InodeNumber new_parent, std::string_view new_name) = 0;
  virtual Result<void> unlink(InodeNumber parent, std::string_view name) = 0;
  virtual Result<void> remove_directory(InodeNumber parent, std::string_view name) = 0;
  virtual Result<void> rename(InodeNumber old_parent, std::string_view old_name, InodeNumber new_parent,
                              std::string_view new_name, const RenameOptions& options) = 0;
  virtual Result<std::string> symlink_target(InodeNumber inode) = 0;
  // From the entry behind `cookie` (0: the first), "." and ".." included.
  virtual Result<void> read_directory(InodeNumber inode, std::uint64_t cookie, const DirectorySink& sink,
                                      AccessTime access_time = AccessTime::kUpdate) = 0;

  // Reads up to the end of file; answers the bytes read. Holes read as zeros.
  virtual Result<std::size_t> read(InodeNumber inode, std::uint64_t offset, std::span<std::byte> into,
                                   AccessTime access_time = AccessTime::kUpdate) = 0;
  // Writes all or fails. Allocates, and moves the end of file where it must. Answers what the file owned and
  // owns.
  virtual Result<SectorCounts> write(InodeNumber inode, std::uint64_t offset, std::span<const std::byte> from,
                                     AttributeChanges::Privileges privileges) = 0;

  // fallocate(2); EOPNOTSUPP for what the inode's form of map cannot, EINVAL where what is to be collapsed or
  // inserted is not of whole clusters and inside of the file. After a failure some of it may be done; the
  // size is then as it was, but where a hole was inserted in part. The root's reserve is the caller's to use
  // or not; without one, the file's owner's.
  virtual Result<void> change_range(InodeNumber inode, RangeChange change, ByteRange range,
                                    EndOfFile end_of_file, AttributeChanges::Privileges privileges,
                                    std::optional<Caller> caller = std::nullopt) = 0;
  // SEEK_DATA, SEEK_HOLE. ENXIO at or behind the end of file.
  virtual Result<std::uint64_t> seek(InodeNumber inode, std::uint64_t offset, SeekTarget target) = 0;
  // Answers the bytes copied: less than asked for at the source's end, or where the rest could not be. Holes
  // of the source become zeros that take room, as with the kernel's ext4.
  virtual Result<std::uint64_t> copy_range(InodeNumber from, std::uint64_t from_offset, InodeNumber to,
                                           std::uint64_t to_offset, std::uint64_t length,
                                           AttributeChanges::Privileges privileges) = 0;

  // Names with their prefix: "user.comment". ACLs under "system.posix_acl_access" and
  // "system.posix_acl_default", in the form of the system calls (linux/posix_acl_xattr.h), not the volume's.
  // ENODATA where it is not there, EOPNOTSUPP for an unknown prefix, ERANGE and E2BIG as setxattr(2).
  virtual Result<std::vector<std::byte>> xattr(InodeNumber inode, std::string_view name) = 0;
  // Each name followed by a NUL, as listxattr(2). With "trusted." names: the caller hides them if it must.
  virtual Result<std::string> xattr_names(InodeNumber inode) = 0;
  virtual Result<void> set_xattr(InodeNumber inode, std::string_view name, std::span<const std::byte> value,
                                 XattrMode mode, SetgidBit setgid) = 0;
  virtual Result<void> remove_xattr(InodeNumber inode, std::string_view name) = 0;

  // Who may change what is the caller's business (the kernel checks ownership and capabilities).
  virtual Result<InodeFlags> flags(InodeNumber inode) = 0;
  virtual Result<void> set_flags(InodeNumber inode, std::uint32_t flags) = 0;
  virtual Result<void> set_project(InodeNumber inode, std::uint32_t project) = 0;
  virtual Result<void> set_label(std::string_view label) = 0;
  // FITRIM: tells the device which of the range's blocks are free, in runs of at least `minimum` bytes, but
  // for groups where nothing was freed since the last time. Answers how many bytes that were. EOPNOTSUPP if
  // the device has no use for it; EINVAL for a range without a block, behind the volume, or a minimum above a
  // group.
  virtual Result<std::uint64_t> trim(ByteRange range, std::uint64_t minimum) = 0;
  // FS_IOC_SHUTDOWN: everything answers EIO afterwards.
  virtual Result<void> shut_down(ShutdownMode mode) = 0;

  virtual Result<VolumeStatistics> statistics() = 0;
  // This inode's data and metadata are on the medium when it returns. fdatasync(2): but for its times.
  enum class SyncWhat { kDataOnly, kAll };
  virtual Result<void> sync_inode(InodeNumber inode, SyncWhat what) = 0;
  // The same for the whole volume.
  virtual Result<void> sync() = 0;
  // Writes metadata that has been dirty for a while. Called every few seconds.
  virtual Result<void> write_back() = 0;
  // Makes one more of the inode tables that mke2fs left as they were (lazy_itable_init) hold zeros. False:
  // none is left, or it cannot be done. By one thread, with pauses; it reads and may write some MB.
  virtual bool initialise_inode_table() = 0;
  // The machine is short of memory: what can be had again from the device goes, as far as it may. Answers
  // how many bytes that were. Any thread, beside any request.
  virtual std::size_t shrink() = 0;
  // Keeps telling others that the volume is mounted here (feature mmp), and makes it read-only for good when
  // somebody else has taken it over. Called once, by a thread of its own, where access is kReadWrite and the
  // device may be written; returns when there is nothing to do or unmount() ends it.
  virtual void keep_claim() = 0;
  // The volume on the medium is made what an unmount would leave of it, and nothing is written until thaw().
  // The caller sees to it that nobody asks for a change meanwhile.
  virtual Result<void> freeze() = 0;
  virtual Result<void> thaw() = 0;
  // Where file data lies, for a caller that moves it by itself: mapping_service.h. Null: only read() and
  // write() move it.
  virtual MappingService* mappings() { return nullptr; }
  // Deletes what is unlinked, writes everything, marks the volume clean if it was, closes the device.
  virtual Result<void> unmount() = 0;
};

}  // namespace fuse4fs::ext4
