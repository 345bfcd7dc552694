// SPDX-License-Identifier: GPL-2.0-or-later
// What happens between the birth of the server's process and its program: only system calls, no memory, no
// locks.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace fuse4fs::helper {

// All prepared by the parent. The descriptors are close-on-exec and above the ones that the server gets.
struct ChildPlan {
  std::uint64_t namespaces = 0;  // CLONE_NEW*
  uid_t user = 0;
  gid_t group = 0;
  int go = -1;            // one byte comes when the user namespace is mapped; nothing: do not start
  int go_write_end = -1;  // the parent's; a copy kept by the child would keep the pipe open for ever
  int null = -1;          // /dev/null
  int words = -1;         // write end
  int socket = -1;
  int program = -1;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
};

[[noreturn]] void become_server(const ChildPlan& plan);

}  // namespace fuse4fs::helper
