// SPDX-License-Identifier: GPL-2.0-or-later
// The answer to the request that this thread is handling. The one border where an Errno becomes a negative
// number.
//
// A worker names the request with CurrentRequest::Scope before it is decoded. Answers go to the /dev/fuse
// descriptor that the request was read from, which is what the kernel demands of cloned descriptors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/errno.h"
#include "base/result.h"
#include "server/ext4/file_system.h"
#include "server/fuse/connection.h"
#include "server/fuse/conversions.h"

struct fuse_req;

namespace fuse4fs::fuse {

class CurrentRequest {
 public:
  // For the life of one request on this thread.
  class Scope {
   public:
    // `payload`: what follows the header, which must outlive this, as `connection`.
    Scope(const Connection& connection, int device_fd, std::uint64_t unique, std::uint32_t opcode,
          std::span<const std::byte> payload);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };
  static int device_fd();
  static const Connection& connection();
  static AttributeStyle attribute_style(std::uint32_t block_size);
  static std::uint32_t opcode();
  // Of READ, READDIR and READDIRPLUS: how the file was opened (O_*). libfuse drops it for directories.
  static unsigned open_flags();
};

// Answers exactly once. A request that was decoded by libfuse is given back to it at the end.
class Reply {
 public:
  Reply() = default;  // a request that this project decoded itself
  explicit Reply(fuse_req* request) : request_(request) {}
  ~Reply();
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;

  void error(Errno error);
  void ok();
  void none() { answered_ = true; }  // FORGET and its like get no answer
  void entry(const ext4::Attributes& attributes, std::uint32_t block_size);
  void no_entry();
  void attributes(const ext4::Attributes& attributes, std::uint32_t block_size);
  void data(std::span<const std::byte> bytes);
  void written(std::uint32_t bytes);
  // The ioctl succeeded, and this is what it gives its caller.
  void ioctl(std::span<const std::byte> bytes);

  template <class Struct>
  void structure(const Struct& value) {
    data(std::as_bytes(std::span(&value, 1)));
  }
  void outcome(const Result<void>& result) { result ? ok() : error(result.error()); }
  void entry_or_error(const Result<ext4::Attributes>& result, std::uint32_t block_size) {
    result ? entry(*result, block_size) : error(result.error());
  }
  void attributes_or_error(const Result<ext4::Attributes>& result, std::uint32_t block_size) {
    result ? attributes(*result, block_size) : error(result.error());
  }

 private:
  void send(int negative_errno, std::span<const std::byte> payload);

  fuse_req* request_ = nullptr;
  bool answered_ = false;
};

}  // namespace fuse4fs::fuse
