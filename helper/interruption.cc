// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/interruption.h"

#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <csignal>

namespace fuse4fs::helper {
namespace {

std::atomic<bool> signal_came = false;
std::atomic<int> watched_socket = -1;

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

void note_signal(int /*signal*/) {
  const int saved = errno;
  signal_came = true;
  if (const int socket = watched_socket; socket >= 0) ::shutdown(socket, SHUT_RDWR);
  errno = saved;
}

void set_handlers(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  for (const int signal : kSignals) ::sigaction(signal, &action, nullptr);
}

}  // namespace

Interruption::Interruption() {
  signal_came = false;
  set_handlers(note_signal);
}

Interruption::~Interruption() {
  watched_socket = -1;
  set_handlers(SIG_DFL);
}

void Interruption::watch(int socket) {
  watched_socket = socket;
  if (signal_came && socket >= 0) ::shutdown(socket, SHUT_RDWR);
}

bool Interruption::requested() { return signal_came; }

}  // namespace fuse4fs::helper
