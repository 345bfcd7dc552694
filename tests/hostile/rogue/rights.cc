// SPDX-License-Identifier: GPL-2.0-or-later
// Getting rights back: user ids, capabilities, namespaces, and taking the confinement off.
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

Verdict new_namespace(int flags) { return by_errno(::syscall(SYS_unshare, flags), "a namespace"); }

constexpr Behind kNoCapability = behind("no capabilities");
// A user namespace needs none, but inside one that maps a single user it gives nothing over what is outside.
constexpr Behind kUserNamespace =
    filter_alone("capabilities over namespaces of its own; unit: RestrictNamespaces=");

constexpr Attempt kTable[] = {
    {"become_root", "setresuid to root", [](Place&) { return by_errno(::syscall(SYS_setresuid, 0, 0, 0)); },
     Expected::kKilled, behind("no capabilities, no such user in its namespace")},
    {"become_root_group", "setresgid to root's group",
     [](Place&) { return by_errno(::syscall(SYS_setresgid, 0, 0, 0)); }, Expected::kKilled,
     behind("no capabilities, no such group in its namespace")},
    {"file_system_user", "setfsuid to root",
     [](Place&) {
       ::syscall(SYS_setfsuid, 0);
       // The answer is the former one; a second call tells.
       if (::syscall(SYS_setfsuid, -1) == 0) return succeeded("root's files");
       errno = EPERM;
       return by_errno(-1);
     },
     Expected::kKilled, kNoCapability},
    {"take_groups", "join the group disk",
     [](Place&) {
       const gid_t disk = 6;
       return by_errno(::syscall(SYS_setgroups, 1, &disk));
     },
     Expected::kKilled, kNoCapability},
    {"take_capabilities", "capset all capabilities",
     [](Place&) {
       __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
       __user_cap_data_struct sets[2];
       std::memset(sets, 0xff, sizeof sets);
       return by_errno(::syscall(SYS_capset, &header, sets));
     },
     Expected::kKilled, behind("empty permitted set")},
    {"raise_ambient", "raise CAP_SYS_ADMIN into the ambient set",
     [](Place&) { return by_errno(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0)); },
     Expected::kKilled, behind("empty permitted set")},
    {"unlock_securebits", "unlock the secure bits",
     [](Place&) { return by_errno(::prctl(PR_SET_SECUREBITS, 0, 0, 0, 0)); }, Expected::kKilled,
     kNoCapability},
    {"drop_no_new_privs", "switch no_new_privs off",
     [](Place&) { return by_errno(::prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); }, Expected::kKilled,
     behind("the kernel: it cannot be switched off")},
    {"drop_filter", "go back to no system-call filter",
     [](Place&) { return by_errno(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_DISABLED, 0, 0, 0)); },
     Expected::kKilled, behind("the kernel: it cannot be taken off")},
    {"add_filter", "put a filter of its own on top, that lets everything pass",
     [](Place&) {
       sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
       const sock_fprog program{1, allow};
       return by_errno(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
     },
     Expected::kKilled, filter_alone("a further filter; the strictest of all counts")},
    {"add_filter_with_listener", "a filter that hands its system calls to somebody else",
     [](Place&) {
       // One call only: this process still has to say how it went.
       sock_filter hand_over[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                                  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
                                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
                                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
       const sock_fprog program{4, hand_over};
       return by_errno(
           ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
     },
     Expected::kKilled, filter_alone("system calls that hang")},
    {"make_dumpable", "make itself dumpable, to leave a core",
     [](Place&) { return by_errno(::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }, Expected::kKilled,
     filter_alone("a core of itself; RLIMIT_CORE is 0")},
    {"name_a_tracer", "let any process trace it",
     [](Place&) { return by_errno(::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)); }, Expected::kKilled,
     filter_alone("a tracer that may have it")},
    {"adopt_orphans", "become the reaper of orphans",
     [](Place&) { return by_errno(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)); }, Expected::kKilled,
     filter_alone("children, which it cannot have")},
    {"signal_at_parents_end", "be signalled when its parent ends",
     [](Place&) { return by_errno(::prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)); }, Expected::kKilled,
     filter_alone("a signal to itself")},
    {"show_other_arguments", "put its command line elsewhere (PR_SET_MM)",
     [](Place&) { return by_errno(::prctl(PR_SET_MM, PR_SET_MM_ARG_START, 0x10000, 0, 0)); },
     Expected::kKilled, kNoCapability},
    {"io_flusher", "become a process that memory pressure spares (PR_SET_IO_FLUSHER)",
     [](Place&) { return by_errno(::prctl(57, 1, 0, 0, 0)); }, Expected::kKilled, kNoCapability},
    {"take_another_name", "show another program's name in ps",
     [](Place&) {
       return by_errno(::prctl(PR_SET_NAME, "systemd", 0, 0, 0),
                       "another name in ps; its user and its title stay");
     },
     Expected::kAllowed, behind("a name is no right")},
    {"personality_of_old_programs", "have everything readable be executable (READ_IMPLIES_EXEC)",
     [](Place&) {
       if (::personality(READ_IMPLIES_EXEC) < 0) return by_errno(-1);
       return succeeded("executable memory");
     },
     Expected::kKilled, filter_alone("executable memory; unit: MemoryDenyWriteExecute=, LockPersonality=")},
    {"no_address_randomisation", "switch address randomisation off for what it executes",
     [](Place&) { return by_errno(::personality(ADDR_NO_RANDOMIZE)); }, Expected::kKilled,
     filter_alone("nothing without an exec")},
    {"new_user_namespace", "a user namespace, for capabilities in it",
     [](Place&) { return new_namespace(CLONE_NEWUSER); }, Expected::kKilled, kUserNamespace},
    {"new_user_and_mount_namespace", "a user and a mount namespace",
     [](Place&) { return new_namespace(CLONE_NEWUSER | CLONE_NEWNS); }, Expected::kKilled, kUserNamespace},
    {"new_mount_namespace", "a mount namespace", [](Place&) { return new_namespace(CLONE_NEWNS); },
     Expected::kKilled, kNoCapability},
    {"new_network_namespace", "a network namespace", [](Place&) { return new_namespace(CLONE_NEWNET); },
     Expected::kKilled, kNoCapability},
    {"new_pid_namespace", "a pid namespace", [](Place&) { return new_namespace(CLONE_NEWPID); },
     Expected::kKilled, kNoCapability},
    {"new_cgroup_namespace", "a cgroup namespace", [](Place&) { return new_namespace(CLONE_NEWCGROUP); },
     Expected::kKilled, kNoCapability},
    {"new_time_namespace", "a time namespace", [](Place&) { return new_namespace(0x80); }, Expected::kKilled,
     kNoCapability},
    {"clone_user_namespace", "a child in a user namespace",
     [](Place&) { return by_errno(::syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0)); }, Expected::kKilled,
     behind("RLIMIT_NPROC 0")},
    {"clone3_into_cgroup", "a child in another cgroup",
     [](Place& place) {
       clone_args arguments{};
       arguments.flags = CLONE_INTO_CGROUP;
       arguments.exit_signal = 17;
       arguments.cgroup = static_cast<std::uint64_t>(place.device);
       return by_errno(::syscall(SYS_clone3, &arguments, sizeof arguments));
     },
     Expected::kKilled, behind("no descriptor of a cgroup, RLIMIT_NPROC 0")},
    {"join_namespace_of_descriptor", "setns with a descriptor that it holds",
     [](Place& place) { return by_errno(::setns(place.fuse, 0)); }, Expected::kKilled,
     behind("no descriptor of a namespace, no capabilities")},
    {"join_namespaces_of_process", "setns into the namespaces of process 1",
     [](Place&) {
       const auto process = static_cast<int>(::syscall(SYS_pidfd_open, 1, 0));
       if (process < 0) return by_errno(-1);
       return by_errno(::setns(process, CLONE_NEWNS | CLONE_NEWPID));
     },
     Expected::kKilled, behind("no capabilities")},
    {"rename_machine", "give the machine another name",
     [](Place&) { return by_errno(::sethostname("rogue", 5)); }, Expected::kKilled,
     behind("no capabilities, a UTS namespace of its own")},
};

}  // namespace

constinit const Theme kRights{"Rights and namespaces", kTable};

}  // namespace fuse4fs::rogue
