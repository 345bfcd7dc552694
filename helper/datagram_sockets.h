// SPDX-License-Identifier: GPL-2.0-or-later
// Sockets to systemd and journald for a server that may make none itself.
//
// Such a socket must reach what it is connected to, and nothing else, even in the hands of a server that was
// taken over. Its filter has no connect(2) and no sendto(2) with an address, but sendmsg(2) takes one from
// memory, where no filter sees it. There are two kinds of addresses:
//  - names of files: looked up from the server's root, which is empty;
//  - abstract names: looked up in the network namespace of the socket, not of the process. So the socket is
//    made in a namespace of its own in which nobody listens; connecting it by the name of a file crosses that
//    border.
// It does not wait (a manager that reads no more must not stop a file system), and it is shut for reading.
// The receivers judge by the sender's process, for which the kernel vouches with each datagram: the server
// can speak for its own unit only.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

inline constexpr char kNotifySocket[] = "/run/systemd/notify";
inline constexpr char kJournalSocket[] = "/run/systemd/journal/socket";

// One thread: making a socket takes the calling thread into the namespace and back.
class DatagramSockets {
 public:
  // ENOENT if there is no socket of root's at `path`, ECONNREFUSED if nobody listens; what unshare(2) says
  // where no network namespace can be had.
  Result<UniqueFd> connect(const std::string& path);

 private:
  Result<UniqueFd> make_socket();

  UniqueFd empty_network_;  // made when it is first needed
};

}  // namespace fuse4fs::helper
