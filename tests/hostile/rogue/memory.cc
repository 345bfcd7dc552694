// SPDX-License-Identifier: GPL-2.0-or-later
// Memory that can be executed, the system calls of other tables, and using all memory up.
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

constexpr unsigned char kReturn42[] = {0xb8, 42, 0, 0, 0, 0xc3};  // mov eax, 42; ret

Verdict run_code(void* memory) {
  if (memory == MAP_FAILED) return by_errno(-1);
  std::memcpy(memory, kReturn42, sizeof kReturn42);
  return succeeded(reinterpret_cast<int (*)()>(memory)() == 42 ? "code of its own" : "executable memory");
}

void* map(int protection) { return ::mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

constexpr int kAll = PROT_READ | PROT_WRITE | PROT_EXEC;
constexpr Behind kCode = filter_alone("code of its own; unit: MemoryDenyWriteExecute=");

// Address space alone counts: nothing is touched, the machine has other work.
Verdict take_memory() {
  constexpr std::size_t kPiece = std::size_t{1} << 30;
  constexpr int kPieces = 256;
  for (int i = 0; i < kPieces; ++i)
    if (::mmap(nullptr, kPiece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) ==
        MAP_FAILED)
      return by_errno(-1);
  return succeeded("256 GiB");
}

// systemd's filter for other tables ends the thread and not the process: then it is the helper's time limit
// that ends it.
constexpr char kSoon[] = "start-timeout=10";

constexpr Attempt kTable[] = {
    {"writable_code", "memory that can be written and executed", [](Place&) { return run_code(map(kAll)); },
     Expected::kKilled, kCode},
    {"make_executable", "write code, then make it executable",
     [](Place&) {
       void* const memory = map(PROT_READ | PROT_WRITE);
       if (memory == MAP_FAILED) return by_errno(-1);
       std::memcpy(memory, kReturn42, sizeof kReturn42);
       if (::mprotect(memory, 4096, PROT_READ | PROT_EXEC) != 0) return by_errno(-1);
       return succeeded(reinterpret_cast<int (*)()>(memory)() == 42 ? "code of its own"
                                                                    : "executable memory");
     },
     Expected::kKilled, kCode},
    {"make_executable_by_key", "the same by pkey_mprotect",
     [](Place&) { return by_errno(::syscall(SYS_pkey_mprotect, map(PROT_READ), 4096, kAll, -1)); },
     Expected::kKilled, kCode},
    {"rewrite_program", "make the program's own code writable, change it and run it",
     [](Place&) {
       const auto page = reinterpret_cast<std::uintptr_t>(&take_memory) & ~std::uintptr_t{4095};
       // The filter lets writing pass, and with it the right to execute goes; it never comes back.
       return by_errno(::mprotect(reinterpret_cast<void*>(page), 4096, kAll), "code that can be written");
     },
     Expected::kKilled, kCode},
    {"map_memory_file", "code by a memory file that is mapped twice",
     [](Place&) {
       const int file = ::memfd_create("code", 0);
       if (file < 0) return by_errno(-1);
       (void)!::write(file, kReturn42, sizeof kReturn42);
       void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
       if (memory == MAP_FAILED) return by_errno(-1);
       return succeeded(reinterpret_cast<int (*)()>(memory)() == 42 ? "code of its own"
                                                                    : "executable memory");
     },
     Expected::kKilled, kCode},
    {"map_device_as_code", "code that lies on the device, mapped executable",
     [](Place& place) {
       return by_errno(
           ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, place.device, 0) == MAP_FAILED ? -1 : 0,
           "code of its own");
     },
     Expected::kKilled, kCode},
    {"shared_memory_code", "System V shared memory, attached executable",
     [](Place&) {
       const int id = ::shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700);
       if (id < 0) return by_errno(-1);
       void* const memory = ::shmat(id, nullptr, SHM_EXEC);
       ::shmctl(id, IPC_RMID, nullptr);
       return by_errno(reinterpret_cast<std::intptr_t>(memory) == -1 ? -1 : 0, "executable memory");
     },
     Expected::kKilled, kCode},
    {"execute_stack", "make the stack executable",
     [](Place&) {
       char here = 0;
       const auto page = reinterpret_cast<std::uintptr_t>(&here) & ~std::uintptr_t{4095};
       return by_errno(::mprotect(reinterpret_cast<void*>(page), 4096, kAll), "an executable stack");
     },
     Expected::kKilled, kCode},
    {"run_data", "jump into memory that is not executable",
     [](Place&) { return run_code(map(PROT_READ | PROT_WRITE)); }, Expected::kErrno,
     behind("the processor: no execution of data (the process ends by SIGSEGV)")},
    {"secret_memory", "memory that the kernel cannot see", [](Place&) { return by_errno(::syscall(447, 0)); },
     Expected::kKilled, filter_alone("secret memory, where the kernel has it")},
    {"memory_file", "a memory file", [](Place&) { return by_errno(::memfd_create("x", 0), "a memory file"); },
     Expected::kKilled, filter_alone("a memory file, which counts as its memory")},
    {"huge_pages", "take the machine's huge pages",
     [](Place&) {
       return by_errno(::mmap(nullptr, 2 << 20, PROT_READ,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_LOCKED, -1, 0) == MAP_FAILED
                           ? -1
                           : 0);
     },
     Expected::kErrno, behind("RLIMIT_MEMLOCK 0")},
    {"lock_memory", "lock memory against being swapped",
     [](Place&) { return by_errno(::mlockall(MCL_CURRENT | MCL_FUTURE)); }, Expected::kKilled,
     behind("no capabilities, RLIMIT_MEMLOCK 0")},
    {"poison_memory", "declare memory broken, which takes it from the machine (MADV_HWPOISON)",
     [](Place&) { return by_errno(::madvise(map(PROT_READ | PROT_WRITE), 4096, 100)); }, Expected::kErrno,
     behind("no capabilities")},
    {"offline_memory", "take memory offline (MADV_SOFT_OFFLINE)",
     [](Place&) { return by_errno(::madvise(map(PROT_READ | PROT_WRITE), 4096, 101)); }, Expected::kErrno,
     behind("no capabilities")},
    {"exhaust_memory", "map memory without end", [](Place&) { return take_memory(); }, Expected::kErrno,
     behind("a limit of the process; unit: MemoryMax=")},
    {"exhaust_heap", "grow the heap without end",
     [](Place&) {
       auto end = static_cast<std::uintptr_t>(::syscall(SYS_brk, 0));
       for (int i = 0; i < 256; ++i) {
         const auto wanted = end + (std::uintptr_t{1} << 30);
         if (static_cast<std::uintptr_t>(::syscall(SYS_brk, wanted)) != wanted) {
           errno = ENOMEM;
           return by_errno(-1);
         }
         end = wanted;
       }
       return succeeded("256 GiB");
     },
     Expected::kErrno, behind("a limit of the process; unit: MemoryMax=")},
    {"exhaust_mappings", "many mappings",
     [](Place&) {
       for (int i = 0; i < 2'000'000; ++i)
         if (map((i & 1) != 0 ? PROT_READ : PROT_NONE) == MAP_FAILED) return by_errno(-1);
       return succeeded("two million mappings");
     },
     Expected::kErrno, behind("vm.max_map_count, or the limit of address space")},
    {"message_queue", "System V message queues",
     [](Place&) { return by_errno(::msgget(IPC_PRIVATE, IPC_CREAT | 0600)); }, Expected::kKilled,
     filter_alone("a queue in its own IPC namespace")},
    {"posix_message_queue", "a POSIX message queue",
     [](Place&) { return by_errno(::syscall(SYS_mq_open, "rogue", 0102, 0600, nullptr)); }, Expected::kKilled,
     behind("RLIMIT_MSGQUEUE 0")},
#ifdef __x86_64__
    {"call_of_32_bit_table", "a system call by int 0x80, whose numbers the filter does not know",
     [](Place&) {
       long result = 20;  // getpid there, writev here
       asm volatile("int $0x80" : "+a"(result) : : "memory");
       return by_errno(result, "the 32-bit system calls");
     },
     Expected::kKilled,
     filter_alone("32-bit system calls, under the same rights; unit: SystemCallArchitectures=native"), kSoon},
    {"open_by_32_bit_table", "open /etc/passwd by int 0x80",
     [](Place&) {
       // The path must lie below 4 GiB.
       void* const low =
           ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
       if (low == MAP_FAILED) return by_errno(-1);
       std::strcpy(static_cast<char*>(low), "/etc/passwd");
       long result = 5;
       asm volatile("int $0x80" : "+a"(result) : "b"(low), "c"(0L), "d"(0L) : "memory");
       if (result >= 0) return succeeded("a descriptor");
       errno = static_cast<int>(-result);
       return by_errno(-1);
     },
     Expected::kKilled, behind("empty root, Landlock; unit: SystemCallArchitectures=native"), kSoon},
    {"call_of_x32_table", "a system call of the x32 table",
     [](Place&) { return by_errno(::syscall(0x40000000L | SYS_getpid), "the x32 system calls"); },
     Expected::kKilled, filter_alone("x32 system calls, where the kernel has them"), kSoon},
    {"local_descriptor_table", "change its segments (modify_ldt)",
     [](Place&) {
       char bytes[16] = {};
       return by_errno(::syscall(SYS_modify_ldt, 1, bytes, sizeof bytes));
     },
     Expected::kKilled, filter_alone("segments of its own, where the kernel has them")},
#endif
    {"call_without_name", "a system call that does not exist yet",
     [](Place&) { return by_errno(::syscall(1000)); }, Expected::kKilled, behind("the kernel: no such call")},
    {"call_with_high_bits", "openat with bits above the number's 32",
     [](Place&) { return by_errno(::syscall((1L << 32) | SYS_openat, -100, "/etc/passwd", 0)); },
     Expected::kKilled, behind("empty root, Landlock")},
};

}  // namespace

constinit const Theme kMemory{"Memory, code and other tables of system calls", kTable};

}  // namespace fuse4fs::rogue
