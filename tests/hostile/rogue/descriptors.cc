// SPDX-License-Identifier: GPL-2.0-or-later
// What can be made of the descriptors that it holds, beside reading and writing them.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

#include "tests/hostile/rogue/any_process.h"
#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

constexpr Behind kOwnDescriptors = filter_alone("more of what it holds");

constexpr Attempt kTable[] = {
    {"dup", "copy a descriptor", [](Place& place) { return by_errno(::dup(place.device)); },
     Expected::kKilled, kOwnDescriptors},
    {"dup_until_full", "copy descriptors without end",
     [](Place& place) {
       for (int i = 0; i < 1'000'000; ++i)
         if (::dup(place.device) < 0) return by_errno(-1);
       return succeeded("a million descriptors");
     },
     Expected::kKilled, behind("RLIMIT_NOFILE")},
    {"pipes_until_full", "make pipes without end",
     [](Place&) {
       for (int i = 0; i < 1'000'000; ++i)
         if (int ends[2]; ::pipe(ends) != 0) return by_errno(-1);
       return succeeded("a million pipes");
     },
     Expected::kKilled, behind("RLIMIT_NOFILE")},
    {"set_flags", "make its read-only device append or asynchronous",
     [](Place& place) { return by_errno(::fcntl(place.device, F_SETFL, O_ASYNC)); }, Expected::kKilled,
     filter_alone("a flag of its own descriptor")},
    {"drop_append_of_log", "take O_APPEND from the log, to write over it",
     [](Place& place) {
       if (::fcntl(place.log, F_SETFL, 0) != 0) return by_errno(-1);
       return succeeded("a log that can be written over");
     },
     Expected::kKilled, filter_alone("a log that can be written over")},
    {"own_signals_of_others", "have the kernel signal another process when a descriptor is ready (F_SETOWN)",
     [](Place& place) {
       return on_any_process([&](pid_t pid) { return ::fcntl(place.socket, F_SETOWN, pid); });
     },
     Expected::kKilled,
     filter_alone(
         "signals to others, if it had the right to send them; standalone it sees no other process")},
    {"choose_signal", "choose SIGKILL for ready descriptors (F_SETSIG)",
     [](Place& place) {
       if (::fcntl(place.socket, F_SETSIG, SIGKILL) != 0) return by_errno(-1);
       return succeeded("signals to itself");
     },
     Expected::kKilled, filter_alone("signals to itself")},
    {"lease", "take a lease on the log, to hold up whoever opens it",
     [](Place& place) { return by_errno(::fcntl(place.log, F_SETLEASE, F_WRLCK)); }, Expected::kKilled,
     behind("not the owner of the file, no capabilities")},
    {"lock_log", "lock the log against others",
     [](Place& place) {
       struct flock lock{};
       lock.l_type = F_WRLCK;
       return by_errno(::fcntl(place.log, F_SETLK, &lock));
     },
     Expected::kKilled, filter_alone("a lock on a log that it holds")},
    {"change_mode_of_device", "open the device's node to everybody (fchmod)",
     [](Place& place) { return by_errno(::fchmod(place.device, 0666)); }, Expected::kKilled,
     behind("not the owner, no capabilities")},
    {"change_owner_of_log", "give itself the log (fchown)",
     [](Place& place) { return by_errno(::fchown(place.log, ::geteuid(), ::getegid())); }, Expected::kKilled,
     behind("not the owner, no capabilities")},
    {"set_attribute_of_log", "set an extended attribute of the log",
     [](Place& place) { return by_errno(::syscall(SYS_fsetxattr, place.log, "user.rogue", "x", 1, 0)); },
     Expected::kKilled, behind("the file's permissions, no capabilities")},
    {"link_log", "give the log a second name",
     [](Place& place) { return by_errno(::linkat(place.log, "", AT_FDCWD, "/log", AT_EMPTY_PATH)); },
     Expected::kKilled, behind("empty read-only root, Landlock")},
    {"splice_device_to_socket", "splice the device into the helper's socket",
     [](Place& place) { return by_errno(::sendfile(place.socket, place.device, nullptr, 4096)); },
     Expected::kKilled, filter_alone("bytes that it may read, where it may write")},
    {"copy_range", "copy_file_range from the device to the log",
     [](Place& place) {
       return by_errno(::copy_file_range(place.device, nullptr, place.log, nullptr, 4096, 0));
     },
     Expected::kKilled, behind("the kernel copies regular files only")},
    {"write_read_only_device", "write to a device that was mounted read-only",
     [](Place& place) {
       char bytes[512] = {};
       return by_errno(::pwrite(place.device, bytes, sizeof bytes, 0));
     },
     Expected::kErrno, behind("the descriptor is open for reading only"), "ro"},
    {"zero_read_only_device", "fallocate zeros into a read-only device",
     [](Place& place) {
       return by_errno(::fallocate(place.device, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096));
     },
     Expected::kKilled, behind("the descriptor is open for reading only"), "ro"},
    {"write_past_device", "write past the end of the device, into what may lie behind",
     [](Place& place) {
       char bytes[512] = {};
       return by_errno(::pwrite(place.device, bytes, sizeof bytes, off_t{1} << 40));
     },
     Expected::kErrno, behind("the kernel's bounds of the block device")},
    {"seek_read_before_device", "read at a negative offset",
     [](Place& place) {
       char bytes[512];
       return by_errno(::pread(place.device, bytes, sizeof bytes, -4096));
     },
     Expected::kErrno, behind("the kernel's bounds of the block device")},
    {"read_pressure", "read how long processes wait for memory, from the file that it may poll",
     [](Place& place) {
       char bytes[64];
       return by_errno(::read(place.pressure, bytes, sizeof bytes));
     },
     Expected::kErrno, behind("the descriptor is open for writing only")},
    {"seek_read_pressure", "the same by pread",
     [](Place& place) {
       char bytes[64];
       return by_errno(::pread(place.pressure, bytes, sizeof bytes, 0));
     },
     Expected::kErrno, behind("the descriptor is open for writing only")},
    {"own_pressure_trigger", "a finer trigger of its own in that file",
     [](Place& place) {
       constexpr char kTrigger[] = "full 1 500000";
       return by_errno(::write(place.pressure, kTrigger, sizeof kTrigger));
     },
     Expected::kErrno,
     behind("the kernel: one trigger in the life of an open file, and the helper's is there")},
    {"poll_sets", "an epoll set (a way around the filter's poll)",
     [](Place&) { return by_errno(::epoll_create1(0)); }, Expected::kKilled, filter_alone("an epoll set")},
    {"events", "an eventfd of its own", [](Place&) { return by_errno(::eventfd(0, 0)); }, Expected::kKilled,
     filter_alone("an eventfd")},
    {"map_device", "map the device into memory",
     [](Place& place) {
       return by_errno(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, place.device, 0) == MAP_FAILED ? -1 : 0);
     },
     Expected::kKilled, filter_alone("bytes that it may read anyway")},
    {"read_of_fuse_before_mount", "read /dev/fuse before it is mounted",
     [](Place& place) {
       char bytes[8192];
       return by_errno(::read(place.fuse, bytes, sizeof bytes));
     },
     Expected::kErrno, behind("the kernel: not mounted")},
};

}  // namespace

constinit const Theme kDescriptors{"Its descriptors", kTable};

}  // namespace fuse4fs::rogue
