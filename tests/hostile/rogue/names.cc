// SPDX-License-Identifier: GPL-2.0-or-later
// Files and devices by name, and what can be had from a directory that is still open.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

Verdict open_it(const char* path, int flags) {
  return by_errno(::syscall(SYS_openat, AT_FDCWD, path, flags, 0600), "a descriptor");
}

Verdict status_of(int directory, const char* path, int flags) {
  struct stat status{};
  return by_errno(::syscall(SYS_newfstatat, directory, path, &status, flags), "what the file is");
}

constexpr Behind kNoNames = behind("empty root, Landlock, a user without rights");

constexpr Attempt kTable[] = {
    {"open_shadow", "open /etc/shadow", [](Place&) { return open_it("/etc/shadow", O_RDONLY); },
     Expected::kKilled, kNoNames},
    {"open_passwd_by_open", "open /etc/passwd by open(2)",
     [](Place&) { return by_errno(::syscall(SYS_open, "/etc/passwd", O_RDONLY)); }, Expected::kKilled,
     kNoNames},
    {"open_with_openat2", "openat2 of /etc/passwd",
     [](Place&) {
       open_how how{.flags = O_RDONLY, .mode = 0, .resolve = 0};
       return by_errno(::syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof how));
     },
     Expected::kKilled, kNoNames},
    {"open_disk", "open the whole disk /dev/sda, /dev/vda or /dev/nvme0n1",
     [](Place&) {
       for (const char* const disk : {"/dev/sda", "/dev/vda", "/dev/nvme0n1"})
         if (auto verdict = open_it(disk, O_RDWR); verdict.kind == Verdict::Kind::kSucceeded) return verdict;
       return open_it("/dev/loop0", O_RDWR);
     },
     Expected::kKilled, kNoNames},
    {"open_kernel_memory", "open /dev/mem", [](Place&) { return open_it("/dev/mem", O_RDWR); },
     Expected::kKilled, kNoNames},
    {"open_fuse", "open a /dev/fuse of its own", [](Place&) { return open_it("/dev/fuse", O_RDWR); },
     Expected::kKilled, kNoNames},
    {"open_terminal", "open the caller's terminal", [](Place&) { return open_it("/dev/tty", O_RDWR); },
     Expected::kKilled, kNoNames},
    {"proc_memory_of_process_1", "open /proc/1/mem", [](Place&) { return open_it("/proc/1/mem", O_RDWR); },
     Expected::kKilled, kNoNames},
    {"proc_root_of_process_1", "walk through /proc/1/root",
     [](Place&) { return open_it("/proc/1/root/etc", O_PATH); }, Expected::kKilled, kNoNames},
    {"proc_own_executable", "open its own program by /proc/self/exe",
     [](Place&) { return open_it("/proc/self/exe", O_RDONLY); }, Expected::kKilled, kNoNames},
    {"reopen_device_by_proc", "open its read-only device for writing by /proc/self/fd",
     [](Place&) { return open_it("/proc/self/fd/4", O_RDWR); }, Expected::kKilled, kNoNames, "ro"},
    {"create_file", "create a file", [](Place&) { return open_it("/rogue", O_CREAT | O_WRONLY); },
     Expected::kKilled, behind("empty read-only root, Landlock")},
    {"create_unnamed_file", "create a file without a name",
     [](Place&) { return open_it("/", O_TMPFILE | O_RDWR); }, Expected::kKilled,
     behind("empty read-only root, Landlock")},
    {"make_device_node", "make a node of the first disk and open it",
     [](Place&) {
       if (::syscall(SYS_mknodat, AT_FDCWD, "/disk", S_IFBLK | 0600, makedev(8, 0)) != 0) return by_errno(-1);
       return open_it("/disk", O_RDWR);
     },
     Expected::kKilled, behind("no capabilities, empty read-only root, Landlock")},
    {"make_symbolic_link", "make a symbolic link",
     [](Place&) { return by_errno(::symlinkat("/etc", AT_FDCWD, "/x")); }, Expected::kKilled,
     behind("empty read-only root, Landlock")},
    {"unlink", "remove a file", [](Place&) { return by_errno(::unlinkat(AT_FDCWD, "/etc/fstab", 0)); },
     Expected::kKilled, kNoNames},
    {"rename", "rename a file",
     [](Place&) { return by_errno(::renameat(AT_FDCWD, "/etc/fstab", AT_FDCWD, "/x")); }, Expected::kKilled,
     kNoNames},
    {"truncate_by_name", "truncate a file", [](Place&) { return by_errno(::truncate("/etc/fstab", 0)); },
     Expected::kKilled, kNoNames},
    {"stat_a_name", "ask what /etc/shadow is", [](Place&) { return status_of(AT_FDCWD, "/etc/shadow", 0); },
     Expected::kKilled, behind("empty root")},
    {"statx_a_name", "ask for a file by statx",
     [](Place&) {
       struct statx status{};
       return by_errno(::syscall(SYS_statx, AT_FDCWD, "/etc/shadow", 0, STATX_ALL, &status));
     },
     Expected::kKilled, behind("empty root")},
    {"stat_a_name_past_the_filter", "newfstatat of a name with AT_EMPTY_PATH, which the filter lets pass",
     [](Place&) { return status_of(AT_FDCWD, "/etc/passwd", AT_EMPTY_PATH); }, Expected::kErrno,
     behind("stopped by the empty root alone")},
    {"stat_above_the_root", "newfstatat of ../../etc from descriptor 0, with AT_EMPTY_PATH",
     [](Place&) { return status_of(STDIN_FILENO, "../../../etc/passwd", AT_EMPTY_PATH); }, Expected::kErrno,
     behind("stopped by the empty root alone")},
    {"read_standard_input", "read what the caller types",
     [](Place&) {
       char byte = 0;
       return by_errno(::read(STDIN_FILENO, &byte, 1));
     },
     Expected::kErrno, behind("0 and 1 are O_PATH descriptors of the empty root")},
    {"write_standard_output", "write to the caller's output",
     [](Place&) { return by_errno(::write(STDOUT_FILENO, "x", 1)); }, Expected::kErrno,
     behind("0 and 1 are O_PATH descriptors of the empty root")},
    {"walk_out_by_kept_directory", "fchdir to descriptor 0 and up from there",
     [](Place&) {
       if (::fchdir(STDIN_FILENO) != 0) return by_errno(-1);
       for (int i = 0; i < 16; ++i)
         if (::chdir("..") != 0) return by_errno(-1);
       return open_it("etc/passwd", O_RDONLY);
     },
     Expected::kKilled, behind("empty root, Landlock")},
    {"open_below_kept_directory", "openat below descriptor 0",
     [](Place&) { return by_errno(::openat(STDIN_FILENO, "../etc/passwd", O_RDONLY)); }, Expected::kKilled,
     behind("empty root, Landlock")},
    {"chroot_out", "the old way out of a chroot",
     [](Place&) {
       if (::chroot(".") != 0) return by_errno(-1);
       for (int i = 0; i < 16; ++i) (void)!::chdir("..");
       return by_errno(::chroot("."));
     },
     Expected::kKilled, behind("no capabilities, empty root")},
    {"list_root", "list the root directory",
     [](Place&) {
       char entries[256];
       const int root = ::open("/", O_RDONLY | O_DIRECTORY);
       if (root < 0) return by_errno(-1);
       return by_errno(::syscall(SYS_getdents64, root, entries, sizeof entries));
     },
     Expected::kKilled, behind("Landlock; the root is empty")},
    {"open_by_handle", "open the root of the device's file system by a file handle",
     [](Place& place) {
       alignas(file_handle) char bytes[sizeof(file_handle) + 8] = {};
       auto* const handle = reinterpret_cast<file_handle*>(bytes);
       handle->handle_bytes = 8;
       handle->handle_type = 1;
       bytes[sizeof(file_handle)] = 2;
       return by_errno(::open_by_handle_at(place.log, handle, O_RDONLY));
     },
     Expected::kKilled, behind("no capabilities")},
    {"handle_of_kept_file", "ask for the file handle of the log",
     [](Place& place) {
       alignas(file_handle) char bytes[sizeof(file_handle) + 128] = {};
       auto* const handle = reinterpret_cast<file_handle*>(bytes);
       handle->handle_bytes = 128;
       int mount = 0;
       return by_errno(::name_to_handle_at(place.log, "", handle, &mount, AT_EMPTY_PATH));
     },
     Expected::kKilled, filter_alone("the number of a file that it holds")},
    {"watch_with_inotify", "watch a directory with inotify",
     [](Place&) {
       const int watch = ::inotify_init1(0);
       if (watch < 0) return by_errno(-1);
       return by_errno(::inotify_add_watch(watch, "/etc", IN_ALL_EVENTS));
     },
     Expected::kKilled, behind("empty root")},
    {"watch_with_fanotify", "watch a whole file system with fanotify",
     [](Place&) {
       const int watch = ::fanotify_init(FAN_CLASS_CONTENT, O_RDONLY);
       if (watch < 0) return by_errno(-1);
       return by_errno(::fanotify_mark(watch, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, "/"));
     },
     Expected::kKilled, behind("no capabilities")},
};

}  // namespace

constinit const Theme kNames{"Files and devices by name", kTable};

}  // namespace fuse4fs::rogue
