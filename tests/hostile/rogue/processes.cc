// SPDX-License-Identifier: GPL-2.0-or-later
// Other processes: seeing them, reading them, stopping them, making them.
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>

#include "tests/hostile/rogue/any_process.h"
#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

constexpr Behind kOthers = behind("pid namespace (standalone), a user id of its own, Landlock's scope");

constexpr Attempt kTable[] = {
    {"kill_any", "signal any process that has a number",
     [](Place&) { return on_any_process([](pid_t pid) { return ::kill(pid, 0); }); }, Expected::kKilled,
     kOthers},
    {"kill_all", "signal all processes at once",
     [](Place&) { return by_errno(::kill(-1, 0), "some process"); }, Expected::kKilled, kOthers},
    {"kill_group", "signal the process group of whoever started it",
     [](Place&) { return on_any_process([](pid_t pid) { return ::kill(-pid, 0); }); }, Expected::kKilled,
     kOthers},
    {"tkill_any", "signal any thread",
     [](Place&) { return on_any_process([](pid_t pid) { return ::syscall(SYS_tkill, pid, 0); }); },
     Expected::kKilled, kOthers},
    {"tgkill_of_another", "tgkill another process",
     [](Place&) { return on_any_process([](pid_t pid) { return ::syscall(SYS_tgkill, pid, pid, 0); }); },
     Expected::kKilled, kOthers},
    {"tgkill_own_group_foreign_thread", "tgkill with its own process number and a foreign thread's",
     [](Place&) {
       // The filter lets its own process number pass: the kernel must see that the thread is another's.
       return on_any_process([](pid_t thread) { return ::syscall(SYS_tgkill, ::getpid(), thread, 0); });
     },
     Expected::kErrno, behind("the kernel: no such thread in this process")},
    {"queue_signal", "queue a signal to any process",
     [](Place&) {
       return on_any_process([](pid_t pid) {
         siginfo_t info{};
         info.si_code = SI_QUEUE;
         return ::syscall(SYS_rt_sigqueueinfo, pid, 0, &info);
       });
     },
     Expected::kKilled, kOthers},
    {"pidfd_signal", "open any process as a pidfd and signal it",
     [](Place&) {
       return on_any_process([](pid_t pid) -> long {
         const auto fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
         if (fd < 0) return -1;
         return ::syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0);
       });
     },
     Expected::kKilled, kOthers},
    {"pidfd_getfd", "take a descriptor out of another process",
     [](Place&) {
       return on_any_process([](pid_t pid) -> long {
         const auto fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
         if (fd < 0) return -1;
         return ::syscall(SYS_pidfd_getfd, fd, 0, 0);
       });
     },
     Expected::kKilled, kOthers},
    {"ptrace_attach", "trace any process",
     [](Place&) {
       return on_any_process([](pid_t pid) { return ::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr); });
     },
     Expected::kKilled, kOthers},
    {"read_memory_of_others", "read the memory of any process",
     [](Place&) {
       return on_any_process([](pid_t pid) {
         char byte = 0;
         iovec here{&byte, 1};
         iovec there{reinterpret_cast<void*>(0x10000), 1};
         return ::process_vm_readv(pid, &here, 1, &there, 1, 0);
       });
     },
     Expected::kKilled, kOthers},
    {"write_memory_of_others", "write the memory of any process",
     [](Place&) {
       return on_any_process([](pid_t pid) {
         char byte = 0;
         iovec here{&byte, 1};
         iovec there{reinterpret_cast<void*>(0x10000), 1};
         return ::process_vm_writev(pid, &here, 1, &there, 1, 0);
       });
     },
     Expected::kKilled, kOthers},
    {"compare_with_others", "compare its descriptors with another process's (kcmp)",
     [](Place&) {
       return on_any_process([](pid_t pid) { return ::syscall(SYS_kcmp, ::getpid(), pid, 0, 0, 0); });
     },
     Expected::kKilled, kOthers},
    {"advise_memory_of_others", "page another process out (process_madvise)",
     [](Place&) {
       return on_any_process([](pid_t pid) -> long {
         const auto fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
         if (fd < 0) return -1;
         iovec there{reinterpret_cast<void*>(0x10000), 4096};
         return ::syscall(SYS_process_madvise, fd, &there, 1, MADV_COLD, 0);
       });
     },
     Expected::kKilled, kOthers},
    {"lock_of_another_thread", "make a foreign thread the owner of a priority-inheriting futex",
     [](Place&) {
       return on_any_process([](pid_t thread) -> long {
         auto word = static_cast<std::uint32_t>(thread);
         const timespec past{};
         // FUTEX_LOCK_PI: ESRCH where there is no such thread, ETIMEDOUT where it became the owner.
         const long result = ::syscall(SYS_futex, &word, 6, 0, &past, nullptr, 0);
         return result < 0 && errno == ETIMEDOUT ? 0 : result;
       });
     },
     Expected::kKilled, filter_alone("to learn which threads there are; standalone it sees none")},
    {"fork", "make a process", [](Place&) { return by_errno(::syscall(SYS_fork)); }, Expected::kKilled,
     behind("RLIMIT_NPROC 0")},
    {"vfork", "make a process by vfork",
     [](Place&) { return by_errno(::syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)); },
     Expected::kKilled, behind("RLIMIT_NPROC 0")},
    {"clone_thread", "make threads without end",
     [](Place&) {
       constexpr unsigned long kThread =
           CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
       return by_errno(::syscall(SYS_clone, kThread, nullptr, nullptr, nullptr, nullptr));
     },
     Expected::kKilled, behind("RLIMIT_NPROC 0")},
    {"clone3", "make a process by clone3",
     [](Place&) {
       clone_args arguments{};
       arguments.exit_signal = SIGCHLD;
       return by_errno(::syscall(SYS_clone3, &arguments, sizeof arguments));
     },
     Expected::kKilled, behind("RLIMIT_NPROC 0")},
    {"clone_as_sibling", "make a child of whoever started it (CLONE_PARENT)",
     [](Place&) { return by_errno(::syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)); },
     Expected::kKilled,
     behind("RLIMIT_NPROC 0; the kernel refuses it to the first process of a pid namespace")},
    {"exec_shell", "execute /bin/sh",
     [](Place&) {
       char* const nothing[] = {nullptr};
       return by_errno(::execve("/bin/sh", nothing, nothing));
     },
     Expected::kKilled, behind("empty root, Landlock, no_new_privs")},
    {"exec_memory_file", "write a program into a memory file and execute it",
     [](Place&) {
       const int file = ::memfd_create("program", 0);
       if (file < 0) return by_errno(-1);
       (void)!::write(file, "#!/bin/sh\n", 10);
       char* const nothing[] = {nullptr};
       return by_errno(::syscall(SYS_execveat, file, "", nothing, nothing, AT_EMPTY_PATH));
     },
     Expected::kKilled, behind("no interpreter in the empty root; no_new_privs")},
    {"exec_by_device", "execute the device's contents",
     [](Place& place) {
       char* const nothing[] = {nullptr};
       return by_errno(::syscall(SYS_execveat, place.device, "", nothing, nothing, AT_EMPTY_PATH));
     },
     Expected::kKilled, behind("the kernel executes regular files only")},
    {"wait_for_others", "wait for another process",
     [](Place&) { return by_errno(::waitpid(-1, nullptr, WNOHANG)); }, Expected::kKilled,
     behind("it has no children")},
    {"lower_priority_of_others", "slow all processes of its user down",
     [](Place&) {
       return on_any_process(
           [](pid_t pid) { return ::setpriority(PRIO_PROCESS, static_cast<id_t>(pid), 19); });
     },
     Expected::kKilled, kOthers},
    {"raise_own_priority", "take the processor with a higher priority",
     [](Place&) { return by_errno(::setpriority(PRIO_PROCESS, 0, -20)); }, Expected::kKilled,
     behind("no capabilities, RLIMIT_NICE 0")},
    {"realtime", "become a real-time process",
     [](Place&) {
       const sched_param parameters{.sched_priority = 99};
       return by_errno(::sched_setscheduler(0, SCHED_FIFO, &parameters));
     },
     Expected::kKilled, behind("no capabilities, RLIMIT_RTPRIO 0")},
    {"pin_others", "move other processes to one processor",
     [](Place&) {
       return on_any_process([](pid_t pid) {
         cpu_set_t one;
         CPU_ZERO(&one);
         CPU_SET(0, &one);
         return ::sched_setaffinity(pid, sizeof one, &one);
       });
     },
     Expected::kKilled, kOthers},
    {"limits_of_others", "change the limits of another process",
     [](Place&) {
       return on_any_process([](pid_t pid) {
         const rlimit none{0, 0};
         return ::prlimit(pid, RLIMIT_CPU, &none, nullptr);
       });
     },
     Expected::kKilled, kOthers},
    {"raise_own_limits", "raise its own limits",
     [](Place&) {
       const rlimit many{1 << 20, 1 << 20};
       return by_errno(::prlimit(0, RLIMIT_NOFILE, &many, nullptr));
     },
     Expected::kKilled, behind("hard limits, no capabilities")},
    {"timer_for_another", "a timer that signals another thread",
     [](Place&) {
       return on_any_process([](pid_t pid) {
         sigevent event{};
         event.sigev_notify = SIGEV_THREAD_ID;
         event.sigev_signo = SIGKILL;
         event._sigev_un._tid = pid;
         int timer = 0;
         return ::syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer);
       });
     },
     Expected::kKilled, behind("the kernel: threads of the same process only")},
    {"wake_the_machine", "a timer that wakes the machine from sleep",
     [](Place&) { return by_errno(::timerfd_create(CLOCK_REALTIME_ALARM, 0)); }, Expected::kKilled,
     behind("no capabilities")},
};

}  // namespace

constinit const Theme kProcesses{"Other processes", kTable};

}  // namespace fuse4fs::rogue
