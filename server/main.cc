// SPDX-License-Identifier: GPL-2.0-or-later
// fuse4fs, the server: unprivileged, confined, and the only one who ever parses a byte of the volume.
//
// The order is the point: everything that it may touch arrives first, then the sandbox closes, then the first
// byte of the device is read, then it mounts, and only when the kernel has been answered does the helper go.
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <new>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/log.h"
#include "base/quoted.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "server/engine_log.h"
#include "server/ext4/file_system.h"
#include "server/fuse/session.h"
#include "server/fuse/worker_pool.h"
#include "server/sandbox/sandbox.h"
#include "server/service/log_output.h"
#include "server/service/session.h"

#ifdef FUSE4FS_SANITIZED
#include <sanitizer/common_interface_defs.h>
// The leak checker forks and traces its parent, which the sandbox kills; unit tests look for leaks.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
// The process ends without joining its workers, on purpose.
extern "C" const char* __tsan_default_options() { return "report_thread_leaks=0"; }
#endif

namespace fuse4fs {
namespace {

constexpr int kListenFdsStart = 3;        // sd_listen_fds(3)
constexpr int kMountFailure = 32;         // mount(8)
constexpr unsigned kDefaultWorkers = 10;  // enough large transfers in flight to keep a fast device busy
constexpr auto kWriteBackInterval = std::chrono::seconds(5);  // as ext4's commit=

ext4::MountOptions engine_options(const service::Options& options, bool read_only) {
  ext4::MountOptions engine;
  engine.access = read_only ? cache::Access::kReadOnly : cache::Access::kReadWrite;
  if (options.no_acls) engine.acls = ext4::MountOptions::Acls::kIgnore;
  if (options.ignore_journal) engine.journal = ext4::MountOptions::Journal::kIgnore;
  if (options.errors) {
    switch (*options.errors) {
      case service::ErrorsOption::kContinue:
        engine.errors = ext4::ErrorPolicy::kContinue;
        break;
      case service::ErrorsOption::kRemountReadOnly:
        engine.errors = ext4::ErrorPolicy::kRemountReadOnly;
        break;
      // The kernel's ext4 stops the machine; here the volume is all that may stop.
      case service::ErrorsOption::kPanic:
        engine.errors = ext4::ErrorPolicy::kShutDown;
        break;
    }
  }
  // With the write-back cache they are the kernel's, and its SETATTR may overtake a WRITE.
  engine.content_times = ext4::MountOptions::ContentTimes::kCallers;
  // The kernel's FUSE leaves them to the server.
  if ((options.mount_flags & MS_NOATIME) != 0)
    engine.access_times = ext4::AccessTimes::kNever;
  else if ((options.mount_flags & MS_STRICTATIME) != 0)
    engine.access_times = ext4::AccessTimes::kStrict;
  engine.directory_access_times =
      (options.mount_flags & MS_NODIRATIME) != 0 ? ext4::AccessTimes::kNever : engine.access_times;
  return engine;
}

unsigned usable_processors() {
  cpu_set_t processors;
  CPU_ZERO(&processors);
  if (::sched_getaffinity(0, sizeof processors, &processors) != 0) return 1;
  return static_cast<unsigned>(CPU_COUNT(&processors));
}

fuse::SessionOptions session_options(const service::Options& options) {
  fuse::SessionOptions session;
  if (options.id_mapped_mounts) session.id_mapped_mounts = fuse::SessionOptions::IdMappedMounts::kAllowed;
  return session;
}

class Server {
 public:
  static Outcome<std::unique_ptr<Server>> create(UniqueFd socket);

  // Until the mount serves and the helper has been sent home.
  Outcome<void> start();
  // Tells the helper that there will be no mount.
  void give_up(int exit_code) { helper_.say_goodbye(static_cast<std::uint32_t>(exit_code)); }
  // Until the mount is gone, or a signal asks to stop.
  void run();

 private:
  explicit Server(service::Session helper) : helper_(std::move(helper)) {}

  Outcome<cache::BlockDevice> open_device();
  Outcome<void> confine();
  Outcome<void> mount(cache::BlockDevice device);
  Outcome<void> mount_read_only(ext4::MountOptions engine);
  void tell_where_it_logs();
  void write_back();
  bool signal_asks_to_stop();
  bool wait(std::chrono::seconds time);

  service::Session helper_;
  std::unique_ptr<service::LogOutput> log_;
  EngineLog engine_log_;
  UniqueFd fuse_device_, signals_, mount_gone_;
  std::vector<int> device_descriptors_;
  bool read_only_ = false;
  unsigned processors_ = usable_processors();
  // In this order: the pool's threads use the session, the session uses the engine.
  std::unique_ptr<ext4::FileSystem> file_system_;
  std::unique_ptr<fuse::Session> session_;
  std::unique_ptr<fuse::WorkerPool> pool_;
  // One thread, for FileSystem::keep_claim().
  std::unique_ptr<fuse::WorkerPool> claim_keeper_;
  std::string node_name_;
};

Outcome<std::unique_ptr<Server>> Server::create(UniqueFd socket) {
  ASSIGN_OR_RETURN(auto helper, service::Session::accept(std::move(socket)));
  return std::unique_ptr<Server>(new Server(std::move(helper)));
}

void Server::tell_where_it_logs() {
  const auto& options = helper_.options();
  const auto about = fmt::format("{} on {}", options.source, options.mount_point);
  sandbox::set_title(fmt::format("fuse4fs: {}", about));
  log_ = std::make_unique<service::LogOutput>(helper_.open_log(), about);
  set_log_writer([log = log_.get()](LogLevel level, std::string_view line) { log->write(level, line); });
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
  device_descriptors_ = {devices.buffered.get(), devices.direct.get()};
  return cache::BlockDevice::adopt(std::move(devices.buffered), std::move(devices.direct),
                                   read_only_ ? cache::Access::kReadOnly : cache::Access::kReadWrite);
}

Outcome<void> Server::confine() {
  sigset_t expected;
  sigemptyset(&expected);
  for (const int signal : {SIGTERM, SIGUSR1}) sigaddset(&expected, signal);
  // Of whatever terminal or session the mount was made in: no business of a file system.
  for (const int unrelated : {SIGHUP, SIGINT, SIGPIPE}) std::signal(unrelated, SIG_IGN);
  // Blocked before the threads exist, so that they inherit it: only the descriptor delivers.
  pthread_sigmask(SIG_BLOCK, &expected, nullptr);
  signals_ = UniqueFd(::signalfd(-1, &expected, SFD_CLOEXEC | SFD_NONBLOCK));
  mount_gone_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  fuse_device_ = helper_.take_fuse_device();
  if (!signals_ || !mount_gone_ || !fuse_device_)
    return fail(Errno::last(), "cannot make signalfd or eventfd");

  // The name that others see on the volume. A namespace of our own was made with a copy of the host's.
  if (utsname name{}; ::uname(&name) == 0) node_name_ = name.nodename;

  sandbox::Options options;
  options.kept_descriptors = {helper_.fd(),      fuse_device_.get(), signals_.get(),
                              mount_gone_.get(), log_->fd(),         helper_.claim_fd()};
  options.kept_descriptors.insert(options.kept_descriptors.end(), device_descriptors_.begin(),
                                  device_descriptors_.end());
  std::erase_if(options.kept_descriptors, [](int fd) { return fd < 0; });
  const unsigned workers = helper_.options().threads.value_or(kDefaultWorkers);
  options.start_threads = [this, workers]() -> Result<void> {
    pool_ = std::make_unique<fuse::WorkerPool>(workers);
    claim_keeper_ = std::make_unique<fuse::WorkerPool>(1);
    return {};
  };
  ASSIGN_OR_RETURN(const auto report, sandbox::enter(options));
  if (!report.landlock) log_warning("this kernel has no Landlock: confined without it");
  if (!report.empty_root) log_debug("the root directory is whatever the service manager gave");
  return {};
}

// False once the helper or a signal ends it.
bool Server::wait(std::chrono::seconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  std::array<pollfd, 2> events{{{helper_.fd(), POLLRDHUP, 0}, {signals_.get(), POLLIN, 0}}};
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
  ASSIGN_OR_RETURN(auto device,
                   cache::BlockDevice::adopt(std::move(devices.buffered), std::move(devices.direct),
                                             cache::Access::kReadOnly));
  read_only_ = true;
  engine.access = cache::Access::kReadOnly;
  ASSIGN_OR_RETURN(file_system_, ext4::FileSystem::mount(std::move(device), engine, engine_log_));
  return {};
}

Outcome<void> Server::mount(cache::BlockDevice device) {
  const auto& options = helper_.options();
  auto engine = engine_options(options, read_only_);
  engine.node_name = node_name_;
  engine.device_name = options.source.substr(options.source.rfind('/') + 1);
  engine.wait = [this](std::chrono::seconds time) { return wait(time); };
  ASSIGN_OR_RETURN(file_system_, ext4::FileSystem::mount(std::move(device), engine, engine_log_));
  if (file_system_->access() == cache::Access::kReadOnly && !read_only_)
    RETURN_IF_ERROR(mount_read_only(std::move(engine)));
  ASSIGN_OR_RETURN(session_,
                   fuse::Session::create(*file_system_, std::move(fuse_device_), session_options(options)));
  RETURN_IF_ERROR(helper_.mount(file_system_->block_size()));
  if (file_system_->access() == cache::Access::kReadWrite)
    claim_keeper_->start([this](std::size_t) { file_system_->keep_claim(); });
  if (const auto answered = session_->answer_init(); !answered)
    return fail(answered.error(), fmt::format("{}: the kernel's first request could not be answered: {}",
                                              options.source, answered.error().message()));
  for (unsigned processor = 1; processor < processors_; ++processor) {
    UniqueFd clone = helper_.open_clone();
    if (!clone) break;
    session_->add_clone(std::move(clone));
  }
  session_->serve(*pool_, mount_gone_.get());
  return {};
}

Outcome<void> Server::start() {
  tell_where_it_logs();
  ASSIGN_OR_RETURN(auto device, open_device());
  RETURN_IF_ERROR(confine());
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
  log_info("mounted {}{}", quoted(file_system_->label()), read_only_ ? ", read-only" : "");
  helper_.say_goodbye(0);
  return {};
}

void Server::write_back() {
  try {
    if (const auto written = session_->write_back(); !written)
      log_error("writing metadata back failed: {}", written.error().message());
  } catch (const std::bad_alloc&) {
    log_warning("no memory to write metadata back, trying again soon");
  }
}

// SIGUSR1 is answered here. Whether another one, SIGTERM, has come.
bool Server::signal_asks_to_stop() {
  signalfd_siginfo signal{};
  while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
    if (signal.ssi_signo != SIGUSR1) return true;
    if (session_) log_info("requests: {}", session_->counters().text());
  }
  return false;
}

void Server::run() {
  std::array<pollfd, 2> events{{{mount_gone_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}}};
  const auto interval = std::chrono::milliseconds(kWriteBackInterval).count();
  while (true) {
    if (::poll(events.data(), events.size(), static_cast<int>(interval)) <= 0) {
      write_back();
      continue;
    }
    if (events[0].revents != 0) break;
    if (signal_asks_to_stop()) {
      log_warning("a signal asks to stop: writing everything, then the mount point is dead");
      break;
    }
  }
  log_debug("requests: {}", session_->counters().text());
  if (const auto unmounted = session_->unmount(); !unmounted)
    log_error("unmounted, but not everything could be written: {}; run e2fsck before the next use",
              unmounted.error().message());
  else
    log_info("unmounted");
}

int show_usage() {
  fmt::print(
      "fuse4fs {}: the server of a contained ext4. It is started by mount.fuse4fs or by systemd\n"
      "with its socket as descriptor 3, never by hand: use `mount -t fuse4fs DEVICE DIRECTORY`.\n",
      FUSE4FS_VERSION);
  return EXIT_SUCCESS;
}

int serve(UniqueFd socket) {
  auto server = Server::create(std::move(socket));
  if (!server) {
    log_error("{}", server.error().message);
    return kMountFailure;
  }
  if (const auto started = (*server)->start(); !started) {
    log_error("{}", started.error().message);
    (*server)->give_up(kMountFailure);
    return kMountFailure;
  }
  (*server)->run();
  // Without joining the workers: after a signal they still sit in a read of the mount, which lives on.
  ::_exit(EXIT_SUCCESS);
}

}  // namespace
}  // namespace fuse4fs

int main(int argc, char** argv) {
  fuse4fs::sandbox::set_title_area(argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument(argv[i]);
    if (argument == "--help" || argument == "--version" || argument == "-V") return fuse4fs::show_usage();
  }
  const char* const count = std::getenv("LISTEN_FDS");
  if (count == nullptr || std::string_view(count) != "1") {
    fuse4fs::show_usage();
    return EXIT_FAILURE;
  }
  return fuse4fs::serve(fuse4fs::UniqueFd(fuse4fs::kListenFdsStart));
}
