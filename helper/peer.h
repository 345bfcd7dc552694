// SPDX-License-Identifier: GPL-2.0-or-later
// Who is at the other end of a socket, by the kernel's word alone, and looking at files with that person's
// eyes.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "helper/process_identity.h"
#include "helper/user_mount_policy.h"

namespace fuse4fs::helper {

struct Peer {
  Person person;  // as it was when it connected
  ProcessIdentity process;
};

// How the process at the other end is held while it is looked at.
enum class PeerHandle {
  kOfConnection,  // the kernel's own handle of it (Linux 6.5), or else as below
  // By its number, which another process may have by then: so that one must be the user's that connected, and
  // older than this process, which is to have been started for the connection.
  kOfNumber,
};

// EPERM with words where the process is in another mount namespace: its paths would mean other files here.
// ESRCH if it has ended.
Outcome<Peer> identify_peer(int socket, PeerHandle handle = PeerHandle::kOfConnection);

// While it lives, files are looked up and opened with that person's rights and none of root's.
// Single-threaded; one at a time.
class [[nodiscard]] EyesOf {
 public:
  explicit EyesOf(const Person& person);
  EyesOf(const EyesOf&) = delete;
  EyesOf& operator=(const EyesOf&) = delete;
  ~EyesOf();
};

// An O_PATH descriptor of what is at `path`, which must be absolute, without "." and "..", and without
// symbolic links: ELOOP for one, wherever it is.
Result<UniqueFd> open_place(const std::string& path, int flags);

}  // namespace fuse4fs::helper
