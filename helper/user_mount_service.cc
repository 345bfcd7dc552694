// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_service.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string_view>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/command_line.h"
#include "helper/fstab.h"
#include "helper/mount_place.h"
#include "helper/mount_record.h"
#include "helper/mount_table.h"
#include "helper/peer.h"
#include "helper/polkit.h"
#include "helper/user_mount_claim.h"
#include "helper/user_mount_errand.h"
#include "helper/user_mount_policy.h"
#include "helper/user_mount_request.h"
#include "protocol/channel.h"

namespace fuse4fs::helper {
namespace {

// Who connects and says nothing holds one of the socket unit's connections.
constexpr std::chrono::seconds kRequestPatience{10};

// Where users' own directories lie. Elsewhere (proc, sysfs, …) a directory that belongs to a user may be one
// that programs trust for what it is.
constexpr unsigned long kFileSystemsOfUsers[] = {
    0xef53,      // ext2, ext3, ext4
    0x58465342,  // xfs
    0x9123683e,  // btrfs
    0xf2f52010,  // f2fs
    0x01021994,  // tmpfs
    0x794c7630,  // overlay
    0x65735546,  // FUSE
    0x6969,      // NFS
    0x2fc12fc1,  // ZFS
    0xca451a4e,  // bcachefs
};

struct Order {
  CommandLine line;
  UniqueFd source;
  UniqueFd directory;
  std::optional<MountClaim> claim;  // kept while the errand is run
  std::string_view grounds;
};

std::unexpected<Failure> no_place(const std::string& path, Errno error) {
  const std::string why = error == Errno(ELOOP) ? "there is a symbolic link in the path; write it without"
                                                : std::string(error.message());
  return fail(error, fmt::format("{}: {}", quoted(path), why));
}

Outcome<UniqueFd> open_directory(const std::string& path, const Person& person) {
  const EyesOf eyes(person);
  auto directory = open_place(path, O_DIRECTORY);
  if (!directory) return no_place(path, directory.error());
  return std::move(*directory);
}

// Names below /dev/mapper are links that root made, and are kept by libmount.
Outcome<UniqueFd> open_source(const std::string& path) {
  auto source = open_place(path, 0);
  if (!source && source.error() == Errno(ELOOP) && path.starts_with("/dev/mapper/"))
    source = UniqueFd(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!source || !*source) return no_place(path, source ? Errno::last() : source.error());
  return std::move(*source);
}

std::optional<DeviceOwner> owner_of(const UniqueFd& source, const std::string& path) {
  struct stat status = {};
  if (!path.starts_with("/dev/") || ::fstat(source.get(), &status) != 0) return std::nullopt;
  return DeviceOwner{.user = status.st_uid, .group = status.st_gid};
}

// Without a line of fstab: only a device, only onto a directory of the user's own, and only with a yes.
Outcome<void> check_for_consent(const Order& order, const UserRequest& request, const Person& person) {
  struct stat source = {};
  struct stat directory = {};
  struct statfs system = {};
  if (::fstat(order.source.get(), &source) != 0 || ::fstat(order.directory.get(), &directory) != 0 ||
      ::fstatfs(order.directory.get(), &system) != 0)
    return fail(Errno::last(), fmt::format("{}: {}", quoted(request.target), Errno::last().message()));
  if (!S_ISBLK(source.st_mode) || !request.source.starts_with("/dev/")) {
    return fail(Errno(EPERM),
                fmt::format("{} is no device below /dev: an image is mounted for a user only where a "
                            "line of /etc/fstab with the word user says so",
                            quoted(request.source)));
  }
  if (directory.st_uid != person.user || (directory.st_mode & S_IWUSR) == 0 ||
      std::ranges::find(kFileSystemsOfUsers, static_cast<unsigned long>(system.f_type)) ==
          std::end(kFileSystemsOfUsers)) {
    return fail(Errno(EPERM),
                fmt::format("{} is neither in /etc/fstab nor a directory of yours", quoted(request.target)));
  }
  return {};
}

Outcome<MountClaim> claim_for(uid_t user) {
  const auto records = RecordDirectory::open();
  auto file = records ? records->open_claims() : fail(records.error());
  auto claim = file ? MountClaim::take(std::move(*file), user, [&] { return count_mounts_of_user(user); })
                    : fail(file.error());
  if (claim) return std::move(*claim);
  if (claim.error() == Errno(EUSERS)) {
    return fail(claim.error(), fmt::format("you have {} volumes mounted already, and no more are allowed",
                                           kMostMountsOfOneUser));
  }
  return fail(claim.error(), fmt::format("your mounts cannot be counted ({}: {})", kRecordDirectory,
                                         claim.error().message()));
}

Outcome<Order> judge_mount(const UserRequest& request, const Peer& peer, int socket) {
  Order order;
  ASSIGN_OR_RETURN(order.claim, claim_for(peer.person.user));
  ASSIGN_OR_RETURN(order.directory, open_directory(request.target, peer.person));
  const auto lines = read_fstab();
  if (!lines) return fail(lines.error(), fmt::format("/etc/fstab: {}", lines.error().message()));
  const UserWish wish{.source = request.source, .target = request.target, .options = request.options};
  const FstabLine* const line = find_line(*lines, wish, meaning_of_source);
  Outcome<std::string> options = fail(
      Errno(EPERM),
      fmt::format("/etc/fstab has no line for {} on {}", quoted(request.source), quoted(request.target)));
  order.grounds = "fstab";
  if (line != nullptr) {
    ASSIGN_OR_RETURN(order.source, open_source(request.source));
    options = options_by_fstab(*line, peer.person, owner_of(order.source, request.source), request.options);
  }
  if (!options) {
    const auto with_reason = [&](Failure failure) {
      failure.message = options.error().message + "; " + failure.message;
      return std::unexpected(std::move(failure));
    };
    order.grounds = "polkit";
    auto consent = options_by_consent(request.options);
    if (!consent) return with_reason(consent.error());
    // Nobody learns here which files exist that is not allowed to see them.
    if (!request.source.starts_with("/dev/"))
      return with_reason({Errno(EPERM), "an image is mounted for a user only where such a line says so"});
    ASSIGN_OR_RETURN(order.source, open_source(request.source));
    if (auto checked = check_for_consent(order, request, peer.person); !checked)
      return with_reason(checked.error());
    if (auto answer = ask_polkit(peer, socket, request.source, request.target); !answer)
      return with_reason(answer.error());
    options = std::move(consent);
  }
  std::vector<std::string> arguments = {request.source, request.target, "-o", *options};
  if (request.verbose) arguments.emplace_back("-v");
  if (request.fake) arguments.emplace_back("-f");
  ASSIGN_OR_RETURN(order.line, parse_command_line(arguments));
  if (order.line.action != Action::kMount) return fail(Errno(EPERM), "only mounting is done for users");
  order.line.on_behalf = OnBehalf{.user = peer.person.user,
                                  .group = peer.person.group,
                                  .source = order.source.get(),
                                  .directory = order.directory.get()};
  return order;
}

// What a user mounted carries the user's number, by which umount(8) goes, too. That mount is named to the
// helper by the kernel's numbers: the path may lead to another one by the time it is unmounted.
Outcome<Order> judge_stop(const UserRequest& request, const Peer& peer) {
  const auto mount = find_mount(request.target);
  if (!mount || !has_type(*mount, std::string(kOwnType)))
    return fail(Errno(EINVAL), fmt::format("nothing of fuse4fs is mounted on {}", quoted(request.target)));
  if (mount->user != peer.person.user)
    return fail(Errno(EPERM), fmt::format("{} was not mounted by you", quoted(request.target)));
  const auto place = MountPlace::find(*mount);
  if (!place)
    return fail(place.error(), fmt::format("{}: {}", quoted(request.target), words_of_place(place.error())));
  Order order;
  std::vector<std::string> arguments = {"--stop", request.target};
  if (request.verbose) arguments.emplace_back("-v");
  ASSIGN_OR_RETURN(order.line, parse_command_line(arguments));
  order.line.on_behalf =
      OnBehalf{.user = peer.person.user, .group = peer.person.group, .mount = place->identity()};
  order.grounds = "own mount";
  return order;
}

// Words that the user sees, and the journal too.
void refuse(protocol::Channel& channel, const std::string& message, ExitStatus status) {
  log_warning("{}", message);
  (void)channel.send(encode_user_words(fmt::format("mount.fuse4fs: {}\n", message)));
  (void)channel.send(encode_user_status(status));
}

}  // namespace

ExitStatus serve_user(UniqueFd connection) {
  auto channel = protocol::Channel::adopt(std::move(connection));
  if (!channel) {
    log_error("--user-service is for systemd, which hands over a connection as descriptor 3 ({})",
              channel.error().message());
    return kUsage;
  }
  channel->refuse_descriptors();
  // Read first: closing a connection with something unread in it would take the answer away from the asker.
  const auto packet = channel->receive(protocol::Descriptors::kRefused, kRequestPatience);
  const auto peer = identify_peer(channel->fd());
  if (!peer) {
    refuse(*channel, peer.error().message, kUsage);
    return kSuccess;
  }
  const auto request = packet ? decode_user_request(packet->bytes) : fail(packet.error());
  if (!request) {
    refuse(*channel, fmt::format("that was no request: {}", request.error().message()), kUsage);
    return kSuccess;
  }
  const bool mount = request->action == UserAction::kMount;
  auto order = mount ? judge_mount(*request, *peer, channel->fd()) : judge_stop(*request, *peer);
  if (!order) {
    refuse(*channel,
           fmt::format("{} is not {} for you: {}", quoted(mount ? request->source : request->target),
                       mount ? "mounted" : "unmounted", order.error().message),
           kUsage);
    return kSuccess;
  }
  log_notice("{} {} for user {} ({})", mount ? "mounting" : "unmounting", quoted(request->target),
             peer->person.user, order->grounds);
  const ExitStatus status = run_errand(order->line, *channel);
  (void)channel->send(encode_user_status(static_cast<std::uint8_t>(status)));
  return kSuccess;
}

}  // namespace fuse4fs::helper
