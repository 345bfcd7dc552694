// SPDX-License-Identifier: GPL-2.0-or-later
// The options of mount(8), as the engine and the FUSE session want them.
#pragma once

#include "server/ext4/file_system.h"
#include "server/fuse/negotiation.h"
#include "server/service/options.h"

namespace fuse4fs {

// But for what depends on the machine and the process: names, and how to wait.
ext4::MountOptions engine_options(const service::Options& options, cache::Access access);
fuse::SessionOptions session_options(const service::Options& options);

}  // namespace fuse4fs
