// SPDX-License-Identifier: GPL-2.0-or-later
// The default ACLs of directories in which something was made lately, or that they have none: each new file
// asks for it.
//
// XattrStore forgets an inode's with each change of its attributes, and when it is deleted.
//
// Locking: any thread that holds the inode's lock, exclusive to forget; a lock of its own (rank kDefaultAcls)
// for moments. Errors: none.
#pragma once

#include <array>
#include <optional>
#include <utility>

#include "base/guarded.h"
#include "server/ext4/acl.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class DefaultAcls {
 public:
  // Nothing where it is not known; without entries where there is none.
  [[nodiscard]] std::optional<Acl> find(InodeNumber directory) {
    auto places = places_.lock();
    const Place& place = place_of(*places, directory);
    return place.directory == directory ? std::optional(place.acl) : std::nullopt;
  }
  void keep(InodeNumber directory, Acl acl) {
    auto places = places_.lock();
    place_of(*places, directory) = {.directory = directory, .acl = std::move(acl)};
  }
  void forget(InodeNumber inode) {
    auto places = places_.lock();
    Place& place = place_of(*places, inode);
    if (place.directory == inode) place = {};
  }

 private:
  struct Place {
    InodeNumber directory = 0;
    Acl acl = {};
  };
  using Places = std::array<Place, 64>;
  static Place& place_of(Places& places, InodeNumber inode) { return places[inode % places.size()]; }

  Guarded<Places, LockRank::kDefaultAcls> places_;
};

}  // namespace fuse4fs::ext4
