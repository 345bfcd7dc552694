// SPDX-License-Identifier: GPL-2.0-or-later
// What libfuse calls for an operation: no exception passes into C, and every request is answered.
#pragma once

#include <fuse_lowlevel.h>

#include <exception>
#include <new>

#include "base/log.h"
#include "server/ext4/file_system.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {

// Entry<handler>::call is what goes into fuse_lowlevel_ops.
template <auto kHandler>
struct Entry;
template <class... Args, void (*kHandler)(ext4::FileSystem&, Reply&, fuse_req_t, Args...)>
struct Entry<kHandler> {
  static void call(fuse_req_t request, Args... args) noexcept {
    Reply reply(request);
    try {
      kHandler(*static_cast<ext4::FileSystem*>(fuse_req_userdata(request)), reply, request, args...);
    } catch (const std::bad_alloc&) {
      reply.error(Errno(ENOMEM));
    } catch (const std::exception& exception) {
      log_error("opcode {}: {}", CurrentRequest::opcode(), exception.what());
      reply.error(Errno(EIO));
    }
  }
};

}  // namespace fuse4fs::fuse
