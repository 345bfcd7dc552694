// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <new>
#include <span>
#include <string_view>
#include <thread>
#include <tuple>

#include "base/fuse_iomap_abi.h"
#include "base/log.h"
#include "base/quoted.h"
#include "server/engine_options.h"
#include "server/sandbox/sandbox.h"
#include "server/service/message_ids.h"
#include "server/service/watchdog.h"

#ifdef FUSE4FS_SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

namespace fuse4fs {

using std::chrono::steady_clock;

namespace {

constexpr unsigned kDefaultWorkers = 10;  // enough large transfers in flight to keep a fast device busy
constexpr unsigned kDefaultCommit = 5;    // seconds, as ext4's
constexpr auto kStatusInterval = std::chrono::seconds(5);
constexpr auto kInitDelay = std::chrono::seconds(5);  // who mounts has something to do first

unsigned usable_processors() {
  cpu_set_t processors;
  CPU_ZERO(&processors);
  if (::sched_getaffinity(0, sizeof processors, &processors) != 0) return 1;
  return static_cast<unsigned>(CPU_COUNT(&processors));
}

}  // namespace

Outcome<std::unique_ptr<Server>> Server::create(UniqueFd socket) {
  ASSIGN_OR_RETURN(auto helper, service::Session::accept(std::move(socket)));
  return std::unique_ptr<Server>(new Server(std::move(helper)));
}

void Server::tell_where_it_logs() {
  const auto& options = helper_.options();
  // Before the title, which is written over the environment.
  watchdog_limit_ =
      service::watchdog_limit(std::getenv("WATCHDOG_USEC"), std::getenv("WATCHDOG_PID"), ::getpid());
  sandbox::set_title(fmt::format("fuse4fs: {} on {}", options.source, options.mount_point));
  log_ = std::make_unique<service::LogOutput>(
      helper_.open_log(),
      service::JournalOrigin{.device = options.source, .mount_point = options.mount_point});
  set_log_writer([log = log_.get()](LogLevel level, std::string_view line, const LogDetails& details) {
    log->write(level, line, details);
  });
  notifier_ = service::Notifier(helper_.open_notify());
  if (!notifier_.connected()) watchdog_limit_.reset();
  pressure_ = service::MemoryPressure(helper_.open_pressure());
  for (const UniqueFd& file : pressure_.files()) confinement_.keep(file.get());
  confinement_.keep(log_->fd());
  confinement_.keep(notifier_.fd());
  if (options.debug) set_log_level(LogLevel::kDebug);
#ifdef FUSE4FS_SANITIZED
  if (log_->fd() >= 0)
    __sanitizer_set_report_fd(reinterpret_cast<void*>(static_cast<std::intptr_t>(log_->fd())));
#endif
}

Outcome<cache::BlockDevice> Server::open_device() {
  ASSIGN_OR_RETURN(auto devices, helper_.open_device());
  read_only_ = devices.read_only;
  if (read_only_ && !helper_.options().read_only)
    log_warning("{}: the device cannot be written, mounting read-only", helper_.options().source);
  block_device_ = devices.buffered.get();
  confinement_.keep(devices.buffered.get());
  confinement_.keep(devices.direct.get());
  confinement_.keep(helper_.claim_fd());
  if (!helper_.options().journal_path.empty()) {
    ASSIGN_OR_RETURN(auto journal, helper_.open_journal());
    confinement_.keep(journal.get());
    ASSIGN_OR_RETURN(auto journal_device, cache::BlockDevice::adopt(std::move(journal), {}, access()));
    external_journal_ = std::make_shared<cache::BlockDevice>(std::move(journal_device));
  }
  RETURN_IF_ERROR(ask_for_iomap(devices));
  return adopt(std::move(devices));
}

// With iomap the kernel moves data past the device's page cache: nothing may linger there.
Outcome<cache::BlockDevice> Server::adopt(service::DeviceDescriptors devices) {
  const auto how = iomap_offered_ ? cache::BlockDevice::adopt_past_page_cache : cache::BlockDevice::adopt;
  return how(std::move(devices.buffered), std::move(devices.direct), access());
}

// By what the kernel says of this very descriptor.
Outcome<void> Server::ask_for_iomap(const service::DeviceDescriptors& devices) {
  using Iomap = fuse::SessionOptions::Iomap;
  const Iomap wanted = session_options(helper_.options()).iomap;
  if (wanted == Iomap::kRefused) return {};
  const std::uint64_t support = fuse::KernelDevice::real().iomap_support(fuse_device_.get());
  iomap_offered_ = (support & iomap_abi::kSupportFileIo) != 0 && devices.direct;
  if (iomap_offered_ && (support & iomap_abi::kSupportAtomic) != 0)
    atomic_writes_ = cache::atomic_write_limits(devices.direct.get());
  if (iomap_offered_ || wanted == Iomap::kIfOffered) return {};
  if (!devices.direct)
    return fail(Errno(EOPNOTSUPP), "-o iomap: the device takes no direct I/O; leave the option out");
  return fail(
      Errno(EOPNOTSUPP),
      "-o iomap: this kernel has no fuse-iomap, or does not let this mount use it; leave the option out");
}

// What came of it in INIT.
Outcome<void> Server::judge_iomap(fuse::SessionOptions::Iomap wanted) const {
  if (session_->uses_iomap() || !iomap_offered_) return {};
  if (wanted == fuse::SessionOptions::Iomap::kRequired)
    return fail(Errno(EOPNOTSUPP), "-o iomap: the kernel has it, but did not agree to it for this mount");
  if (wanted == fuse::SessionOptions::Iomap::kIfOffered)
    log_warning(
        "the kernel has iomap, but did not agree to it for this mount: file data goes through the server");
  return {};
}

Outcome<void> Server::confine(const cache::BlockDevice& device) {
  processors_ = usable_processors();
  mount_gone_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!mount_gone_) return fail(Errno::last(), "cannot make an eventfd");
  for (const int descriptor : {helper_.fd(), fuse_device_.get(), mount_gone_.get()})
    confinement_.keep(descriptor);
  const unsigned workers = helper_.options().threads.value_or(kDefaultWorkers);
  activity_ = std::make_unique<Activity>(workers + 1);
  constexpr unsigned kOtherThreads = 2;
  return confinement_.enter({.device_size = device.size(),
                             .log_file = log_->fd(),
                             .cache_size = helper_.options().cache_size.value_or(0),
                             .iomap = iomap_offered_ ? sandbox::Iomap::kAllowed : sandbox::Iomap::kForbidden,
                             .threads = workers + kOtherThreads,
                             .start_threads = [&] {
                               pool_ = std::make_unique<fuse::WorkerPool>(workers);
                               claim_keeper_ = std::make_unique<fuse::WorkerPool>(1);
                               if (watchdog_limit_) watchdog_ = std::make_unique<fuse::WorkerPool>(1);
                             }});
}

// False once the helper or a signal ends it.
bool Server::wait(std::chrono::seconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  std::array<pollfd, 2> events{{{helper_.fd(), POLLRDHUP, 0}, {confinement_.signals(), POLLIN, 0}}};
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0) return true;
    if (::poll(events.data(), events.size(), static_cast<int>(left)) <= 0) continue;
    if (events[0].revents != 0 || signal_asks_to_stop()) return false;
  }
}

// The volume may only be read. So the right to write goes as well, which a later remount,rw would believe in.
Outcome<void> Server::mount_read_only(ext4::MountOptions engine) {
  std::ignore = file_system_->unmount();
  file_system_.reset();
  ASSIGN_OR_RETURN(auto devices, helper_.reopen_device_read_only());
  const int block_device = devices.buffered.get();
  read_only_ = true;
  ASSIGN_OR_RETURN(auto device, adopt(std::move(devices)));
  block_device_ = block_device;
  engine.access = cache::Access::kReadOnly;
  ASSIGN_OR_RETURN(file_system_, ext4::FileSystem::mount(std::move(device), engine, engine_log_));
  return {};
}

Outcome<void> Server::mount(cache::BlockDevice device) {
  const auto& options = helper_.options();
  const auto sector_size = static_cast<std::uint32_t>(device.sector());
  auto engine = engine_options(options, access());
  engine.external_journal = external_journal_;
  engine.node_name = confinement_.node_name();
  engine.wait = [this](std::chrono::seconds time) { return wait(time); };
  ASSIGN_OR_RETURN(file_system_, ext4::FileSystem::mount(std::move(device), engine, engine_log_));
  if (file_system_->access() == cache::Access::kReadOnly && !read_only_)
    RETURN_IF_ERROR(mount_read_only(std::move(engine)));
  auto session = session_options(options);
  session.block_device = block_device_;
  // A block that is less than a sector is written with its neighbours, which may be the kernel's.
  if (!iomap_offered_ || file_system_->block_size() < sector_size)
    session.iomap = fuse::SessionOptions::Iomap::kRefused;
  session.sector_size = sector_size;
  if (atomic_writes_.allow(file_system_->block_size()))
    session.atomic_write_unit = file_system_->block_size();
  session.page_cache = fuse::page_cache_for(confinement_.kernel_release(), file_system_->block_size(),
                                            static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE)));
  ASSIGN_OR_RETURN(session_, fuse::Session::create(*file_system_, std::move(fuse_device_), session));
  RETURN_IF_ERROR(helper_.mount(file_system_->block_size()));
  if (const auto answered = session_->answer_init(); !answered)
    return fail(answered.error(), fmt::format("{}: the kernel's first request could not be answered: {}",
                                              options.source, answered.error().message()));
  RETURN_IF_ERROR(judge_iomap(session.iomap));
  if (!session_->uses_iomap() && session.page_cache == fuse::PageCache::kWriteThrough)
    file_system_->set_content_times(ext4::MountOptions::ContentTimes::kOurs);
  if (file_system_->access() == cache::Access::kReadWrite)
    claim_keeper_->start([this](std::size_t) {
      session_->prepare_thread();
      file_system_->keep_claim();
    });
  for (unsigned processor = 1; processor < processors_; ++processor) {
    UniqueFd clone = helper_.open_clone();
    if (!clone) break;
    session_->add_clone(std::move(clone));
  }
  session_->serve(*pool_, mount_gone_.get(), *activity_);
  return {};
}

Outcome<void> Server::start() {
  tell_where_it_logs();
  fuse_device_ = helper_.take_fuse_device();
  if (!fuse_device_) return fail(Errno(EBADF), "the helper gave no /dev/fuse");
  ASSIGN_OR_RETURN(auto device, open_device());
  RETURN_IF_ERROR(confine(device));
  auto mounted = mount(std::move(device));
  if (!mounted) {
    // The volume may be marked as in use already.
    if (session_)
      std::ignore = session_->unmount();
    else if (file_system_)
      std::ignore = file_system_->unmount();
    return mounted;
  }
  // From here on for the log alone: mount(8) is silent when all is well.
  log_->forget_standard_error();
  log_line(LogLevel::kInfo,
           fmt::format("mounted {}{}", quoted(file_system_->label()), read_only_ ? ", read-only" : ""),
           {.message_id = service::kMounted});
  notifier_.ready(status());
  if (watchdog_) watchdog_->start([this](std::size_t) { watch_over_requests(); });
  helper_.say_goodbye(0);
  return {};
}

void Server::watch_over_requests() {
  service::Watchdog watchdog(*activity_, activity_->size() - 1, *watchdog_limit_);
  for (bool was_well = true;; std::this_thread::sleep_for(watchdog.interval())) {
    const bool well = watchdog.look(std::chrono::steady_clock::now());
    if (well) notifier_.alive(watchdog.limit());
    if (!well && was_well)
      log_line(LogLevel::kError,
               fmt::format("requests have not moved for {} seconds or more: systemd is told nothing any "
                           "more, and ends this "
                           "server",
                           std::chrono::ceil<std::chrono::seconds>(watchdog.limit()).count()),
               {.message_id = service::kHung});
    was_well = well;
  }
}

std::string Server::status() {
  service::MountStatus status{.device = helper_.options().source,
                              .mount_point = helper_.options().mount_point,
                              .read_only = file_system_->access() == cache::Access::kReadOnly,
                              .errors = engine_log_.errors()};
  if (const auto volume = session_->statistics()) {
    status.size = volume->blocks * volume->block_size;
    status.free = volume->free_blocks * volume->block_size;
  }
  return service::text_of(status);
}

void Server::write_back() {
  const Activity::Turn turn;
  try {
    if (const auto written = session_->write_back(); !written)
      log_error("writing metadata back failed: {}", written.error().message());
  } catch (const std::bad_alloc&) {
    log_warning("no memory to write metadata back, trying again soon");
  }
}

// When the next one is due.
steady_clock::time_point Server::initialise_inode_table() {
  const Activity::Turn turn;
  const auto begin = steady_clock::now();
  try {
    if (!session_->initialise_inode_table()) return steady_clock::time_point::max();
  } catch (const std::bad_alloc&) {
    return begin + kInitDelay;
  }
  const auto end = steady_clock::now();
  // Where nothing had to be done, or may be (the volume is frozen), there is time.
  constexpr auto kLeastPause = std::chrono::milliseconds(1);
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): or it would not be called
  return end + std::max<steady_clock::duration>(end - begin, kLeastPause) * *helper_.options().init_itable;
}

void Server::shrink() {
  const Activity::Turn turn;
  try {
    const std::size_t bytes = session_->shrink();
    log_debug("memory is short: {} KiB of cached blocks given back", bytes / 1024);
  } catch (const std::bad_alloc&) {
    // What was given back so far must do until the kernel tells of it again.
  }
}

void Server::tell_status() {
  if (!notifier_.connected()) return;
  const Activity::Turn turn;
  try {
    notifier_.status(status());
  } catch (const std::bad_alloc&) {
    // The next one will do.
  }
}

// SIGUSR1 is answered here. Whether another one, SIGTERM, has come.
bool Server::signal_asks_to_stop() {
  signalfd_siginfo signal{};
  while (::read(confinement_.signals(), &signal, sizeof signal) == sizeof signal) {
    if (signal.ssi_signo != SIGUSR1) return true;
    if (session_) log_info("requests: {}", session_->counters().text());
  }
  return false;
}

void Server::run() {
  session_->prepare_thread();
  const Activity::Member member(*activity_, activity_->size() - 1);
  const std::chrono::seconds commit(helper_.options().commit.value_or(kDefaultCommit));
  auto write_back_at = steady_clock::now() + commit;
  auto status_at = steady_clock::now() + kStatusInterval;
  auto initialise_at = steady_clock::time_point::max();
  if (helper_.options().init_itable && file_system_->access() == cache::Access::kReadWrite)
    initialise_at = steady_clock::now() + kInitDelay;
  while (true) {
    const auto left = std::min({write_back_at, status_at, initialise_at}) - steady_clock::now();
    const auto wait = std::max(std::chrono::ceil<std::chrono::milliseconds>(left).count(), 0L);
    std::array<pollfd, 2 + service::MemoryPressure::kMost> events{
        {{mount_gone_.get(), POLLIN, 0}, {confinement_.signals(), POLLIN, 0}}};
    std::ranges::copy(pressure_.events(), events.begin() + 2);
    if (::poll(events.data(), events.size(), static_cast<int>(wait)) <= 0) {
      if (steady_clock::now() >= write_back_at) {
        write_back();
        write_back_at = steady_clock::now() + commit;
      }
      if (steady_clock::now() >= status_at) {
        tell_status();
        status_at = steady_clock::now() + kStatusInterval;
      }
      if (steady_clock::now() >= initialise_at) initialise_at = initialise_inode_table();
      continue;
    }
    if (events[0].revents != 0) break;
    if (pressure_.rose(std::span(events).subspan(2))) shrink();
    if (signal_asks_to_stop()) {
      log_line(LogLevel::kWarning, "a signal asks to stop: writing everything, then the mount point is dead",
               {.message_id = service::kStopped});
      break;
    }
  }
  log_debug("requests: {}", session_->counters().text());
  const Activity::Turn turn;
  notifier_.stopping("unmounting");
  if (const auto unmounted = session_->unmount(); !unmounted)
    log_line(LogLevel::kError,
             fmt::format("unmounted, but not everything could be written: {}; run e2fsck before the next use",
                         unmounted.error().message()),
             {.message_id = service::kNotAllWritten, .error = unmounted.error().value()});
  else
    log_line(LogLevel::kInfo, "unmounted", {.message_id = service::kUnmounted});
}

}  // namespace fuse4fs
