// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/mode_watch.h"

#include <sys/stat.h>

#include "server/fuse/conversions.h"
#include "server/fuse/notifications.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {

ModeWatch::ModeWatch(ext4::FileSystem& file_system, std::uint64_t node_id,
                     ext4::AttributeChanges::Privileges privileges)
    : node_id_(node_id) {
  // Said of each direct write of an ordinary user, too; few files have any.
  if (privileges == ext4::AttributeChanges::Privileges::kKeep) return;
  const auto attributes = file_system.attributes(inode_number(node_id));
  had_privileges_ = attributes && (attributes->mode & (S_ISUID | S_ISGID)) != 0;
}

void ModeWatch::content_changed() const {
  if (had_privileges_) invalidate_attributes(node_id_);
}

}  // namespace fuse4fs::fuse
