// SPDX-License-Identifier: GPL-2.0-or-later
// Asks polkit whether somebody may have something mounted that no line of fstab gives them.
//
// By its own program pkcheck, in a process of its own: no D-Bus messages are read here. The action is
// org.fuse4fs.mount (policy/); polkit's rules, or an administrator's password, decide.
#pragma once

#include <string>

#include "base/result.h"
#include "helper/peer.h"

namespace fuse4fs::helper {

// Waits while somebody is asked for a password; ended early, with EINTR, when `socket`, the asker's, is
// closed. EPERM with words for a no, and for everything that is not a yes: no polkit, no answer.
Outcome<void> ask_polkit(const Peer& peer, int socket, const std::string& device,
                         const std::string& directory);

}  // namespace fuse4fs::helper
