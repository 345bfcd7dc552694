// SPDX-License-Identifier: GPL-2.0-or-later
// A server of server/fuse with threads of its own, and the model as its kernel, over a socket.
//
// Errors while it is put together are exceptions: nothing can be tested then.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "server/fuse/dispatcher.h"
#include "tests/iomap/kernel.h"

namespace fuse4fs::iomap_model {

// Threads that read requests from a descriptor and dispatch them, until it is shut down.
class ServerThreads {
 public:
  ServerThreads(int fd, fuse::Dispatcher& dispatcher, std::size_t count);
  ~ServerThreads();
  ServerThreads(const ServerThreads&) = delete;
  ServerThreads& operator=(const ServerThreads&) = delete;

 private:
  const int fd_;
  std::vector<std::jthread> threads_;
};

class TestMount {
 public:
  struct Options {
    KernelOptions kernel{};
    std::size_t workers = 4;
    // Whether the server is told that the device writes blocks in one piece.
    enum class AtomicWrites { kNone, kBlocks };
    AtomicWrites atomic_writes = AtomicWrites::kBlocks;
  };
  // Makes the server's file system for a device that is there already; it is told things by `kernel`, which
  // is also the watch of its blocks.
  using MakeServer = std::function<std::unique_ptr<ext4::FileSystem>(Kernel& kernel)>;

  // `device` is borrowed. Mounted by mount().
  TestMount(int device, const MakeServer& make_server, const Options& options);
  ~TestMount();

  Kernel& kernel() { return *kernel_; }
  ext4::FileSystem& server() { return *server_; }
  // It is gone in the middle of what it does, without an unmount; the kernel lives on. Nobody else may use
  // server() meanwhile, nor afterwards.
  void kill_server();

 private:
  UniqueFd server_end_;
  std::unique_ptr<Kernel> kernel_;
  std::unique_ptr<ext4::FileSystem> server_;
  std::unique_ptr<fuse::Dispatcher> dispatcher_;
  std::unique_ptr<ServerThreads> threads_;
};

}  // namespace fuse4fs::iomap_model
