// SPDX-License-Identifier: GPL-2.0-or-later
// Around a change of a file's content that may take setuid and setgid from it.
//
// The answers to such requests carry no attributes: the kernel would go on believing in the mode that it has
// seen, and execute the file by it.
#pragma once

#include <cstdint>

#include "server/ext4/file_system.h"

namespace fuse4fs::fuse {

class ModeWatch {
 public:
  // Before the change. Costs nothing where privileges are kept.
  ModeWatch(ext4::FileSystem& file_system, std::uint64_t node_id,
            ext4::AttributeChanges::Privileges privileges);
  // After it, and before its answer: tells the kernel if there was something to take.
  void content_changed() const;

 private:
  const std::uint64_t node_id_;
  bool had_privileges_ = false;
};

}  // namespace fuse4fs::fuse
