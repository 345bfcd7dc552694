// SPDX-License-Identifier: GPL-2.0-or-later
// ioctl on the descriptors that it holds. The loop device obeys whoever holds it for writing: there the
// filter is alone.
#include <asm/termbits.h>
#include <linux/blkpg.h>
#include <linux/blkzoned.h>
#include <linux/cdrom.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/loop.h>
#include <linux/nvme_ioctl.h>
#include <linux/sockios.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>

#include "base/fuse_iomap_abi.h"
#include "tests/hostile/rogue/any_process.h"
#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

Verdict command(int descriptor, unsigned long request, unsigned long argument) {
  return by_errno(::syscall(SYS_ioctl, descriptor, request, argument));
}

template <class T>
Verdict command_with(int descriptor, unsigned long request, T value = {}) {
  return by_errno(::syscall(SYS_ioctl, descriptor, request, &value));
}

template <unsigned long kRequest, unsigned long kArgument = 0>
Verdict on_device(Place& place) {
  return command(place.device, kRequest, kArgument);
}

Verdict range(int descriptor, unsigned long request) {
  std::array<std::uint64_t, 2> bytes{0, 4096};
  return by_errno(::syscall(SYS_ioctl, descriptor, request, bytes.data()));
}

constexpr Behind kLoop = filter_alone(
    "the loop device's file at another offset, or none: its own mount; a real disk has no such call");
constexpr Behind kNoCapability = behind("no capabilities");
constexpr Behind kReadOnly = behind("the descriptor is open for reading only");
// Of linux/fuse.h, newer than Debian 12's.
constexpr unsigned long kBackingOpen = _IOW(229, 1, std::uint64_t[2]);
constexpr unsigned long kBackingClose = _IOW(229, 2, std::uint32_t);

constexpr Attempt kTable[] = {
    {"discard_read_only", "discard blocks of a device that is mounted read-only (BLKDISCARD)",
     [](Place& place) { return range(place.device, BLKDISCARD); }, Expected::kErrno, kReadOnly, "ro"},
    {"zero_read_only", "zero blocks of a device that is mounted read-only (BLKZEROOUT)",
     [](Place& place) { return range(place.device, BLKZEROOUT); }, Expected::kErrno, kReadOnly, "ro"},
    {"discard_past_device", "discard behind the end of the device",
     [](Place& place) {
       std::array<std::uint64_t, 2> bytes{std::uint64_t{1} << 40, 4096};
       return by_errno(::syscall(SYS_ioctl, place.device, BLKDISCARD, bytes.data()));
     },
     Expected::kErrno, behind("the kernel's bounds of the block device")},
    {"secure_erase", "erase the device securely (BLKSECDISCARD)",
     [](Place& place) { return range(place.device, BLKSECDISCARD); }, Expected::kKilled,
     filter_alone("its own volume's blocks, which it may write anyway")},
    {"switch_read_only_off", "make a read-only device writable (BLKROSET)",
     [](Place& place) { return command_with<int>(place.device, BLKROSET); }, Expected::kKilled, kNoCapability,
     "ro"},
    {"read_partitions", "read the partition table anew (BLKRRPART)", on_device<BLKRRPART>, Expected::kKilled,
     kNoCapability},
    {"add_partition", "add a partition (BLKPG)",
     [](Place& place) { return command_with<blkpg_ioctl_arg>(place.device, BLKPG); }, Expected::kKilled,
     kNoCapability},
    {"flush_buffers", "throw the device's page cache away (BLKFLSBUF)", on_device<BLKFLSBUF>,
     Expected::kKilled, kNoCapability},
    {"set_read_ahead", "change the device's read-ahead (BLKRASET)", on_device<BLKRASET, 1024>,
     Expected::kKilled, kNoCapability},
    {"set_block_size", "change the device's block size (BLKBSZSET)",
     [](Place& place) { return command_with<int>(place.device, BLKBSZSET, 512); }, Expected::kKilled,
     kNoCapability},
    {"trace_device", "trace the device's requests (BLKTRACESETUP)",
     [](Place& place) {
       std::array<char, 256> setup{};
       return by_errno(::syscall(SYS_ioctl, place.device, 0xc0481273UL, setup.data()));
     },
     Expected::kKilled, kNoCapability},
    {"persistent_reservation", "reserve the device against others (IOC_PR_RESERVE)",
     [](Place& place) {
       std::array<std::uint64_t, 2> reservation{};
       return by_errno(::syscall(SYS_ioctl, place.device, 0x401070c9UL, reservation.data()));
     },
     Expected::kKilled, behind("no capabilities, or the device cannot")},
    {"reset_zone", "reset a zone of the device (BLKRESETZONE)",
     [](Place& place) { return command_with<blk_zone_range>(place.device, BLKRESETZONE); }, Expected::kKilled,
     behind("the device has no zones")},
    {"scsi_command", "send the disk a SCSI command (SG_IO)",
     [](Place& place) {
       std::array<unsigned char, 6> inquiry{0x12, 0, 0, 0, 36, 0};
       std::array<unsigned char, 36> answer{};
       sg_io_hdr header{};
       header.interface_id = 'S';
       header.dxfer_direction = SG_DXFER_FROM_DEV;
       header.cmd_len = inquiry.size();
       header.cmdp = inquiry.data();
       header.dxfer_len = answer.size();
       header.dxferp = answer.data();
       return by_errno(::syscall(SYS_ioctl, place.device, SG_IO, &header));
     },
     Expected::kKilled,
     behind("the device is no SCSI disk; on one the kernel lets through reading commands only")},
    {"nvme_command", "send the disk an NVMe command",
     [](Place& place) { return command_with<nvme_passthru_cmd>(place.device, NVME_IOCTL_ADMIN_CMD); },
     Expected::kKilled, behind("the device is no NVMe disk; on one: no capabilities")},
    {"eject", "eject the medium (CDROMEJECT)", on_device<CDROMEJECT>, Expected::kKilled,
     behind("the device is no CD-ROM drive")},
    {"loop_move", "move the loop device over other parts of its file (LOOP_SET_STATUS64)",
     [](Place& place) {
       loop_info64 info{};
       info.lo_offset = 4096;
       return by_errno(::syscall(SYS_ioctl, place.device, LOOP_SET_STATUS64, &info),
                       "the file at another offset");
     },
     Expected::kKilled, kLoop},
    {"loop_file_name", "read the file's name from the loop device (LOOP_GET_STATUS64)",
     [](Place& place) { return command_with<loop_info64>(place.device, LOOP_GET_STATUS64); },
     Expected::kKilled, filter_alone("the image's name")},
    {"loop_detach", "take the loop device's file away (LOOP_CLR_FD)", on_device<LOOP_CLR_FD>,
     Expected::kKilled, kLoop},
    {"loop_attach", "give the loop device another file (LOOP_SET_FD)",
     [](Place& place) { return command(place.device, LOOP_SET_FD, static_cast<unsigned long>(place.log)); },
     Expected::kKilled, behind("it has a file")},
    {"loop_change", "exchange the loop device's file for the log (LOOP_CHANGE_FD)",
     [](Place& place) {
       return command(place.device, LOOP_CHANGE_FD, static_cast<unsigned long>(place.log));
     },
     Expected::kKilled, behind("the loop device is not read-only"), ""},
    {"loop_change_read_only", "the same on a read-only loop device",
     [](Place& place) {
       return command(place.device, LOOP_CHANGE_FD, static_cast<unsigned long>(place.log));
     },
     Expected::kKilled, behind("the descriptor is open for reading only"), "ro"},
    {"loop_configure", "configure the loop device anew (LOOP_CONFIGURE)",
     [](Place& place) {
       loop_config config{};
       config.fd = static_cast<std::uint32_t>(place.log);
       return by_errno(::syscall(SYS_ioctl, place.device, LOOP_CONFIGURE, &config));
     },
     Expected::kKilled, behind("it has a file")},
    {"loop_block_size", "change the loop device's block size (LOOP_SET_BLOCK_SIZE)",
     on_device<LOOP_SET_BLOCK_SIZE, 1024>, Expected::kKilled, kLoop},
    {"loop_capacity", "have the loop device look at its file's size again (LOOP_SET_CAPACITY)",
     on_device<LOOP_SET_CAPACITY>, Expected::kKilled, kLoop},
    {"loop_direct", "switch the loop device's direct I/O (LOOP_SET_DIRECT_IO)",
     on_device<LOOP_SET_DIRECT_IO, 0>, Expected::kKilled, kLoop},
    {"loop_add", "add a loop device (LOOP_CTL_ADD)", on_device<LOOP_CTL_ADD, 4000>, Expected::kKilled,
     behind("not the control device")},
    {"fuse_clone", "bind its /dev/fuse to another one's mount (FUSE_DEV_IOC_CLONE)",
     [](Place& place) {
       return command_with<std::uint32_t>(place.fuse, FUSE_DEV_IOC_CLONE,
                                          static_cast<std::uint32_t>(place.log));
     },
     Expected::kKilled, behind("the kernel: both must be /dev/fuse")},
    {"fuse_backing_open", "have the kernel read another file for it (FUSE_DEV_IOC_BACKING_OPEN)",
     [](Place& place) {
       std::array<std::uint32_t, 4> map{static_cast<std::uint32_t>(place.log), 0, 0, 0};
       return by_errno(::syscall(SYS_ioctl, place.fuse, kBackingOpen, map.data()));
     },
     Expected::kKilled, behind("no capabilities; not mounted")},
    {"fuse_bless", "bless its /dev/fuse for iomap, which the user refused (FUSE_DEV_IOC_ADD_IOMAP)",
     [](Place& place) { return command(place.fuse, iomap_abi::kIoctlAddIomap, 0); }, Expected::kKilled,
     kNoCapability, "noiomap"},
    {"fuse_backing_close", "close such a file (FUSE_DEV_IOC_BACKING_CLOSE)",
     [](Place& place) { return command_with<std::uint32_t>(place.fuse, kBackingClose, 1); },
     Expected::kKilled, behind("no capabilities; not mounted")},
    {"type_into_terminal", "type into the caller's terminal (TIOCSTI)",
     [](Place&) { return by_errno(::syscall(SYS_ioctl, STDERR_FILENO, TIOCSTI, "x")); }, Expected::kKilled,
     behind("standard error is the helper's pipe, or the journal")},
    {"console_font", "type by the console's paste (TIOCLINUX)",
     [](Place&) { return by_errno(::syscall(SYS_ioctl, STDERR_FILENO, TIOCLINUX, "\x03")); },
     Expected::kKilled, behind("standard error is the helper's pipe, or the journal")},
    {"take_terminal", "make the caller's terminal its own (TIOCSCTTY)",
     [](Place&) { return by_errno(::syscall(SYS_ioctl, STDERR_FILENO, TIOCSCTTY, 1)); }, Expected::kKilled,
     behind("standard error is the helper's pipe, or the journal")},
    {"log_attributes", "make the log immutable (FS_IOC_SETFLAGS)",
     [](Place& place) { return command_with<int>(place.log, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL); },
     Expected::kKilled, kNoCapability},
    {"clone_into_log", "share the log's blocks with another file (FICLONE)",
     [](Place& place) { return command(place.log, FICLONE, static_cast<unsigned long>(place.device)); },
     Expected::kKilled, behind("the kernel: regular files of one file system only")},
    {"freeze_logs_file_system", "freeze the file system of the log (FIFREEZE)",
     [](Place& place) { return command(place.log, FIFREEZE, 0); }, Expected::kKilled, kNoCapability},
    {"signals_by_ioctl", "signals to another process by FIOSETOWN",
     [](Place& place) {
       return on_any_process([&](pid_t pid) { return ::syscall(SYS_ioctl, place.socket, FIOSETOWN, &pid); });
     },
     Expected::kKilled,
     filter_alone(
         "signals to others, if it had the right to send them; standalone it sees no other process")},
    {"command_with_high_bits", "LOOP_CLR_FD with bits above the command's 32, which the kernel drops",
     [](Place& place) { return command(place.device, (1UL << 32) | LOOP_CLR_FD, 0); }, Expected::kKilled,
     kLoop},
};

}  // namespace

constinit const Theme kIoctls{"Commands to its descriptors (ioctl)", kTable};

}  // namespace fuse4fs::rogue
