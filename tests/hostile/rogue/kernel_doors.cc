// SPDX-License-Identifier: GPL-2.0-or-later
// The large interfaces of the kernel, where its own faults were found most often.
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstdint>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

constexpr Behind kNoCapability = behind("no capabilities");

Verdict keyring(long operation) {
  constexpr long kSession = -3;
  return by_errno(::syscall(SYS_keyctl, operation, kSession, 0, 0, 0), "a keyring");
}

constexpr Attempt kTable[] = {
    {"bpf_program", "load a BPF program",
     [](Place&) {
       std::array<std::uint64_t, 2> exit{0xb7, 0x95};  // r0 = 0; exit
       bpf_attr attributes{};
       attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
       attributes.insns = reinterpret_cast<std::uintptr_t>(exit.data());
       attributes.insn_cnt = 2;
       attributes.license = reinterpret_cast<std::uintptr_t>("GPL");
       return by_errno(::syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes), "a program");
     },
     Expected::kKilled,
     filter_alone("a socket filter, where kernel.unprivileged_bpf_disabled is 0; else no capabilities")},
    {"bpf_map", "make a BPF map",
     [](Place&) {
       bpf_attr attributes{};
       attributes.map_type = BPF_MAP_TYPE_ARRAY;
       attributes.key_size = attributes.value_size = 4;
       attributes.max_entries = 1;
       return by_errno(::syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes), "a map");
     },
     Expected::kKilled,
     filter_alone("a map, where kernel.unprivileged_bpf_disabled is 0; else no capabilities")},
    {"bpf_of_others", "get at the BPF programs of others",
     [](Place&) {
       bpf_attr attributes{};
       return by_errno(::syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &attributes, sizeof attributes));
     },
     Expected::kKilled, kNoCapability},
    {"perf_events", "watch the whole machine with perf events",
     [](Place&) {
       perf_event_attr attributes{};
       attributes.size = sizeof attributes;
       attributes.type = PERF_TYPE_SOFTWARE;
       attributes.config = PERF_COUNT_SW_CPU_CLOCK;
       return by_errno(::syscall(SYS_perf_event_open, &attributes, -1, 0, -1, 0));
     },
     Expected::kKilled, behind("no capabilities (kernel.perf_event_paranoid above 0)")},
    {"io_uring", "system calls by io_uring, which no filter sees",
     [](Place&) {
       io_uring_params parameters{};
       return by_errno(::syscall(SYS_io_uring_setup, 4, &parameters), "a ring");
     },
     Expected::kKilled,
     filter_alone("a ring: calls on what it holds, opening stays forbidden by empty root and Landlock")},
    {"asynchronous_io", "asynchronous I/O",
     [](Place&) {
       unsigned long context = 0;
       return by_errno(::syscall(SYS_io_setup, 16, &context), "a context");
     },
     Expected::kKilled, filter_alone("reads and writes of what it holds")},
    {"userfaultfd", "hold the kernel up in its own page faults (userfaultfd)",
     [](Place&) { return by_errno(::syscall(SYS_userfaultfd, O_CLOEXEC)); }, Expected::kKilled,
     behind("no capabilities, vm.unprivileged_userfaultfd 0")},
    {"userfaultfd_user_mode", "userfaultfd of its own faults only",
     [](Place&) { return by_errno(::syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY), "its own page faults"); },
     Expected::kKilled, filter_alone("its own page faults")},
    {"add_key", "add a key to its session's keyring",
     [](Place&) { return by_errno(::syscall(SYS_add_key, "user", "rogue", "x", 1, -3), "a key"); },
     Expected::kKilled, filter_alone("a key of its own, in its own user's quota; unit: KeyringMode=private")},
    {"request_key", "have the kernel start a program for a key (request_key)",
     [](Place&) { return by_errno(::syscall(SYS_request_key, "user", "rogue", "x", -3)); }, Expected::kKilled,
     filter_alone("a key, if root's request-key program made one")},
    {"session_keyring", "join the caller's session keyring",
     [](Place&) { return keyring(KEYCTL_JOIN_SESSION_KEYRING); }, Expected::kKilled,
     filter_alone("an empty keyring of its own")},
    {"read_keyring", "read the keys of the session that mounted", [](Place&) { return keyring(KEYCTL_READ); },
     Expected::kKilled, filter_alone("the numbers of keys that it may see; unit: KeyringMode=private")},
    {"kernel_log", "read the kernel's log",
     [](Place&) {
       char bytes[64];
       return by_errno(::syscall(SYS_syslog, 3, bytes, sizeof bytes), "the kernel's log");
     },
     Expected::kKilled, filter_alone("the kernel's log, where kernel.dmesg_restrict is 0")},
    {"clear_kernel_log", "clear the kernel's log",
     [](Place&) { return by_errno(::syscall(SYS_syslog, 5, nullptr, 0)); }, Expected::kKilled, kNoCapability},
    {"landlock", "a rule set of its own, to allow what it may not",
     [](Place&) {
       std::uint64_t handled = 1;
       const auto rules =
           static_cast<int>(::syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0));
       if (rules < 0) return by_errno(-1);
       if (::syscall(SYS_landlock_restrict_self, rules, 0) != 0) return by_errno(-1);
       return by_errno(::open("/etc/passwd", O_RDONLY));
     },
     Expected::kKilled, behind("Landlock's rule sets only take away")},
    {"membarrier", "stop the processors again and again (membarrier)",
     [](Place&) { return by_errno(::syscall(SYS_membarrier, 1, 0, 0), "interrupts of other processors"); },
     Expected::kKilled, filter_alone("interrupts of other processors, as any process may")},
    {"numa_memory_of_others", "move the pages of other processes",
     [](Place&) {
       unsigned long nodes = 1;
       return by_errno(::syscall(SYS_migrate_pages, 1, 8, &nodes, &nodes) == 0 && ::getpid() == 1 ? 0 : -1,
                       "its own pages on another node");
     },
     Expected::kKilled, filter_alone("its own pages on another node")},
    {"vmsplice", "give its pages to another's pipe (vmsplice)",
     [](Place& place) {
       char page[64] = {};
       const iovec piece{page, sizeof page};
       return by_errno(::syscall(SYS_vmsplice, place.socket, &piece, 1, 0));
     },
     Expected::kKilled, behind("it holds no pipe to write to but standard error")},
    {"cookie_of_directory", "ask for a directory cookie (lookup_dcookie)",
     [](Place&) {
       char bytes[64];
       return by_errno(::syscall(SYS_lookup_dcookie, 1, bytes, sizeof bytes));
     },
     Expected::kKilled, kNoCapability},
};

}  // namespace

constinit const Theme kKernelDoors{"The kernel's large interfaces", kTable};

}  // namespace fuse4fs::rogue
