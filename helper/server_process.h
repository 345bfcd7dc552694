// SPDX-License-Identifier: GPL-2.0-or-later
// The server, started by the helper itself: contained from its first instruction, and gone unless it is let
// go.
//
// What the server finds (docs/protocol.md): descriptor 3 is the socket, LISTEN_FDS=1 is its environment, with
// TITLE_ROOM (and, in sanitizer builds, the sanitizers' options); 0 and 1 are /dev/null, 2 is a pipe that the
// helper shows to the user until it leaves; no other descriptor is open. It is process 1 of its own pid
// namespace, in net, ipc and uts namespaces of its own, and in a user namespace of its own where such can be
// had (it makes its mount namespace itself); its user is fuse4fs, or nobody (65534) where there is no such
// user. Of all capabilities it has CAP_SYS_ADMIN (ambient), to make its root empty with, and then to drop.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

class ServerProcess {
 public:
  // `program`: the server's executable. A failure of the program itself shows on words() only.
  static Outcome<ServerProcess> start(const std::string& program);

  ServerProcess(ServerProcess&&) = default;
  ServerProcess& operator=(ServerProcess&&) = delete;
  ~ServerProcess();  // kills and reaps, unless let_go() was called

  UniqueFd take_socket() { return std::move(socket_); }
  UniqueFd take_words() { return std::move(words_); }  // read end of its standard error, not blocking

  // It serves: from now on it lives without the helper.
  void let_go() { process_.reset(); }
  // Kills and reaps it. How it had ended by itself, in words; empty if it was still alive (after a short
  // wait).
  std::string end();

  [[nodiscard]] int pid() const { return pid_; }

 private:
  ServerProcess(UniqueFd process, int pid, UniqueFd socket, UniqueFd words)
      : process_(std::move(process)), pid_(pid), socket_(std::move(socket)), words_(std::move(words)) {}

  UniqueFd process_;  // pidfd
  int pid_;
  UniqueFd socket_;
  UniqueFd words_;
};

// Where the server is: SBIN/../libexec/fuse4fs/fuse4fs, seen from this program's own place. Built and
// installed trees look alike.
Outcome<std::string> server_program();

}  // namespace fuse4fs::helper
