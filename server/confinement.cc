// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/confinement.h"

#include <pthread.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <system_error>

#include "base/log.h"
#include "server/sandbox/sandbox.h"

namespace fuse4fs {
namespace {

constexpr std::uint64_t kMebibyte = 1 << 20;
// Buffers, inodes in use and all else, many times over.
constexpr std::uint64_t kMemoryAtLeast = 1024 * kMebibyte;
// Descriptors and figures of the groups, and what was freed and waits: a multiple of it.
constexpr std::uint64_t kDeviceBytesPerByte = 1024;
constexpr std::uint64_t kMemoryInAnyCase = 256 * kMebibyte;
constexpr std::uint64_t kLogGrowth = 64 * kMebibyte;
constexpr std::uint64_t kStack = 8 * kMebibyte;

// A server over which a volume has taken control shall not take the machine's memory with it.
std::uint64_t memory_for(const Confinement::Needs& needs) {
  const std::uint64_t stacks = needs.threads * kStack;
  const std::uint64_t wanted =
      kMemoryAtLeast + needs.cache_size + stacks + needs.device_size / kDeviceBytesPerByte;
  struct sysinfo machine{};
  if (::sysinfo(&machine) != 0) return wanted;
  const std::uint64_t most = std::uint64_t{machine.totalram} * machine.mem_unit / 4 * 3;
  return std::max(std::min(wanted, most), kMemoryInAnyCase + needs.cache_size + stacks);
}

// Stacks are mapped in full, and by default as large as the limit of whoever mounts allows.
void fix_size_of_stacks() {
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return;
  if (::pthread_attr_setstacksize(&attributes, kStack) == 0) ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
}

// 0 if it is no regular file.
std::uint64_t size_of_file(int descriptor) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

void Confinement::keep(int descriptor) {
  if (descriptor >= 0) kept_.push_back(descriptor);
}

Outcome<void> Confinement::enter(const Needs& needs) {
  sigset_t expected;
  sigemptyset(&expected);
  for (const int signal : {SIGTERM, SIGUSR1}) sigaddset(&expected, signal);
  // Of whatever terminal or session the mount was made in: no business of a file system. A log that may not
  // grow any more (SIGXFSZ) is no reason to end either.
  for (const int unrelated : {SIGHUP, SIGINT, SIGPIPE, SIGXFSZ}) std::signal(unrelated, SIG_IGN);
  // Blocked before the threads exist, so that they inherit it: only the descriptor delivers.
  pthread_sigmask(SIG_BLOCK, &expected, nullptr);
  signals_ = UniqueFd(::signalfd(-1, &expected, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail(Errno::last(), "cannot make a signalfd");
  keep(signals_.get());

  // A namespace of our own was made with a copy of the host's.
  if (utsname name{}; ::uname(&name) == 0) {
    node_name_ = name.nodename;
    kernel_release_ = name.release;
  }

  sandbox::Options options;
  options.kept_descriptors = kept_;
  options.memory = memory_for(needs);
  options.iomap = needs.iomap;
  options.largest_file = std::max(size_of_file(needs.log_file), size_of_file(STDERR_FILENO)) + kLogGrowth;
  fix_size_of_stacks();
  options.start_threads = [&needs]() -> Result<void> {
    try {
      needs.start_threads();
      return {};
    } catch (const std::system_error& error) {
      return fail(error.code().value());
    }
  };
  ASSIGN_OR_RETURN(const auto report, sandbox::enter(options));
  if (!report.landlock) log_warning("this kernel has no Landlock: confined without it");
  if (!report.empty_root) log_debug("the root directory is whatever the service manager gave");
  return {};
}

}  // namespace fuse4fs
