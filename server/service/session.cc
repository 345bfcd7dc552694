// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <thread>

#include "base/quoted.h"
#include "protocol/arguments.h"
#include "server/service/memory_pressure.h"

namespace fuse4fs::service {
namespace {

bool has_type(const UniqueFd& fd, mode_t type) {
  struct stat status;
  return fd && ::fstat(fd.get(), &status) == 0 && (status.st_mode & S_IFMT) == type;
}

// The device can be read, if not written.
bool is_write_refusal(Errno error) {
  return error == Errno(EROFS) || error == Errno(EACCES) || error == Errno(EPERM);
}

std::string mount_options(const Options& options, std::uint32_t block_size) {
  const auto page_size = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
  // Without blksize every file would claim blocks of 512 bytes; above a page the kernel refuses it.
  std::string list =
      fmt::format("default_permissions,allow_other,blksize={}", std::min(block_size, page_size));
  for (const std::string& option : options.kernel_options) list += ',' + option;
  return list;
}

}  // namespace

Outcome<Session> Session::accept(UniqueFd socket) {
  const auto failed_to = [](std::string_view step, Errno error) {
    return fail(error, fmt::format("cannot {}: {}", step, error.message()));
  };
  auto channel = protocol::Channel::adopt(std::move(socket));
  if (!channel) return failed_to("use the helper's socket", channel.error());
  protocol::ServerEnd connection(*std::move(channel));

  auto greeting = connection.greet();
  if (!greeting) return failed_to("agree with the mount helper", greeting.error());
  const auto arguments = protocol::read_arguments(greeting->arguments.get());
  if (!arguments) return failed_to("read the arguments that the helper sent", arguments.error());
  if (!has_type(greeting->fuse_device, S_IFCHR))
    return fail(Errno(EBADMSG), "what the helper sent as the FUSE device is not a character device");
  if (!greeting->hello.may_use_fuseblk)
    return fail(Errno(EPERM), "a block device can be mounted by root only");

  auto options = parse_options(*arguments);
  if (!options) {
    // The conversation is sound, so the helper hears it the proper way.
    [[maybe_unused]] const auto sent = connection.say_goodbye(1);
    return std::unexpected(std::move(options.error()));
  }
  return Session(std::move(connection), std::move(greeting->fuse_device), *std::move(options));
}

Result<UniqueFd> Session::open_reserved(std::string_view name) {
  // To libfuse's helper it is a file name like any other, below its working directory. O_PATH, so that
  // whatever lies there under that name is neither read, written nor waited for.
  auto opened = connection_.open(protocol::OpenFile{
      .path = std::string(name), .open_flags = O_PATH | O_CLOEXEC, .create_mode = 0, .quiet = true});
  if (!opened) return opened;
  // Our helper pays no heed to the flags. So a file that came with them is libfuse's answer, and not what was
  // meant.
  const int flags = ::fcntl(opened->get(), F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0) return fail(ENOENT);
  return opened;
}

UniqueFd Session::open_log() {
  auto log = open_reserved(protocol::kJournalName);
  // Nothing but the two answers of our helper counts: libfuse's may fail to look the name up in more ways
  // than one, and without a claim its device would be nobody's.
  helper_knows_us_ = log || (!connection_.broken() && log.error() == Errno(EOPNOTSUPP));
  return log ? *std::move(log) : UniqueFd();
}

UniqueFd Session::open_notify() {
  if (!helper_knows_us_) return {};
  auto socket = open_reserved(protocol::kNotifyName);
  return socket && has_type(*socket, S_IFSOCK) ? *std::move(socket) : UniqueFd();
}

std::vector<UniqueFd> Session::open_pressure() {
  std::vector<UniqueFd> files;
  if (!helper_knows_us_) return files;
  while (files.size() < MemoryPressure::kMost) {
    auto file = open_reserved(protocol::kPsiName);
    if (!file || !has_type(*file, S_IFREG)) break;
    files.push_back(*std::move(file));
  }
  return files;
}

Result<UniqueFd> Session::open_source(int flags) {
  // Not quiet, since the helper's words are what the user sees; but a device without direct I/O is nothing to
  // report.
  return connection_.open(
      protocol::OpenBlockDevice{.path = options_.source,
                                .open_flags = static_cast<std::uint32_t>(flags | O_CLOEXEC),
                                .create_mode = 0,
                                .quiet = (flags & O_DIRECT) != 0,
                                .block_size = 0});
}

Result<UniqueFd> Session::claim_source(int flags, ClaimPatience patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience.limit;
  for (;;) {
    auto claim = open_source(flags | O_EXCL);
    const bool busy = !claim && claim.error() == Errno(EBUSY) && !connection_.broken();
    if (!busy || std::chrono::steady_clock::now() + patience.interval > deadline) return claim;
    std::this_thread::sleep_for(patience.interval);
  }
}

Outcome<DeviceDescriptors> Session::open_device(ClaimPatience patience) {
  // The first one answers whether the device can be had, and how: under libfuse's helper that is the claim.
  const auto open_first = [&](int flags) {
    return helper_knows_us_ ? open_source(flags) : claim_source(flags, patience);
  };
  DeviceDescriptors device;
  device.read_only = options_.read_only;
  auto first = open_first(device.read_only ? O_RDONLY : O_RDWR);
  if (!first && !device.read_only && !connection_.broken() && is_write_refusal(first.error())) {
    device.write_refusal = first.error();
    device.read_only = true;
    first = open_first(O_RDONLY);
  }
  if (!first) return std::unexpected(failure(first.error(), "open the device"));

  const int flags = device.read_only ? O_RDONLY : O_RDWR;
  if (helper_knows_us_) {
    device.buffered = *std::move(first);
  } else {
    exclusive_claim_ = *std::move(first);
    auto plain = open_source(flags);
    if (!plain) return std::unexpected(failure(plain.error(), "open the device a second time"));
    device.buffered = *std::move(plain);
  }

  auto direct = open_source(flags | O_DIRECT);
  if (direct)
    device.direct = *std::move(direct);
  else if (connection_.broken())
    return std::unexpected(failure(direct.error(), "open the device for direct I/O"));
  if (device.read_only) make_read_only();
  return device;
}

Outcome<UniqueFd> Session::open_journal() {
  const bool read_only = (options_.mount_flags & MS_RDONLY) != 0;
  auto opened = connection_.open(protocol::OpenBlockDevice{
      .path = options_.journal_path,
      .open_flags = static_cast<std::uint32_t>((read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC |
                                               (helper_knows_us_ ? 0 : O_EXCL)),
      .create_mode = 0,
      .quiet = false,
      .block_size = 0});
  if (!opened) {
    const auto step = fmt::format("open the journal's device {}", quoted(options_.journal_path));
    return std::unexpected(failure(opened.error(), step));
  }
  return *std::move(opened);
}

Outcome<DeviceDescriptors> Session::reopen_device_read_only() {
  DeviceDescriptors device;
  device.read_only = true;
  auto plain = open_source(O_RDONLY);
  if (!plain) return std::unexpected(failure(plain.error(), "open the device read-only"));
  device.buffered = *std::move(plain);
  auto direct = open_source(O_RDONLY | O_DIRECT);
  if (direct)
    device.direct = *std::move(direct);
  else if (connection_.broken())
    return std::unexpected(failure(direct.error(), "open the device for direct I/O"));
  make_read_only();
  return device;
}

UniqueFd Session::open_clone() {
  auto clone = open_reserved(protocol::kCloneName);
  return clone && has_type(*clone, S_IFCHR) ? *std::move(clone) : UniqueFd();
}

void Session::make_read_only() { options_.mount_flags |= MS_RDONLY; }

Outcome<void> Session::mount(std::uint32_t block_size) {
  namespace message = protocol;
  // All that the server asks for is open; a helper that pushes more is up to no good. The clones are asked
  // for later, so the socket itself must go on taking descriptors.
  struct Step {
    std::string_view what;
    message::Command command;
  };
  const std::array<Step, 4> steps{{
      {"choose the file system type fuseblk (TYPE)", message::OpenFsContext{.fuseblk = true}},
      {"set the source (NAME)", message::SetSource{options_.source}},
      {"set the mount point (MNTP)",
       message::SetMountPoint{options_.mount_point, message::MountPointType::kDirectory}},
      {"set the mount options (OPTS)", message::SetMountOptions{mount_options(options_, block_size)}},
  }};
  for (const Step& step : steps) {
    if (auto done = connection_.command(step.command); !done)
      return std::unexpected(failure(done.error(), step.what));
  }
  // fuseblk claims the device for itself.
  exclusive_claim_.reset();
  const message::Mount doit{.flags = static_cast<std::uint32_t>(options_.mount_flags)};
  if (auto done = connection_.command(doit); !done)
    return std::unexpected(failure(done.error(), "mount it (DOIT)"));
  return {};
}

void Session::say_goodbye(std::uint32_t exit_code) {
  // A helper that is gone has no use for it.
  [[maybe_unused]] const auto sent = connection_.say_goodbye(exit_code);
}

Failure Session::failure(Errno error, std::string_view step) const {
  const std::string_view speaker =
      connection_.broken() ? "the connection to the helper failed" : "the helper says";
  std::string words = fmt::format("{} on {}: cannot {}: {}: {}", quoted(options_.source),
                                  quoted(options_.mount_point), step, speaker, error.message());
  if (!connection_.broken() && error == Errno(EBUSY))
    words += " (is it mounted already, or in use by LVM, RAID or swap?)";
  return Failure{error, std::move(words)};
}

}  // namespace fuse4fs::service
