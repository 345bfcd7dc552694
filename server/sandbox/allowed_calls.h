// SPDX-License-Identifier: GPL-2.0-or-later
// Every system call that the server may make once it serves, with the reason. What is not here kills the
// process.
//
// A line earns its place by a test that fails without it (tests/unit/sandbox/allowed_test.cc). Names that a
// machine's kernel does not have (the 32-bit ones) are left out there by libseccomp.
#pragma once

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <array>
#include <cstdint>

#include "base/fuse_iomap_abi.h"

namespace fuse4fs::sandbox::internal {

// What one argument must be. All conditions of a line must hold.
struct ArgumentIs {
  enum class Kind {
    kUnused,
    kEqual,       // argument == value
    kBitsClear,   // (argument & value) == 0
    kBitsSet,     // (argument & value) == value
    kMasked,      // (argument & mask) == value
    kOwnProcess,  // argument == getpid()
  };
  Kind kind = Kind::kUnused;
  unsigned argument = 0;  // counted from 0
  std::uint64_t value = 0;
  std::uint64_t mask = 0;
};

struct AllowedCall {
  int number;
  const char* reason;
  ArgumentIs first{}, second{};
};

constexpr ArgumentIs equals(unsigned argument, std::uint64_t value) {
  return {ArgumentIs::Kind::kEqual, argument, value};
}
constexpr ArgumentIs lacks(unsigned argument, std::uint64_t bits) {
  return {ArgumentIs::Kind::kBitsClear, argument, bits};
}
constexpr ArgumentIs has(unsigned argument, std::uint64_t bits) {
  return {ArgumentIs::Kind::kBitsSet, argument, bits};
}
// futex(2) by operation; private or not, and by which clock, makes no difference. The operations that lend a
// priority take the number of any thread, and say whether there is one.
constexpr ArgumentIs futex_operation(std::uint64_t operation) {
  return {ArgumentIs::Kind::kMasked, 1, operation,
          ~static_cast<std::uint64_t>(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)};
}
constexpr ArgumentIs own_process(unsigned argument) { return {ArgumentIs::Kind::kOwnProcess, argument, 0}; }

inline constexpr AllowedCall kAllowedCalls[] = {
    // Requests, the log, the device. All on descriptors that we were given.
    {SCMP_SYS(read), "requests from /dev/fuse, signalfd, pressure events"},
    {SCMP_SYS(readv), "the same in pieces"},
    {SCMP_SYS(write), "log, notifications to /dev/fuse"},
    {SCMP_SYS(writev), "replies to /dev/fuse; the C library's last words"},
    {SCMP_SYS(pread64), "device: metadata and file data"},
    {SCMP_SYS(pwrite64), "device: metadata and file data"},
    {SCMP_SYS(preadv), "device: neighbouring blocks into buffers that are no neighbours"},
    {SCMP_SYS(pwritev), "device: the same for writing back"},
    {SCMP_SYS(fdatasync), "device: flush"},
    {SCMP_SYS(fsync), "none of ours; in libext2fs, for channels that are not opened here"},
    {SCMP_SYS(fadvise64), "device: no read-ahead", equals(3, POSIX_FADV_RANDOM)},
    {SCMP_SYS(fadvise64_64), "the same on 32-bit machines", equals(5, POSIX_FADV_RANDOM)},
    {SCMP_SYS(arm_fadvise64_64), "the same on 32-bit ARM", equals(1, POSIX_FADV_RANDOM)},
    {SCMP_SYS(lseek), "the C library, for the place in a stream"},
    {SCMP_SYS(_llseek), "lseek on 32-bit machines"},
    {SCMP_SYS(fstat), "what kind a received descriptor is (newer glibc)"},
    {SCMP_SYS(fstat64), "fstat on 32-bit machines"},
    {SCMP_SYS(newfstatat), "fstat as Debian 12's glibc makes it: of a descriptor, not of a name",
     equals(3, AT_EMPTY_PATH)},
    {SCMP_SYS(fstatat64), "the same on 32-bit machines", equals(3, AT_EMPTY_PATH)},
    {SCMP_SYS(fcntl), "access mode of a received descriptor", equals(1, F_GETFL)},
    {SCMP_SYS(fcntl64), "the same on 32-bit machines", equals(1, F_GETFL)},
    {SCMP_SYS(close), "device at unmount, protocol's socket after the start"},

    // By command: on a loop device an ioctl could move the device over other parts of its file.
    {SCMP_SYS(ioctl), "device: size", equals(1, BLKGETSIZE64)},
    {SCMP_SYS(ioctl), "device: alignment of direct I/O", equals(1, BLKSSZGET)},
    {SCMP_SYS(ioctl), "device: discard of freed blocks, FITRIM", equals(1, BLKDISCARD)},
    {SCMP_SYS(ioctl), "device: zeros without sending them", equals(1, BLKZEROOUT)},

    // Memory: never executable, never a file, never shared (which RLIMIT_DATA would not count).
    {SCMP_SYS(mmap), "malloc", lacks(2, PROT_EXEC), has(3, MAP_ANONYMOUS | MAP_PRIVATE)},
    {SCMP_SYS(mmap2), "mmap on 32-bit machines", lacks(2, PROT_EXEC), has(3, MAP_ANONYMOUS | MAP_PRIVATE)},
    {SCMP_SYS(mprotect), "malloc: heaps of threads grow by it", lacks(2, PROT_EXEC)},
    {SCMP_SYS(munmap), "malloc; stacks of threads that ended"},
    {SCMP_SYS(mremap), "realloc of large blocks"},
    {SCMP_SYS(madvise), "malloc and ended threads give memory back"},
    {SCMP_SYS(brk), "malloc"},

    // The protocol's socket and the datagram sockets of the helper, all connected: no addresses, and no
    // sendmsg,
    // which could name one and pass descriptors.
    {SCMP_SYS(recvmsg), "protocol: descriptors come with it"},
    {SCMP_SYS(sendto), "send(2): protocol, log and notify datagrams", equals(4, 0)},
    {SCMP_SYS(send), "the same on 32-bit machines"},
    {SCMP_SYS(recvfrom), "recv(2): protocol"},
    {SCMP_SYS(recv), "the same on 32-bit machines"},
    {SCMP_SYS(poll), "wait for requests, pressure and signals at once"},
    {SCMP_SYS(ppoll), "the same, and poll(2) where there is no other"},
    {SCMP_SYS(ppoll_time64), "the same on 32-bit machines"},

    // Threads that were started before. The first two are what a new thread does before its own code: it may
    // not have
    // come so far when the filter is put on it.
    {SCMP_SYS(set_robust_list), "start of a thread"},
    {SCMP_SYS(rseq), "start of a thread"},
    {SCMP_SYS(prctl), "a thread names itself", equals(0, PR_SET_NAME)},
    {SCMP_SYS(futex), "locks, condition variables, join", futex_operation(FUTEX_WAIT)},
    {SCMP_SYS(futex), "the same, with a time limit", futex_operation(FUTEX_WAIT_BITSET)},
    {SCMP_SYS(futex), "the same", futex_operation(FUTEX_WAKE)},
    {SCMP_SYS(futex_time64), "the same on 32-bit machines", futex_operation(FUTEX_WAIT)},
    {SCMP_SYS(futex_time64), "the same on 32-bit machines", futex_operation(FUTEX_WAIT_BITSET)},
    {SCMP_SYS(futex_time64), "the same on 32-bit machines", futex_operation(FUTEX_WAKE)},
    {SCMP_SYS(sched_yield), "locks that spin"},
    {SCMP_SYS(gettid), "owner of a lock; abort"},
    {SCMP_SYS(exit), "end of a thread"},
    {SCMP_SYS(exit_group), "end of the server"},

    // libext2fs asks whether it runs with foreign rights before it looks at a variable of the environment.
    {SCMP_SYS(getuid), "libext2fs, when it opens a volume"},
    {SCMP_SYS(geteuid), "libext2fs, when it opens a volume"},
    {SCMP_SYS(getgid), "libext2fs, when it opens a volume"},
    {SCMP_SYS(getegid), "libext2fs, when it opens a volume"},
    {SCMP_SYS(getuid32), "the same on 32-bit machines"},
    {SCMP_SYS(geteuid32), "the same on 32-bit machines"},
    {SCMP_SYS(getgid32), "the same on 32-bit machines"},
    {SCMP_SYS(getegid32), "the same on 32-bit machines"},
    {SCMP_SYS(prctl), "libext2fs, when it opens a volume", equals(0, PR_GET_DUMPABLE)},

    // Time.
    {SCMP_SYS(clock_gettime), "time stamps, where the vDSO cannot"},
    {SCMP_SYS(clock_gettime64), "the same on 32-bit machines"},
    {SCMP_SYS(gettimeofday), "time(2), where the vDSO cannot"},
    {SCMP_SYS(time), "the same as x86's C library makes it: kernels without a vDSO, user-mode Linux"},
    {SCMP_SYS(clock_nanosleep), "sleeps of the write-back thread"},
    {SCMP_SYS(clock_nanosleep_time64), "the same on 32-bit machines"},
    {SCMP_SYS(restart_syscall), "the kernel's own, after a stop in the middle of a sleep"},
    {SCMP_SYS(getrandom), "generation numbers, hash seeds"},

    // Signals, and what abort(3) makes of itself. kill is absent; tgkill reaches no other process.
    {SCMP_SYS(rt_sigprocmask), "start and end of threads, abort"},
    {SCMP_SYS(rt_sigaction), "abort: back to the default action"},
    {SCMP_SYS(rt_sigreturn), "return from the handler of SIGTERM"},
    {SCMP_SYS(getpid), "abort"},
    {SCMP_SYS(tgkill), "abort; pthread_kill to end a worker's wait", own_process(0)},
};

// Where the kernel offers this mount iomap. By command, as above: elsewhere than on /dev/fuse they are none,
// and what their arguments name is one of our descriptors.
inline constexpr AllowedCall kIomapCalls[] = {
    {SCMP_SYS(ioctl), "/dev/fuse: the device that mappings are of", equals(1, iomap_abi::kIoctlBackingOpen)},
    {SCMP_SYS(ioctl), "/dev/fuse: allocations do not wait for file systems",
     equals(1, iomap_abi::kIoctlSetNoFs)},
};

#ifdef FUSE4FS_SANITIZED
// Test builds only: what the sanitizers' run-time libraries do beside the program.
inline constexpr AllowedCall kSanitizerCalls[] = {
    {SCMP_SYS(openat), "reports: /proc/self/maps, symbol files (in an empty root: ENOENT)"},
    {SCMP_SYS(open), "the same"},
    {SCMP_SYS(readlink), "reports: /proc/self/exe"},
    {SCMP_SYS(readlinkat), "the same"},
    {SCMP_SYS(newfstatat), "reports: is there such a file"},
    {SCMP_SYS(access), "reports: is there a symbolizer"},
    {SCMP_SYS(pipe2), "check of an object's type: is its memory readable"},
    {SCMP_SYS(pipe), "the same"},
    {SCMP_SYS(ioctl), "reports: is this a terminal", equals(1, TCGETS)},
    {SCMP_SYS(getrlimit), "size of a stack"},
    {SCMP_SYS(prlimit64), "size of a stack"},
    {SCMP_SYS(getrusage), "memory statistics"},
    {SCMP_SYS(sched_getaffinity), "count of processors; attributes of a thread"},
    {SCMP_SYS(sigaltstack), "end of a thread: its signal stack goes"},
    {SCMP_SYS(nanosleep), "locks that spin"},
    {SCMP_SYS(prctl), "is a memory range named"},
};
#endif

}  // namespace fuse4fs::sandbox::internal
