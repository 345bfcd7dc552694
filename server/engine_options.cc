// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/engine_options.h"

#include <sys/mount.h>

namespace fuse4fs {
namespace {

ext4::ErrorPolicy error_policy(service::ErrorsOption option) {
  switch (option) {
    case service::ErrorsOption::kContinue:
      return ext4::ErrorPolicy::kContinue;
    case service::ErrorsOption::kRemountReadOnly:
      return ext4::ErrorPolicy::kRemountReadOnly;
    // The kernel's ext4 stops the machine; here the volume is all that may stop.
    case service::ErrorsOption::kPanic:
      break;
  }
  return ext4::ErrorPolicy::kShutDown;
}

// "sdb1"
std::string device_name(const service::Options& options) {
  return options.source.substr(options.source.rfind('/') + 1);
}

fuse::SessionOptions::Iomap iomap_choice(service::IomapOption option) {
  using Iomap = fuse::SessionOptions::Iomap;
  switch (option) {
    case service::IomapOption::kRequired:
      return Iomap::kRequired;
    case service::IomapOption::kRefused:
      return Iomap::kRefused;
    case service::IomapOption::kIfOffered:
      break;
  }
  return Iomap::kIfOffered;
}

}  // namespace

ext4::MountOptions engine_options(const service::Options& options, cache::Access access) {
  ext4::MountOptions engine;
  engine.access = access;
  if (options.no_acls) engine.acls = ext4::MountOptions::Acls::kIgnore;
  if (options.discard) engine.discards = ext4::MountOptions::Discards::kWhatIsFreed;
  if (options.ignore_journal) engine.journal = ext4::MountOptions::Journal::kIgnore;
  if (options.errors) engine.errors = error_policy(*options.errors);
  if (options.cache_size) engine.cache_memory = *options.cache_size;
  // With the write-back cache they are the kernel's, and its SETATTR may overtake a WRITE.
  engine.content_times = ext4::MountOptions::ContentTimes::kCallers;
  // The kernel's FUSE leaves them to the server.
  if ((options.mount_flags & MS_NOATIME) != 0)
    engine.access_times = ext4::AccessTimes::kNever;
  else if ((options.mount_flags & MS_STRICTATIME) != 0)
    engine.access_times = ext4::AccessTimes::kStrict;
  engine.directory_access_times =
      (options.mount_flags & MS_NODIRATIME) != 0 ? ext4::AccessTimes::kNever : engine.access_times;
  engine.device_name = device_name(options);
  return engine;
}

fuse::SessionOptions session_options(const service::Options& options) {
  fuse::SessionOptions session;
  session.name = device_name(options);
  session.iomap = iomap_choice(options.iomap);
  if (options.id_mapped_mounts) session.id_mapped_mounts = fuse::SessionOptions::IdMappedMounts::kAllowed;
  return session;
}

}  // namespace fuse4fs
