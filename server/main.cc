// SPDX-License-Identifier: GPL-2.0-or-later
// fuse4fs, the server: unprivileged, confined, and the only one who ever parses a byte of the volume.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "server/sandbox/sandbox.h"
#include "server/server.h"
#include "server/service/inherited.h"

#ifdef FUSE4FS_SANITIZED
// The leak checker forks and traces its parent, which the sandbox kills; unit tests look for leaks.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
// The process ends without joining its workers, on purpose.
extern "C" const char* __tsan_default_options() { return "report_thread_leaks=0"; }
#endif

namespace fuse4fs {
namespace {

constexpr int kMountFailure = 32;  // mount(8)

int show_usage() {
  fmt::print(
      "fuse4fs {}: the server of a contained ext4. It is started by mount.fuse4fs or by systemd\n"
      "with its socket as descriptor 3, never by hand: use `mount -t fuse4fs DEVICE DIRECTORY`.\n",
      FUSE4FS_VERSION);
  return EXIT_SUCCESS;
}

int serve(int inherited) {
  auto socket = service::take_connection(inherited);
  if (!socket) {
    log_error("{}", socket.error().message);
    return kMountFailure;
  }
  auto server = Server::create(*std::move(socket));
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
  const auto inherited =
      fuse4fs::service::inherited_count(std::getenv("LISTEN_FDS"), std::getenv("LISTEN_PID"), ::getpid());
  if (!inherited) {
    fuse4fs::show_usage();
    return EXIT_FAILURE;
  }
  return fuse4fs::serve(*inherited);
}
