// SPDX-License-Identifier: GPL-2.0-or-later
// Packets to the helper, sound ones and others, and what its answer comes to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/messages.h"
#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {

// Sends the bytes as they are and judges the answer: an error is a refusal, anything else a success.
Verdict ask(Place& place, protocol::ByteView packet);
inline Verdict ask(Place& place, const protocol::Command& command) {
  return ask(place, protocol::encode(command));
}

Verdict ask_open(Place& place, std::string path, std::uint32_t flags);
Verdict ask_device(Place& place, std::string path, std::uint32_t flags, std::uint32_t block_size = 0);
// Bytes of a magic and what follows it, for packets that no encoder makes.
protocol::Bytes raw_packet(std::string_view bytes);

// Sends without waiting for an answer; whether it went.
bool send_only(Place& place, protocol::ByteView packet);
// Waits until the helper closes the conversation. Answers on the way are thrown away.
Verdict wait_for_end(Place& place);

// TYPE, NAME, MNTP, OPTS, DOIT as the server says them. Success: the kernel has a mount.
struct MountWords {
  std::string options = "default_permissions,allow_other,blksize=4096";
  std::uint32_t flags = 0;
};
Verdict mount_it(Place& place, const MountWords& words = {});

}  // namespace fuse4fs::rogue
