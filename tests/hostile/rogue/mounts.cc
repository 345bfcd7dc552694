// SPDX-License-Identifier: GPL-2.0-or-later
// Mounts, by the old and the new interface, and the machine as a whole.
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/reboot.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <ctime>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

constexpr Behind kNoCapability = behind("no capabilities");

constexpr Attempt kTable[] = {
    {"mount_tmpfs", "mount a file system",
     [](Place&) { return by_errno(::mount("x", "/", "tmpfs", 0, nullptr)); }, Expected::kKilled,
     kNoCapability},
    {"mount_proc", "mount a /proc", [](Place&) { return by_errno(::mount("proc", "/", "proc", 0, nullptr)); },
     Expected::kKilled, kNoCapability},
    {"mount_fuse_itself", "mount its own /dev/fuse with options of its own",
     [](Place& place) {
       const std::string options =
           "fd=" + std::to_string(place.fuse) + ",rootmode=40000,user_id=0,group_id=0";
       return by_errno(::mount("x", "/", "fuse", 0, options.c_str()));
     },
     Expected::kKilled, kNoCapability},
    {"bind_mount", "bind a directory to another",
     [](Place&) { return by_errno(::mount("/", "/", nullptr, MS_BIND, nullptr)); }, Expected::kKilled,
     kNoCapability},
    {"remount_writable", "make its root writable",
     [](Place&) { return by_errno(::mount(nullptr, "/", nullptr, MS_REMOUNT, nullptr)); }, Expected::kKilled,
     kNoCapability},
    {"share_mounts", "make its mounts shared, to have them seen elsewhere",
     [](Place&) { return by_errno(::mount(nullptr, "/", nullptr, MS_SHARED | MS_REC, nullptr)); },
     Expected::kKilled, kNoCapability},
    {"unmount_root", "take its root away, and what lies below comes up",
     [](Place&) { return by_errno(::umount2("/", MNT_DETACH)); }, Expected::kKilled, kNoCapability},
    {"pivot_root", "change the root", [](Place&) { return by_errno(::syscall(SYS_pivot_root, ".", ".")); },
     Expected::kKilled, kNoCapability},
    {"new_mount_interface", "fsopen", [](Place&) { return by_errno(::syscall(SYS_fsopen, "tmpfs", 0)); },
     Expected::kKilled, kNoCapability},
    {"configure_by_descriptor", "fsconfig on a descriptor that it holds",
     [](Place& place) {
       return by_errno(::syscall(SYS_fsconfig, place.fuse, FSCONFIG_SET_FLAG, "ro", nullptr, 0));
     },
     Expected::kKilled, behind("no descriptor of a mount in the making")},
    {"fsmount_by_descriptor", "fsmount of a descriptor that it holds",
     [](Place& place) { return by_errno(::syscall(SYS_fsmount, place.fuse, 0, 0)); }, Expected::kKilled,
     kNoCapability},
    {"reopen_superblock", "fspick its root to configure it anew",
     [](Place&) { return by_errno(::syscall(SYS_fspick, AT_FDCWD, "/", 0)); }, Expected::kKilled,
     kNoCapability},
    {"copy_tree", "open_tree with a copy of the mounts",
     [](Place&) { return by_errno(::syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | AT_RECURSIVE)); },
     Expected::kKilled, kNoCapability},
    {"move_mount", "move a mount",
     [](Place&) { return by_errno(::syscall(SYS_move_mount, STDIN_FILENO, "", AT_FDCWD, "/", 4)); },
     Expected::kKilled, kNoCapability},
    {"change_mount_attributes", "mount_setattr its root to dev, suid, exec",
     [](Place&) {
       mount_attr attributes{};
       attributes.attr_clr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
       return by_errno(::syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &attributes, sizeof attributes));
     },
     Expected::kKilled, kNoCapability},
    {"list_mounts", "list the mounts (statmount, listmount)",
     [](Place&) {
       char bytes[4096];
       std::uint64_t request[4] = {24, ~0ULL, 0, 0};  // mnt_id_req: size, all from the root on
       return by_errno(::syscall(458, request, bytes, 64, 0));
     },
     Expected::kKilled, filter_alone("the empty root's own number")},
    {"swap_on", "swap to a device", [](Place&) { return by_errno(::swapon("/dev/sda", 0)); },
     Expected::kKilled, kNoCapability},
    {"swap_off", "switch swap off", [](Place&) { return by_errno(::swapoff("/dev/sda")); }, Expected::kKilled,
     kNoCapability},
    {"reboot", "reboot",
     [](Place&) {
       // Without the filter as well: what is refused here is refused for every command, and this one is
       // harmless.
       return by_errno(
           ::syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF, 0));
     },
     Expected::kKilled, kNoCapability},
    {"load_kernel", "load another kernel",
     [](Place&) { return by_errno(::syscall(SYS_kexec_load, 0, 0, nullptr, 0)); }, Expected::kKilled,
     kNoCapability},
    {"load_kernel_file", "load another kernel from its device",
     [](Place& place) {
       return by_errno(::syscall(SYS_kexec_file_load, place.device, place.device, 0, nullptr, 0));
     },
     Expected::kKilled, kNoCapability},
    {"load_module", "load a module", [](Place&) { return by_errno(::syscall(SYS_init_module, "x", 1, "")); },
     Expected::kKilled, kNoCapability},
    {"load_module_file", "load a module from its device",
     [](Place& place) { return by_errno(::syscall(SYS_finit_module, place.device, "", 0)); },
     Expected::kKilled, kNoCapability},
    {"remove_module", "remove a module",
     [](Place&) { return by_errno(::syscall(SYS_delete_module, "ext4", 0)); }, Expected::kKilled,
     kNoCapability},
    {"set_clock", "set the clock",
     [](Place&) {
       const timespec time{1, 0};
       return by_errno(::clock_settime(CLOCK_REALTIME, &time));
     },
     Expected::kKilled, kNoCapability},
    {"adjust_clock", "adjust the clock's rate",
     [](Place&) {
       timex change{};
       change.modes = ADJ_FREQUENCY;
       return by_errno(::adjtimex(&change));
     },
     Expected::kKilled, kNoCapability},
    {"hang_up", "hang the terminal up", [](Place&) { return by_errno(::syscall(SYS_vhangup)); },
     Expected::kKilled, kNoCapability},
    {"accounting", "switch process accounting off",
     [](Place&) { return by_errno(::syscall(SYS_acct, nullptr)); }, Expected::kKilled, kNoCapability},
    {"quota_control", "change disk quotas",
     [](Place&) { return by_errno(::syscall(SYS_quotactl, 0x80000200, "/dev/sda", 0, nullptr)); },
     Expected::kKilled, kNoCapability},
    {"port_access", "use the machine's ports", [](Place&) { return by_errno(::syscall(SYS_iopl, 3)); },
     Expected::kKilled, kNoCapability},
    {"sync_everything", "sync(2) in a loop, to slow all disks",
     [](Place& place) { return by_errno(::syscall(SYS_syncfs, place.log), "a slow disk"); },
     Expected::kKilled, filter_alone("writing back the log's file system, as any user may")},
};

}  // namespace

constinit const Theme kMounts{"Mounts and the machine", kTable};

}  // namespace fuse4fs::rogue
