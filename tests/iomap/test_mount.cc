// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/test_mount.h"

#include <sys/socket.h>

#include <stdexcept>
#include <system_error>

namespace fuse4fs::iomap_model {

ServerThreads::ServerThreads(int fd, fuse::Dispatcher& dispatcher, std::size_t count) : fd_(fd) {
  dispatcher.set_workers(count);
  for (std::size_t worker = 0; worker < count; ++worker)
    threads_.emplace_back([fd, &dispatcher] {
      std::vector<std::byte> buffer(fuse::kMaxTransfer + 4096);
      while (true) {
        const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return;
        dispatcher.dispatch(fd, std::span(buffer).first(static_cast<std::size_t>(got)));
      }
    });
}

ServerThreads::~ServerThreads() {
  ::shutdown(fd_, SHUT_RDWR);
  threads_.clear();
}

TestMount::TestMount(int device, const MakeServer& make_server, const Options& options) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::generic_category(), "socketpair");
  server_end_ = UniqueFd(ends[0]);
  kernel_ = std::make_unique<Kernel>(UniqueFd(ends[1]), options.kernel);
  server_ = make_server(*kernel_);
  fuse::SessionOptions session;
  session.block_device = device;
  session.sector_size = Device::kLogicalBlock;
  if (options.atomic_writes == Options::AtomicWrites::kBlocks)
    session.atomic_write_unit = server_->block_size();
  session.name = "model";
  session.kernel = kernel_.get();
  auto dispatcher = fuse::Dispatcher::create(*server_, session);
  if (!dispatcher) throw std::runtime_error(dispatcher.error().message);
  dispatcher_ = std::move(*dispatcher);
  threads_ = std::make_unique<ServerThreads>(server_end_.get(), *dispatcher_, options.workers);
}

// The server first, which uses the kernel to its end.
TestMount::~TestMount() { kill_server(); }

void TestMount::kill_server() {
  threads_.reset();
  dispatcher_.reset();
  server_.reset();
}

}  // namespace fuse4fs::iomap_model
