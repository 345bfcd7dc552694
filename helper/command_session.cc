// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/command_session.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <charconv>
#include <type_traits>
#include <variant>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/fuse_numbers.h"
#include "helper/mount_options.h"

namespace fuse4fs::helper {
namespace {

// A server may take these from its mount; each makes it less.
constexpr unsigned long kNarrowing =
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC | MS_NOSYMFOLLOW;
// A server repeats these from its arguments; the user's word counts, not the server's.
constexpr unsigned long kRepeated =
    MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME | MS_SILENT | kLazyTime;

constexpr std::uint32_t kLeastMaxRead = 4096;

template <class Number = std::uint32_t>
Result<Number> number_from(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return fail(EINVAL);
  return number;
}

int error_of(const Result<void>& result) { return result ? 0 : result.error().value(); }

// Marks a command as seen; EINVAL the second time.
Result<void> once(bool& known) {
  if (known) return fail(EINVAL);
  known = true;
  return {};
}

}  // namespace

Result<std::uint32_t> CommandSession::run(protocol::HelperEnd& end, const Wait& wait) {
  // An honest server sends some eighty, most of them for clones; one that is kept waiting for its device by
  // EBUSY asks again.
  constexpr int kMostCommands = 1000;
  for (int commands = 0;; ++commands) {
    if (commands == kMostCommands) return fail(E2BIG);
    ASSIGN_OR_RETURN(const protocol::Command command, end.next_command(wait));
    if (const auto* const goodbye = std::get_if<protocol::Goodbye>(&command)) return goodbye->exit_code;
    RETURN_IF_ERROR(answer(end, command));
  }
}

Result<void> CommandSession::answer(protocol::HelperEnd& end, const protocol::Command& command) {
  return std::visit(
      [&](const auto& request) -> Result<void> {
        using Request = std::remove_cvref_t<decltype(request)>;
        if constexpr (std::is_same_v<Request, protocol::Goodbye>) {
          return {};
        } else if constexpr (std::is_same_v<Request, protocol::OpenFile> ||
                             std::is_same_v<Request, protocol::OpenBlockDevice>) {
          return answer_open(end, request);
        } else if constexpr (std::is_same_v<Request, protocol::RequestIomap>) {
          return answer_iomap(end, request);
        } else {
          Result<void> result = fail(EINVAL);
          if (state_ == State::kPreparing) result = carry_out(request);
          return end.reply(protocol::SimpleReply{error_of(result)});
        }
      },
      command);
}

template <class Request>
Result<void> CommandSession::answer_open(protocol::HelperEnd& end, const Request& request) {
  auto fd = opener_.open(request);
  if (!fd) {
    // The user hears of what the server did not expect to fail; but no server can fill a log with it.
    constexpr int kMostComplaints = 16;
    if (!request.quiet && complaints_ < kMostComplaints) {
      ++complaints_;
      log_warning("the server does not get {}: {}", quoted(request.path), fd.error().message());
    }
    return end.reply(protocol::FileReply{fd.error().value(), request.path}, std::nullopt);
  }
  return end.reply(protocol::FileReply{0, request.path}, fd->get());
}

// The blessing was given or withheld before the greeting. As libfuse's drafts have it, whoever is refused
// here is not mounted.
Result<void> CommandSession::answer_iomap(protocol::HelperEnd& end, const protocol::RequestIomap& command) {
  const auto refuse = [&](Errno error, std::string words) -> Result<void> {
    failure_ = Failure{error, std::move(words)};
    RETURN_IF_ERROR(end.reply(protocol::SimpleReply{error.value()}));
    return fail(error);
  };
  if (rules_.trust == Trust::kOwnServer)
    return refuse(Errno(EPERM), "the server asks for iomap, which it never does");
  if (state_ != State::kPreparing || type_known_)
    return refuse(Errno(EINVAL), "the service asks for iomap too late");
  if (command.need == protocol::IomapNeed::kMandatory && !rules_.iomap)
    return refuse(rules_.iomap.error().error,
                  "the service does not do without iomap: " + rules_.iomap.error().message);
  return end.reply(protocol::SimpleReply{0});
}

Result<void> CommandSession::carry_out(const protocol::OpenFsContext& command) {
  // Our own mounts are the kernel's to claim and to flush at umount: fuseblk or nothing.
  if (!command.fuseblk && rules_.trust == Trust::kOwnServer) return fail(EPERM);
  RETURN_IF_ERROR(once(type_known_));
  request_.type = command.fuseblk ? MountType::kFuseBlock : MountType::kFuse;
  return {};
}

Result<void> CommandSession::carry_out(const protocol::SetSource& command) {
  // Libfuse names what has no device of its own, in its eyes, after its type.
  const bool is_type = rules_.trust != Trust::kOwnServer && command.source == rules_.type;
  if (command.source != rules_.source && !is_type) return fail(EACCES);
  RETURN_IF_ERROR(once(source_known_));
  if (is_type) request_.source = command.source;
  return {};
}

Result<void> CommandSession::carry_out(const protocol::SetMountPoint& command) {
  if (command.path != rules_.mount_point) return fail(EACCES);
  if (command.expected == protocol::MountPointType::kRegularFile) return fail(EISDIR);
  return once(mount_point_known_);
}

Result<void> CommandSession::carry_out(const protocol::SetMtabOptions&) {
  // What goes into /run/mount/utab is what the user wrote.
  return once(mtab_known_);
}

Result<void> CommandSession::take_option(std::string_view option, MountRequest& request) const {
  if (option == "allow_other" || option == "default_permissions" || option == "rw") return {};
  if (const auto flag = flag_of_name(option)) {
    request.flags |= *flag & kNarrowing;
    return {};
  }
  if (option.starts_with("blksize=")) {
    ASSIGN_OR_RETURN(request.block_size, number_from(option.substr(8)));
    return request.block_size != 0 && is_block_size(request.block_size) ? Result<void>() : fail(EINVAL);
  }
  if (option.starts_with("max_read=")) {
    ASSIGN_OR_RETURN(request.max_read, number_from(option.substr(9)));
    return request.max_read >= kLeastMaxRead ? Result<void>() : fail(EINVAL);
  }
  // The first node is the root for our server.
  const std::string root_node = fmt::format("{}=", kRootNodeOption);
  if (option.starts_with(root_node) && rules_.trust != Trust::kOwnServer) {
    const std::string_view value = option.substr(root_node.size());
    ASSIGN_OR_RETURN(request.root_node, number_from<std::uint64_t>(value));
    // At once: the service may try again without.
    const bool is_possible =
        request.root_node != 0 && rules_.kernel_takes(kRootNodeOption, std::string(value));
    return is_possible ? Result<void>() : fail(EINVAL);
  }
  return fail(EINVAL);
}

Result<void> CommandSession::carry_out(const protocol::SetMountOptions& command) {
  MountRequest wished = request_;
  std::string_view rest = command.options;
  for (;;) {
    const auto comma = rest.find(',');
    if (const auto option = rest.substr(0, comma); !option.empty())
      RETURN_IF_ERROR(take_option(option, wished));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  RETURN_IF_ERROR(once(options_known_));
  request_ = wished;
  return {};
}

Result<void> CommandSession::carry_out(const protocol::Mount& command) {
  if (!source_known_ || !mount_point_known_) return fail(EINVAL);
  if ((command.flags & ~(kNarrowing | kRepeated)) != 0) return fail(EINVAL);
  if (!type_known_)
    request_.type = rules_.trust == Trust::kOwnServer ? MountType::kFuseBlock : MountType::kFuse;
  request_.flags |= rules_.flags | (command.flags & kNarrowing);
  auto outcome = mount_(request_);
  state_ = outcome ? State::kMounted : State::kMountFailed;
  if (outcome) return {};
  failure_ = std::move(outcome.error());
  return fail(failure_->error);
}

}  // namespace fuse4fs::helper
