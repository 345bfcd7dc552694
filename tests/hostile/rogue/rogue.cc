// SPDX-License-Identifier: GPL-2.0-or-later
// The server's place, taken over. Started by the real helper (or by systemd) as the server is, it goes the
// server's way up to the sandbox; then the attacker has it. It makes one attempt: the one that the mount
// point is named after.
//
// The record goes to the log file, a descriptor from before the confinement, one line each:
//   NAME <tab> entered
//   NAME <tab> KIND <tab> ERRNO <tab> WORDS        what Verdict says; missing if the filter ended the process
#include <linux/fs.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>

#include "server/confinement.h"
#include "server/service/session.h"
#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

constexpr int kListenFdsStart = 3;
constexpr int kNotEvenIn = 99;

Place place;  // for the handler of crashes

std::string line_of(const Verdict& verdict) {
  static constexpr std::array kKinds{"errno", "refused", "ended", "succeeded"};
  return std::string(kKinds.at(static_cast<std::size_t>(verdict.kind))) + '\t' +
         std::to_string(verdict.error) + '\t' + verdict.words;
}

// A crash is not the filter's doing: SIGSYS by the filter cannot be caught, and these can.
void note_crash(int signal) {
  place.note(line_of({Verdict::Kind::kErrno, EFAULT, "signal " + std::to_string(signal)}));
  ::_exit(1);
}

// Whatever becomes of the runner, no mount hangs for longer.
constexpr int kLongestLifeMilliseconds = 120'000;

int go_wrong(const Failure& failure) {
  const std::string words = "rogue: " + failure.message + "\n";
  (void)!::write(STDERR_FILENO, words.data(), words.size());
  return kNotEvenIn;
}

void attack(const Attempt& attempt) {
  place.note("entered");
  place.note(line_of(attempt.run(place)));
  ::_exit(0);
}

int take_the_servers_place() {
  auto session = service::Session::accept(UniqueFd(kListenFdsStart));
  if (!session) return go_wrong(session.error());
  const auto& options = session->options();
  const std::string_view path = options.mount_point;
  const Attempt* const attempt = find_attempt(path.substr(path.rfind('/') + 1));
  if (attempt == nullptr) return go_wrong({Errno(EINVAL), "the mount point does not name an attempt"});

  const UniqueFd log = session->open_log();
  const UniqueFd notify = session->open_notify();
  const auto pressure = session->open_pressure();
  const auto devices = session->open_device();
  if (!devices) return go_wrong(devices.error());
  const UniqueFd fuse = session->take_fuse_device();
  place = {.socket = session->fd(),
           .fuse = fuse.get(),
           .device = devices->buffered.get(),
           .direct = devices->direct.get(),
           .log = log.get(),
           .notify = notify.get(),
           .pressure = pressure.empty() ? -1 : pressure.front().get(),
           .options = &options,
           .attempt = attempt->name};
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGABRT, SIGFPE, SIGTERM})
    std::signal(signal, note_crash);
  std::signal(SIGPIPE, SIG_IGN);

  // Whatever parses the volume runs in a thread that was there before the filter.
  std::thread worker;
  // Under systemd its own filter holds already: no call that the server does not make on its way.
  const UniqueFd go(::eventfd(0, EFD_CLOEXEC));
  Confinement confinement;
  for (const int fd : {place.socket, place.fuse, place.device, place.direct, place.log, place.notify,
                       place.pressure, go.get()})
    confinement.keep(fd);
  std::uint64_t size = 0;
  (void)::ioctl(place.device, BLKGETSIZE64, &size);
  const auto entered = confinement.enter({.device_size = size, .log_file = place.log, .start_threads = [&] {
                                            worker = std::thread([attempt, &go] {
                                              eventfd_t value = 0;
                                              if (::eventfd_read(go.get(), &value) == 0) attack(*attempt);
                                            });
                                          }});
  if (!entered) return go_wrong(entered.error());
  (void)::eventfd_write(go.get(), 1);
  // The attempt ends the process.
  (void)::poll(nullptr, 0, kLongestLifeMilliseconds);
  ::_exit(kNotEvenIn);
}

}  // namespace
}  // namespace fuse4fs::rogue

int main() {
  if (std::getenv("LISTEN_FDS") == nullptr) return 1;
  return fuse4fs::rogue::take_the_servers_place();
}
