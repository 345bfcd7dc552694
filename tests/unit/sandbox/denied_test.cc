// SPDX-License-Identifier: GPL-2.0-or-later
// What the filter denies: each call, made in a process that has entered the sandbox, is its end by SIGSYS.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/futex.h>
#include <linux/loop.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ostream>

#include "child.h"

namespace fuse4fs::sandbox::test {
namespace {

// Present where the system's headers are older than the kernel.
constexpr long kFchmodat2 = 452;
constexpr long kMapShadowStack = 453;

enum class InSanitizedBuild { kDeniedToo, kAllowed };

struct DeniedCall {
  const char* name;
  void (*call)(int device, int socket);
  InSanitizedBuild in_sanitized_build = InSanitizedBuild::kDeniedToo;
};
void PrintTo(const DeniedCall& denied, std::ostream* out) { *out << denied.name; }

template <class... Args>
void raw(long number, Args... args) {
  ::syscall(number, args...);
}

class Kills : public testing::TestWithParam<DeniedCall> {};

TEST_P(Kills, On) {
#ifdef FUSE4FS_SANITIZED
  if (GetParam().in_sanitized_build == InSanitizedBuild::kAllowed) {
    GTEST_SKIP() << "the sanitizers' run-time library needs this call; other builds deny it";
  }
#endif
  LoopDevice device;
  SocketPair sockets;
  Child child(Start::kOwnNamespaces, [&] {
    enter_or_end({.kept_descriptors = {device.fd(), sockets.child.get()}, .start_threads = {}});
    // So that nobody takes an end on the way in for a denial.
    REQUIRE(::write(sockets.child.get(), "e", 1) == 1);
    GetParam().call(device.fd(), sockets.child.get());
  });
  sockets.child.reset();
  char entered = 0;
  ASSERT_EQ(::read(sockets.parent.get(), &entered, 1), 1);
  const int status = child.wait();
  EXPECT_TRUE(was_killed_by_filter(status)) << describe(status);
}

char page[4096];

constexpr DeniedCall kDenied[] = {
    // Names
    {"open", [](int, int) { raw(SYS_open, "/etc/passwd", O_RDONLY); }, InSanitizedBuild::kAllowed},
    {"openat", [](int, int) { raw(SYS_openat, AT_FDCWD, "/", O_RDONLY); }, InSanitizedBuild::kAllowed},
    {"openat2", [](int, int) { raw(SYS_openat2, AT_FDCWD, "/", page, 24); }},
    {"creat", [](int, int) { raw(SYS_creat, "/x", 0600); }},
    {"readlink", [](int, int) { raw(SYS_readlink, "/x", page, 10); }, InSanitizedBuild::kAllowed},
    {"stat", [](int, int) { raw(SYS_stat, "/", page); }},
    {"statx", [](int, int) { raw(SYS_statx, AT_FDCWD, "/", 0, 0, page); }},
    {"newfstatat_with_a_name",
     [](int, int) { raw(SYS_newfstatat, AT_FDCWD, "/", page, 0); },
     InSanitizedBuild::kAllowed},
    {"access", [](int, int) { raw(SYS_access, "/", R_OK); }, InSanitizedBuild::kAllowed},
    {"unlinkat", [](int, int) { raw(SYS_unlinkat, AT_FDCWD, "/x", 0); }},
    {"mkdirat", [](int, int) { raw(SYS_mkdirat, AT_FDCWD, "/x", 0700); }},
    {"mknodat", [](int, int) { raw(SYS_mknodat, AT_FDCWD, "/x", S_IFBLK | 0600, 0x800); }},
    {"symlinkat", [](int, int) { raw(SYS_symlinkat, "x", AT_FDCWD, "/x"); }},
    {"renameat2", [](int, int) { raw(SYS_renameat2, AT_FDCWD, "/x", AT_FDCWD, "/y", 0); }},
    {"chdir", [](int, int) { raw(SYS_chdir, "/"); }},
    {"fchdir", [](int device, int) { raw(SYS_fchdir, device); }},
    {"chroot", [](int, int) { raw(SYS_chroot, "/"); }},
    {"fchmod", [](int device, int) { raw(SYS_fchmod, device, 0666); }},
    {"fchmodat2", [](int device, int) { raw(kFchmodat2, device, "", 0666, AT_EMPTY_PATH); }},
    {"fallocate", [](int device, int) { raw(SYS_fallocate, device, FALLOC_FL_KEEP_SIZE, 0L, 4096L); }},
    {"ftruncate", [](int device, int) { raw(SYS_ftruncate, device, 0L); }},
    {"getdents64", [](int, int) { raw(SYS_getdents64, 0, page, sizeof(page)); }},
    {"open_by_handle_at", [](int device, int) { raw(SYS_open_by_handle_at, device, page, O_RDONLY); }},
    {"memfd_create", [](int, int) { raw(SYS_memfd_create, "x", 0); }},
    {"inotify_init1", [](int, int) { raw(SYS_inotify_init1, 0); }},
    {"fanotify_init", [](int, int) { raw(SYS_fanotify_init, 0, 0); }},

    // Descriptors
    {"dup", [](int device, int) { raw(SYS_dup, device); }},
    {"dup2", [](int device, int) { raw(SYS_dup2, device, 1); }},
    {"fcntl_F_DUPFD", [](int device, int) { raw(SYS_fcntl, device, F_DUPFD, 0); }},
    {"fcntl_F_SETFL", [](int device, int) { raw(SYS_fcntl, device, F_SETFL, O_ASYNC); }},
    {"fcntl_F_SETOWN", [](int device, int) { raw(SYS_fcntl, device, F_SETOWN, 1); }},
    {"pipe2", [](int, int) { raw(SYS_pipe2, page, 0); }, InSanitizedBuild::kAllowed},
    {"splice", [](int device, int socket) { raw(SYS_splice, device, nullptr, socket, nullptr, 1, 0); }},
    {"sendfile", [](int device, int socket) { raw(SYS_sendfile, socket, device, nullptr, 1); }},

    // Processes
    {"fork", [](int, int) { raw(SYS_fork); }},
    {"vfork", [](int, int) { raw(SYS_vfork); }},
    {"clone", [](int, int) { raw(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr); }},
    {"clone3", [](int, int) { raw(SYS_clone3, page, 64); }},
    {"execve", [](int, int) { raw(SYS_execve, "/bin/sh", nullptr, nullptr); }},
    {"execveat", [](int device, int) { raw(SYS_execveat, device, "", nullptr, nullptr, AT_EMPTY_PATH); }},
    {"kill", [](int, int) { raw(SYS_kill, ::getppid(), 0); }},
    {"kill_itself", [](int, int) { raw(SYS_kill, ::getpid(), 0); }},
    {"kill_all", [](int, int) { raw(SYS_kill, -1, 0); }},
    {"tkill", [](int, int) { raw(SYS_tkill, ::gettid(), 0); }},
    {"tgkill_of_another_process", [](int, int) { raw(SYS_tgkill, ::getpid() + 1, ::getpid() + 1, 0); }},
    {"futex_that_lends_a_priority", [](int, int) { raw(SYS_futex, page, FUTEX_LOCK_PI, 0, nullptr, nullptr, 0); }},
    {"futex_with_upper_bits",
     [](int, int) { raw(SYS_futex, page, (1L << 32) | FUTEX_WAKE, 1, nullptr, nullptr, 0); }},
    {"rt_sigqueueinfo", [](int, int) { raw(SYS_rt_sigqueueinfo, ::getpid(), 0, page); }},
    {"pidfd_open", [](int, int) { raw(SYS_pidfd_open, 1, 0); }},
    {"pidfd_getfd", [](int device, int) { raw(SYS_pidfd_getfd, device, 0, 0); }},
    {"ptrace", [](int, int) { raw(SYS_ptrace, 0, 0, 0, 0); }},
    {"process_vm_readv", [](int, int) { raw(SYS_process_vm_readv, 1, nullptr, 0, nullptr, 0, 0); }},
    {"process_vm_writev", [](int, int) { raw(SYS_process_vm_writev, 1, nullptr, 0, nullptr, 0, 0); }},
    {"setpriority", [](int, int) { raw(SYS_setpriority, 0, 0, 19); }},
    {"wait4", [](int, int) { raw(SYS_wait4, -1, nullptr, 0, nullptr); }},

    // Rights
    {"setresuid", [](int, int) { raw(SYS_setresuid, 0, 0, 0); }},
    {"setgroups", [](int, int) { raw(SYS_setgroups, 0, nullptr); }},
    {"capset", [](int, int) { raw(SYS_capset, page, page); }},
    {"unshare", [](int, int) { raw(SYS_unshare, CLONE_NEWUSER); }},
    {"setns", [](int device, int) { raw(SYS_setns, device, 0); }},
    {"seccomp", [](int, int) { raw(SYS_seccomp, 0, 0, nullptr); }},
    {"personality", [](int, int) { raw(SYS_personality, 0x0400000); }},
    {"setrlimit", [](int, int) { raw(SYS_setrlimit, 0, page); }},
    {"prctl_other_than_the_name",
     [](int, int) { raw(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0); },
     InSanitizedBuild::kAllowed},
    {"keyctl", [](int, int) { raw(SYS_keyctl, 0, 0, 0); }},
    {"add_key", [](int, int) { raw(SYS_add_key, "user", "x", "x", 1, -3); }},

    // Mounts and the machine
    {"mount", [](int, int) { raw(SYS_mount, "x", "/", "tmpfs", 0, nullptr); }},
    {"umount2", [](int, int) { raw(SYS_umount2, "/", MNT_DETACH); }},
    {"pivot_root", [](int, int) { raw(SYS_pivot_root, ".", "."); }},
    {"fsopen", [](int, int) { raw(SYS_fsopen, "tmpfs", 0); }},
    {"open_tree", [](int, int) { raw(SYS_open_tree, AT_FDCWD, "/", 1); }},
    {"move_mount", [](int device, int) { raw(SYS_move_mount, device, "", device, "", 0); }},
    {"mount_setattr", [](int, int) { raw(SYS_mount_setattr, AT_FDCWD, "/", 0, page, 32); }},
    {"swapon", [](int, int) { raw(SYS_swapon, "/x", 0); }},
    {"reboot", [](int, int) { raw(SYS_reboot, 0, 0, 0, 0); }},
    {"init_module", [](int, int) { raw(SYS_init_module, page, 1, ""); }},
    {"finit_module", [](int device, int) { raw(SYS_finit_module, device, "", 0); }},
    {"kexec_load", [](int, int) { raw(SYS_kexec_load, 0, 0, nullptr, 0); }},
    {"syslog", [](int, int) { raw(SYS_syslog, 3, page, 10); }},
    {"clock_settime", [](int, int) { raw(SYS_clock_settime, 0, page); }},
    {"sethostname", [](int, int) { raw(SYS_sethostname, "x", 1); }},
    {"quotactl", [](int, int) { raw(SYS_quotactl, 0, "/x", 0, page); }},

    // Sockets
    {"socket_inet", [](int, int) { raw(SYS_socket, AF_INET, SOCK_STREAM, 0); }},
    {"socket_netlink", [](int, int) { raw(SYS_socket, AF_NETLINK, SOCK_RAW, 0); }},
    {"socket_unix", [](int, int) { raw(SYS_socket, AF_UNIX, SOCK_DGRAM, 0); }},
    {"socketpair", [](int, int) { raw(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, page); }},
    {"connect", [](int, int socket) { raw(SYS_connect, socket, page, 16); }},
    {"bind", [](int, int socket) { raw(SYS_bind, socket, page, 16); }},
    {"listen", [](int, int socket) { raw(SYS_listen, socket, 1); }},
    {"accept4", [](int, int socket) { raw(SYS_accept4, socket, nullptr, nullptr, 0); }},
    {"setsockopt", [](int, int socket) { raw(SYS_setsockopt, socket, SOL_SOCKET, SO_SNDBUF, page, 4); }},
    {"sendmsg",
     [](int, int socket) {
       msghdr message{};
       raw(SYS_sendmsg, socket, &message, 0);
     }},
    {"sendmmsg", [](int, int socket) { raw(SYS_sendmmsg, socket, page, 1, 0); }},
    {"sendto_an_address", [](int, int socket) { raw(SYS_sendto, socket, "x", 1, 0, page, 16); }},

    // Memory
    {"mmap_executable",
     [](int, int) {
       raw(SYS_mmap, nullptr, 4096L, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
     }},
    {"mmap_shared",
     [](int, int) {
       raw(SYS_mmap, nullptr, 4096L, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0L);
     }},
    {"mmap_of_the_device",
     [](int device, int) { raw(SYS_mmap, nullptr, 4096L, PROT_READ, MAP_SHARED, device, 0L); }},
    {"mprotect_executable",
     [](int, int) {
       void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       raw(SYS_mprotect, memory, 4096L, PROT_READ | PROT_EXEC);
     }},
    {"pkey_mprotect", [](int, int) { raw(SYS_pkey_mprotect, page, 4096L, PROT_READ, -1); }},
    {"remap_file_pages", [](int, int) { raw(SYS_remap_file_pages, page, 4096L, 0, 0, 0); }},
    {"map_shadow_stack", [](int, int) { raw(kMapShadowStack, 0, 4096L, 0); }},
    {"shmget", [](int, int) { raw(SYS_shmget, 0, 4096, 0600); }},
    {"userfaultfd", [](int, int) { raw(SYS_userfaultfd, 0); }},
    {"mlock", [](int, int) { raw(SYS_mlock, page, 4096L); }},

    // Large doors into the kernel
    {"io_uring_setup", [](int, int) { raw(SYS_io_uring_setup, 1, page); }},
    {"io_setup", [](int, int) { raw(SYS_io_setup, 1, page); }},
    {"bpf", [](int, int) { raw(SYS_bpf, 0, page, 48); }},
    {"perf_event_open", [](int, int) { raw(SYS_perf_event_open, page, 0, -1, -1, 0); }},
    {"modify_ldt", [](int, int) { raw(SYS_modify_ldt, 0, page, 16); }},
    {"timer_create", [](int, int) { raw(SYS_timer_create, 0, nullptr, page); }},

    // ioctl by command: the loop device obeys any user who holds it
    {"LOOP_SET_STATUS64", [](int device, int) { raw(SYS_ioctl, device, LOOP_SET_STATUS64, page); }},
    {"LOOP_SET_STATUS", [](int device, int) { raw(SYS_ioctl, device, LOOP_SET_STATUS, page); }},
    {"LOOP_GET_STATUS64", [](int device, int) { raw(SYS_ioctl, device, LOOP_GET_STATUS64, page); }},
    {"LOOP_SET_FD", [](int device, int) { raw(SYS_ioctl, device, LOOP_SET_FD, device); }},
    {"LOOP_CLR_FD", [](int device, int) { raw(SYS_ioctl, device, LOOP_CLR_FD, 0); }},
    {"LOOP_CHANGE_FD", [](int device, int) { raw(SYS_ioctl, device, LOOP_CHANGE_FD, device); }},
    {"LOOP_CONFIGURE", [](int device, int) { raw(SYS_ioctl, device, LOOP_CONFIGURE, page); }},
    {"LOOP_SET_CAPACITY", [](int device, int) { raw(SYS_ioctl, device, LOOP_SET_CAPACITY, 0); }},
    {"LOOP_SET_DIRECT_IO", [](int device, int) { raw(SYS_ioctl, device, LOOP_SET_DIRECT_IO, 1L); }},
    {"LOOP_SET_BLOCK_SIZE", [](int device, int) { raw(SYS_ioctl, device, LOOP_SET_BLOCK_SIZE, 4096L); }},
    {"BLKROSET", [](int device, int) { raw(SYS_ioctl, device, BLKROSET, page); }},
    {"BLKRRPART", [](int device, int) { raw(SYS_ioctl, device, BLKRRPART, 0); }},
    {"BLKFLSBUF", [](int device, int) { raw(SYS_ioctl, device, BLKFLSBUF, 0); }},
    {"BLKBSZSET", [](int device, int) { raw(SYS_ioctl, device, BLKBSZSET, page); }},
    {"FUSE_DEV_IOC_CLONE", [](int device, int) { raw(SYS_ioctl, device, FUSE_DEV_IOC_CLONE, page); }},
    {"TIOCSTI", [](int, int) { raw(SYS_ioctl, 2, TIOCSTI, "x"); }},
    // The kernel looks at the lower half of the command only; the filter must not let the upper one hide it.
    {"LOOP_CLR_FD_with_upper_bits",
     [](int device, int) { raw(SYS_ioctl, device, (1L << 32) | LOOP_CLR_FD, 0); }},

#ifdef __x86_64__
    // Other calling conventions have other numbers: 20 is getpid for a 32-bit program, writev for us.
    {"a_call_of_the_32_bit_table",
     [](int, int) {
       long result = 20;
       asm volatile("int $0x80" : "+a"(result) : : "memory");
     }},
    {"a_call_of_the_x32_table", [](int, int) { raw(0x40000000L | SYS_getpid); }},
#endif
    {"a_number_without_a_call", [](int, int) { raw(1000L); }},
};

INSTANTIATE_TEST_SUITE_P(Sandbox, Kills, testing::ValuesIn(kDenied),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::sandbox::test
