// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_command.h"

#include <fmt/format.h>
#include <stdio.h>
#include <sys/mount.h>

#include <optional>
#include <utility>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/abort.h"
#include "helper/file_opener.h"
#include "helper/fuse_device.h"
#include "helper/interruption.h"
#include "helper/iomap_blessing.h"
#include "helper/mount_attempt.h"
#include "helper/mount_record.h"
#include "helper/present_mount.h"
#include "helper/privileges.h"
#include "helper/remount.h"
#include "helper/stop.h"

namespace fuse4fs::helper {
namespace {

ExitStatus report(const Failure& failure, ExitStatus status) {
  if (Interruption::requested()) {
    log_error("interrupted");
    return kInterrupted;
  }
  log_error("{}", failure.message);
  return status;
}

bool is_missing(Errno error) {
  return error == Errno(ENOENT) || error == Errno(ENODEV) || error == Errno(ENXIO) ||
         error == Errno(ENOMEDIUM);
}

// Nothing if it is mounted no more: then it is mounted as if it had never been.
std::optional<ExitStatus> mount_once_more(const CommandLine& line, const MountPoint& mount_point,
                                          const PresentMount& present) {
  const bool read_only = (line.options.flags & MS_RDONLY) != 0;
  auto source = Source::open(present.device_path,
                             {.access = read_only ? Access::kReadOnly : Access::kReadWrite,
                              .on_write_protection = line.demand_writable ? OnWriteProtection::kRefuse
                                                                          : OnWriteProtection::kMountReadOnly,
                              .claim = Claim::kLeftToService});
  if (!source || source->device_number() != present.device) return std::nullopt;
  if (line.fake) return kSuccess;
  unsigned long flags = line.options.flags;
  if (source->access() == Access::kReadOnly) flags |= MS_RDONLY;
  // One of its own: should the device be mounted no more, it is used up, and mounting as usual would fail
  // with EINVAL.
  const auto fuse_device = open_fuse_device();
  if (!fuse_device) return report(fuse_device.error(), kSystemError);
  FuseMount mount(line.type, *source, mount_point, fuse_device->get(), owner_of(line));
  if (const auto outcome = mount.mount_again({.flags = flags}); !outcome) {
    if (outcome.error().error == Errno(EAGAIN)) return std::nullopt;
    return report(outcome.error(), kMountFailure);
  }
  for (const std::string& option : line.options.for_new_mounts) {
    log_warning("option {} changes nothing: {} is mounted on {} already, and served as it was then",
                quoted(option), quoted(line.source), quoted(present.mount_point));
  }
  log_info("{} is mounted on {} as well as on {}", quoted(line.source), quoted(mount_point.path()),
           quoted(present.mount_point));
  return kSuccess;
}

std::optional<ExitStatus> mount_once_more(const CommandLine& line, const MountPoint& mount_point) {
  if (line.type != kOwnType) return std::nullopt;
  const auto present = find_present_mount(line.source, line.on_behalf ? line.on_behalf->source : -1);
  if (!present) return std::nullopt;
  return mount_once_more(line, mount_point, *present);
}

Outcome<std::optional<Source>> open_journal(const MountOptions& options, const Source& source) {
  if (options.journal_path.empty()) return std::nullopt;
  ASSIGN_OR_RETURN(Source journal, Source::open(options.journal_path,
                                                {.access = source.access(), .claim = Claim::kHandedOver}));
  if (journal.path().find_first_of(",\"") != std::string::npos) {
    return fail(Errno(EINVAL),
                fmt::format("journal_path={}: a name with a comma or a quote cannot be handed on",
                            quoted(journal.path())));
  }
  return std::optional<Source>(std::move(journal));
}

// What the user asked for, and what comes of it.
Outcome<void> heed_iomap(const Outcome<void>& blessed, MountOptions& options) {
  if (blessed) {
    log_info("the kernel may do file I/O by itself (iomap)");
    return {};
  }
  const Failure& failure = blessed.error();
  if (options.iomap == IomapWish::kRequired)
    return fail(failure.error, fmt::format("option iomap cannot be heeded: {}", failure.message));
  log_info("file I/O goes through the server: {}", failure.message);
  if ((options.flags & kLazyTime) != 0) log_info("{}", kNoLazyTime);
  options.flags &= ~kLazyTime;
  return {};
}

ExitStatus mount_source(const CommandLine& line) {
  MountOptions options = line.options;
  auto mount_point = line.on_behalf ? MountPoint::adopt(line.mount_point, line.on_behalf->directory)
                                    : MountPoint::open(line.mount_point, line.name_space);
  if (!mount_point) return report(mount_point.error(), kMountFailure);
  UniqueFd log_file;
  if (!options.log_file.empty()) {
    auto opened = open_log_file(options.log_file);
    if (!opened) return report(opened.error(), kUsage);
    log_file = std::move(*opened);
  }
  auto fuse_device = open_fuse_device();
  if (!fuse_device) return report(fuse_device.error(), kSystemError);
  const auto iomap = bless_for_iomap(fuse_device->get(), options.iomap);
  if (const auto heeded = heed_iomap(iomap, options); !heeded) return report(heeded.error(), kMountFailure);
  if (const auto done = give_up_blessing(); !done) return report(done.error(), kSystemError);
  if (auto records = RecordDirectory::open()) records->remove_stale();
  if (const auto status = mount_once_more(line, *mount_point)) return *status;
  auto source = Source::open(
      line.source, {.access = (options.flags & MS_RDONLY) != 0 ? Access::kReadOnly : Access::kReadWrite,
                    .on_write_protection =
                        line.demand_writable ? OnWriteProtection::kRefuse : OnWriteProtection::kMountReadOnly,
                    .claim = line.type == kOwnType ? Claim::kExclusive : Claim::kLeftToService,
                    .place = line.on_behalf ? line.on_behalf->source : -1});
  if (!source) {
    if (options.no_fail && is_missing(source.error().error)) {
      log_info("{} (nofail)", source.error().message);
      return kSuccess;
    }
    // Another helper may have been at work on it, and done in the meantime.
    if (source.error().error == Errno(EBUSY))
      if (const auto status = mount_once_more(line, *mount_point)) return *status;
    return report(source.error(), kMountFailure);
  }
  if (source->access() == Access::kReadOnly && (options.flags & MS_RDONLY) == 0) {
    log_warning("{} is write-protected, and is mounted read-only", quoted(line.source));
    options.flags |= MS_RDONLY;
  }
  const auto journal = open_journal(options, *source);
  if (!journal) return report(journal.error(), kMountFailure);
  if (line.fake) {
    log_info("{} could be mounted on {}", quoted(line.source), quoted(mount_point->path()));
    return kSuccess;
  }
  MountAttempt attempt({.line = line,
                        .options = std::move(options),
                        .source = *source,
                        .journal = *journal ? &**journal : nullptr,
                        .mount_point = *mount_point,
                        .fuse_device = std::move(*fuse_device),
                        .iomap = iomap,
                        .log_file = std::move(log_file)});
  if (const auto outcome = attempt.run(); !outcome) return report(outcome.error(), kMountFailure);
  log_info("{} is mounted on {} as {}", quoted(line.source), quoted(mount_point->path()), source->path());
  return kSuccess;
}

}  // namespace

ExitStatus run(const CommandLine& line) {
  for (const std::string& remark : line.options.remarks) log_info("{}", remark);
  switch (line.action) {
    case Action::kShowText:
      fmt::print("{}", line.text);
      return kSuccess;
    case Action::kAbort:
      if (const auto outcome = abort_mount(line.mount_point, line.type); !outcome)
        return report(outcome.error(), kMountFailure);
      return kSuccess;
    case Action::kStop:
      if (const auto outcome = stop({.directory = line.mount_point,
                                     .only = line.on_behalf ? line.on_behalf->mount : std::nullopt,
                                     .unit = line.unit,
                                     .pid = line.server,
                                     .detach = line.lazy ? Detach::kLazily : Detach::kWhenUnused});
          !outcome)
        return report(outcome.error(), kMountFailure);
      return kSuccess;
    case Action::kRemount:
      if (line.fake) return kSuccess;
      if (const auto outcome = remount(line.mount_point, line.type, line.options); !outcome)
        return report(outcome.error(), kMountFailure);
      return kSuccess;
    case Action::kServeUser:
      break;  // program.cc's
    case Action::kMount:
      return mount_source(line);
  }
  return kInternalBug;
}

}  // namespace fuse4fs::helper
