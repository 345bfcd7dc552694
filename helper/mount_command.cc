// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_command.h"

#include <fmt/format.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <optional>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/abort.h"
#include "helper/bdi.h"
#include "helper/command_session.h"
#include "helper/fuse_device.h"
#include "helper/interruption.h"
#include "helper/remount.h"
#include "helper/server_process.h"
#include "helper/server_words.h"
#include "helper/service_socket.h"
#include "protocol/arguments.h"

namespace fuse4fs::helper {
namespace {

// A service may have to be loaded from a slow disk first.
constexpr std::chrono::seconds kGreetingPatience{60};

ExitStatus report(const Failure& failure, ExitStatus status) {
  if (Interruption::requested()) {
    log_error("interrupted");
    return kInterrupted;
  }
  log_error("{}", failure.message);
  return status;
}

Trust trust_of(const CommandLine& line) {
  if (line.type == kOwnType) return Trust::kOwnServer;
  return line.options.trusted_service ? Trust::kTrustedService : Trust::kPlainService;
}

// The other end, from wherever it comes.
struct Server {
  UniqueFd socket;
  std::optional<ServerProcess> process;  // only if the helper started it
  UniqueFd words;
};

Outcome<Server> reach_server(const CommandLine& line) {
  auto socket = connect_to_service(kServiceDirectory, line.type);
  if (socket) {
    log_info("the service {}/{} answers", kServiceDirectory, line.type);
    return Server{.socket = std::move(*socket), .process = {}, .words = {}};
  }
  const bool absent = socket.error() == Errno(ENOENT) || socket.error() == Errno(ECONNREFUSED);
  if (line.type != kOwnType || !absent) {
    return fail(socket.error(), fmt::format("the service {}/{} cannot be reached: {}", kServiceDirectory,
                                            line.type, socket.error().message()));
  }
  ASSIGN_OR_RETURN(const std::string program, server_program());
  ASSIGN_OR_RETURN(ServerProcess process, ServerProcess::start(program));
  log_info("started {} as process {}", quoted(program), process.pid());
  Server server{.socket = process.take_socket(), .process = {}, .words = process.take_words()};
  server.process.emplace(std::move(process));
  return server;
}

Outcome<protocol::HelperEnd> greet(UniqueFd socket, const protocol::Arguments& arguments, int fuse_device) {
  const auto words_for = [](Errno error) {
    return fail(error, fmt::format("the conversation with the server did not begin: {}", error.message()));
  };
  const auto memory = protocol::write_arguments(arguments);
  if (!memory) return words_for(memory.error());
  auto channel = protocol::Channel::adopt(std::move(socket));
  if (!channel) return words_for(channel.error());
  channel->refuse_descriptors();
  protocol::HelperEnd end(std::move(*channel));
  const protocol::Hello hello{.may_allow_other = true, .may_use_fuseblk = true};
  const auto greeted = end.greet(hello, memory->get(), fuse_device, kGreetingPatience);
  if (!greeted) return words_for(greeted.error());
  return end;
}

// One attempt to mount, with all that has to be undone if it fails.
class Attempt {
 public:
  Attempt(const CommandLine& line, MountOptions options, Source& source, const MountPoint& mount_point,
          UniqueFd fuse_device, UniqueFd log_file)
      : line_(line),
        options_(std::move(options)),
        source_(source),
        mount_point_(mount_point),
        fuse_device_(std::move(fuse_device)),
        log_file_(std::move(log_file)),
        mount_(line.type, source, mount_point, fuse_device_.get()) {}

  Outcome<void> run() {
    ASSIGN_OR_RETURN(Server server, reach_server(line_));
    ServerWords words(std::move(server.words), STDERR_FILENO);
    interruption_.watch(server.socket.get());
    auto outcome = converse(std::move(server.socket), words);
    interruption_.watch(-1);
    words.forward();
    if (outcome) {
      if (server.process) server.process->let_go();
      tune();
      return {};
    }
    if (server.process) {
      if (const std::string end = server.process->end(); !end.empty()) outcome.error().message += "; " + end;
      words.forward();
    }
    mount_.undo();
    return outcome;
  }

 private:
  [[nodiscard]] protocol::Arguments arguments() const {
    protocol::Arguments arguments = {line_.type, source_.path(), mount_point_.path()};
    if (std::string options = server_options(options_); !options.empty()) {
      arguments.emplace_back("-o");
      arguments.push_back(std::move(options));
    }
    return arguments;
  }

  [[nodiscard]] std::unexpected<Failure> not_mounted(Errno error, std::string_view why) const {
    return fail(error, fmt::format("{} is not mounted on {}: {}", quoted(line_.source),
                                   quoted(mount_point_.path()), why));
  }

  Outcome<void> converse(UniqueFd socket, ServerWords& words) {
    auto end = greet(std::move(socket), arguments(), fuse_device_.get());
    if (!end) return not_mounted(end.error().error, end.error().message);
    const Trust trust = trust_of(line_);
    FileOpener opener(OpenPolicy(trust, source_.path(), source_.access()), source_, fuse_device_.get(),
                      std::move(log_file_));
    CommandSession session({.trust = trust,
                            .source = source_.path(),
                            .mount_point = mount_point_.path(),
                            .flags = options_.flags},
                           opener, [this](const MountRequest& request) { return mount_.mount(request); });
    const auto code = session.run(*end, [&] { words.forward_until_readable(end->fd()); });
    if (const auto& failure = session.mount_failure()) return not_mounted(failure->error, failure->message);
    if (Interruption::requested()) return not_mounted(Errno(EINTR), "interrupted");
    if (!code)
      return not_mounted(code.error(), fmt::format("the server broke off ({})", code.error().message()));
    if (*code != 0)
      return not_mounted(Errno(EIO), fmt::format("the server gave up (status {})", *code & 0xff));
    if (!session.mounted()) return not_mounted(Errno(EPROTO), "the server left without mounting");
    return {};
  }

  void tune() const {
    if (options_.bdi == BdiTuning::kKeep) return;
    for (const std::string& remark : tune_bdi(mount_.device_number(), mount_.type())) log_info("{}", remark);
  }

  const CommandLine& line_;
  MountOptions options_;
  Source& source_;
  const MountPoint& mount_point_;
  UniqueFd fuse_device_;
  UniqueFd log_file_;
  FuseMount mount_;
  Interruption interruption_;
};

ExitStatus mount_source(const CommandLine& line) {
  MountOptions options = line.options;
  auto mount_point = MountPoint::open(line.mount_point, line.name_space);
  if (!mount_point) return report(mount_point.error(), kMountFailure);
  UniqueFd log_file;
  if (!options.log_file.empty()) {
    auto opened = open_log_file(options.log_file);
    if (!opened) return report(opened.error(), kUsage);
    log_file = std::move(*opened);
  }
  auto source = Source::open(
      line.source, {.access = (options.flags & MS_RDONLY) != 0 ? Access::kReadOnly : Access::kReadWrite,
                    .on_write_protection =
                        line.demand_writable ? OnWriteProtection::kRefuse : OnWriteProtection::kMountReadOnly,
                    .claim = line.type == kOwnType ? Claim::kExclusive : Claim::kLeftToService});
  if (!source) return report(source.error(), kMountFailure);
  if (source->access() == Access::kReadOnly && (options.flags & MS_RDONLY) == 0) {
    log_warning("{} is write-protected, and is mounted read-only", quoted(line.source));
    options.flags |= MS_RDONLY;
  }
  auto fuse_device = open_fuse_device();
  if (!fuse_device) return report(fuse_device.error(), kSystemError);
  if (line.fake) {
    log_info("{} could be mounted on {}", quoted(line.source), quoted(mount_point->path()));
    return kSuccess;
  }
  Attempt attempt(line, std::move(options), *source, *mount_point, std::move(*fuse_device),
                  std::move(log_file));
  if (const auto outcome = attempt.run(); !outcome) return report(outcome.error(), kMountFailure);
  log_info("{} is mounted on {} as {}", quoted(line.source), quoted(mount_point->path()), source->path());
  return kSuccess;
}

}  // namespace

ExitStatus run(const CommandLine& line) {
  for (const std::string& remark : line.options.remarks) log_info("{}", remark);
  for (const std::string& warning : line.options.warnings) log_warning("{}", warning);
  switch (line.action) {
    case Action::kShowText:
      fmt::print("{}", line.text);
      return kSuccess;
    case Action::kAbort:
      if (const auto outcome = abort_mount(line.mount_point, line.type); !outcome)
        return report(outcome.error(), kMountFailure);
      return kSuccess;
    case Action::kRemount:
      if (line.fake) return kSuccess;
      if (const auto outcome = remount(line.mount_point, line.type, line.options); !outcome)
        return report(outcome.error(), kMountFailure);
      return kSuccess;
    case Action::kMount:
      return mount_source(line);
  }
  return kInternalBug;
}

}  // namespace fuse4fs::helper
