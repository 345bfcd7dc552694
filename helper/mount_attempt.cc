// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_attempt.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/bdi.h"
#include "helper/command_session.h"
#include "helper/memory_pressure.h"
#include "helper/mount_place.h"
#include "helper/process_identity.h"
#include "helper/service_socket.h"

namespace fuse4fs::helper {
namespace {

// A service may have to be loaded from a slow disk first.
constexpr std::chrono::seconds kGreetingPatience{60};
// With a server that does not read its answers.
constexpr std::chrono::seconds kSendingPatience{10};
// With a service whose mount failed, until it is killed, and after that.
constexpr std::chrono::seconds kServicesEnd{2};
// Instances of our own unit: what has another name may serve others as well.
constexpr std::string_view kOwnUnits = "fuse4fs@";

// The mount itself is none the worse.
void warn_of_no_record(Errno error) {
  log_warning("no record of the mount can be left in {} ({}): mount.fuse4fs --stop will need the directory",
              kRecordDirectory, error.message());
}

}  // namespace

MountOwner owner_of(const CommandLine& line) {
  return line.on_behalf ? MountOwner{.user = line.on_behalf->user, .group = line.on_behalf->group}
                        : MountOwner{};
}

MountAttempt::MountAttempt(MountPlan plan)
    : plan_(std::move(plan)),
      mount_(plan_.line.type, plan_.source, plan_.mount_point, plan_.fuse_device.get(), owner_of(plan_.line)),
      deadline_(std::chrono::steady_clock::now() + plan_.options.start_timeout) {
  if (trust() != Trust::kOwnServer) return;
  mount_.before_attaching([this](int mount) { write_record(mount); });
  if (auto records = RecordDirectory::open())
    records_.emplace(std::move(*records));
  else
    warn_of_no_record(records.error());
}

Trust MountAttempt::trust() const {
  if (plan_.line.type == kOwnType) return Trust::kOwnServer;
  return plan_.options.trusted_service ? Trust::kTrustedService : Trust::kPlainService;
}

std::unexpected<Failure> MountAttempt::not_mounted(Errno error, std::string_view why) const {
  return fail(error, fmt::format("{} is not mounted on {}: {}", quoted(plan_.line.source),
                                 quoted(plan_.mount_point.path()), why));
}

Outcome<MountAttempt::Server> MountAttempt::reach_server() const {
  const MountOptions& options = plan_.options;
  if (!options.standalone) {
    const bool forced = !options.service.empty();
    const std::string path =
        forced ? options.service : fmt::format("{}/{}", kServiceDirectory, plan_.line.type);
    auto socket = connect_to_service(path);
    if (socket) {
      log_info("the service {} answers", path);
      return Server{.socket = std::move(*socket), .process = {}, .words = {}};
    }
    const bool absent = socket.error() == Errno(ENOENT) || socket.error() == Errno(ECONNREFUSED);
    if (forced || plan_.line.type != kOwnType || !absent) {
      return fail(socket.error(), fmt::format("the service {} cannot be reached: {}", quoted(path),
                                              socket.error().message()));
    }
  }
  ASSIGN_OR_RETURN(const std::string program, server_program());
  ASSIGN_OR_RETURN(ServerProcess process, ServerProcess::start(program));
  log_info("started {} as process {}", quoted(program), process.pid());
  Server server{.socket = process.take_socket(), .process = {}, .words = process.take_words()};
  server.process.emplace(std::move(process));
  return server;
}

protocol::Arguments MountAttempt::arguments() const {
  protocol::Arguments arguments = {plan_.line.type, plan_.source.path(), plan_.mount_point.path()};
  std::string options = server_options(plan_.options);
  if (plan_.journal != nullptr) {
    if (!options.empty()) options += ',';
    options += "journal_path=" + plan_.journal->path();
  }
  if (!options.empty()) {
    arguments.emplace_back("-o");
    arguments.push_back(std::move(options));
  }
  return arguments;
}

std::string MountAttempt::words_for(Errno error) const {
  if (error == Errno(ETIMEDOUT)) {
    return fmt::format("the server does not answer in time (start-timeout={})",
                       plan_.options.start_timeout.count());
  }
  if (error == Errno(E2BIG)) return "the server broke off (it makes no end of asking)";
  return fmt::format("the server broke off ({})", error.message());
}

Outcome<protocol::HelperEnd> MountAttempt::greet(Server& server) {
  const auto did_not_begin = [&](Errno error) {
    const std::string why = error == Errno(ETIMEDOUT) ? words_for(error) : error.message();
    return not_mounted(error, fmt::format("the conversation with the server did not begin: {}", why));
  };
  const auto memory = protocol::write_arguments(arguments());
  if (!memory) return did_not_begin(memory.error());
  auto channel = protocol::Channel::adopt(std::move(server.socket));
  if (!channel) return did_not_begin(channel.error());
  channel->refuse_descriptors();
  if (const auto done = channel->identify_senders(); !done) return did_not_begin(done.error());
  if (const auto done = channel->limit_sending(kSendingPatience); !done) return did_not_begin(done.error());
  protocol::HelperEnd end(std::move(*channel));
  if (server.process) end.expect_peer(server.process->pid());
  const protocol::Hello hello{.may_allow_other = true, .may_use_fuseblk = true};
  const auto patience = std::min<std::chrono::milliseconds>(kGreetingPatience, plan_.options.start_timeout);
  const auto greeted = end.greet(hello, memory->get(), plan_.fuse_device.get(), patience);
  // Whoever speaks is known even if what it says is wrong.
  if (const auto identity = identify(end.peer())) server_ = *identity;
  if (!server.process) unit_ = unit_of(server_.pid);
  if (!greeted) return did_not_begin(greeted.error());
  return end;
}

Outcome<void> MountAttempt::converse(Server& server, ServerWords& words) {
  ASSIGN_OR_RETURN(protocol::HelperEnd end, greet(server));
  std::optional<NamedDevice> journal;
  if (plan_.journal != nullptr) journal = {.path = plan_.journal->path(), .access = plan_.journal->access()};
  FileOpener opener(OpenPolicy(trust(), plan_.source.path(), plan_.source.access(), std::move(journal)),
                    plan_.source,
                    {.fuse_device = plan_.fuse_device.get(),
                     .log_file = std::move(plan_.log_file),
                     .journal = plan_.journal,
                     .notify_socket = server.process ? "" : kNotifySocket,
                     .journal_socket = kJournalSocket,
                     .pressure_files = {kMachinePressure, pressure_file_of(server_.pid)}});
  CommandSession session({.trust = trust(),
                          .source = plan_.source.path(),
                          .mount_point = plan_.mount_point.path(),
                          .flags = plan_.options.flags,
                          .type = plan_.line.type,
                          .iomap = plan_.iomap},
                         opener, [this](const MountRequest& request) { return mount_.mount(request); });
  const auto code = session.run(end, [&] { return words.forward_until_readable(end.fd(), deadline_); });
  if (const auto& failure = session.failure()) return not_mounted(failure->error, failure->message);
  if (Interruption::requested()) return not_mounted(Errno(EINTR), "interrupted");
  if (!code) return not_mounted(code.error(), words_for(code.error()));
  // A server of the helper's own has said why on standard error.
  if (*code != 0)
    return not_mounted(Errno(EIO),
                       fmt::format("the server gave up (status {}){}", *code & 0xff,
                                   unit_.empty() ? "" : ", it says why in: journalctl -u " + unit_));
  if (!session.mounted()) return not_mounted(Errno(EPROTO), "the server left without mounting");
  return {};
}

void MountAttempt::write_record(int mount) {
  const MountIdentity identity = identity_of(mount, "").value_or(MountIdentity{});
  MountRecord record{
      .device = mount_.device_number(),
      .source = plan_.source.path(),
      .origin = plan_.line.source,
      .mount_point = plan_.mount_point.path(),
      .mount_id = identity.unique_id != 0 ? identity.unique_id : static_cast<unsigned>(identity.id),
      .name_space = own_mount_namespace(),
      .pid_name_space = own_pid_namespace(),
      .server = server_,
      .unit = unit_,
      .user = plan_.options.user,
      .owner = owner_of(plan_.line).user};
  if (!records_) return;
  if (const auto written = records_->write(record); !written)
    warn_of_no_record(written.error());
  else
    record_ = std::move(record);
}

void MountAttempt::end_service() const {
  if (!unit_.starts_with(kOwnUnits)) return;
  // Its socket is closed: an honest one is on its way out.
  const auto server = find_running(server_);
  if (!server || server->ends_within(kServicesEnd)) return;
  if (server->send_signal(SIGKILL) && server->ends_within(kServicesEnd))
    log_warning("the server (process {}, {}) did not end by itself and was killed", server_.pid, unit_);
}

void MountAttempt::undo(Server& server, Failure& failure, ServerWords& words) {
  if (server.process) {
    if (const std::string end = server.process->end(); !end.empty()) failure.message += "; " + end;
    words.forward();
  }
  mount_.undo();
  if (!server.process) end_service();
  if (record_) records_->remove(*record_);
}

void MountAttempt::tune() const {
  if (plan_.options.bdi == BdiTuning::kKeep) return;
  for (const std::string& remark : tune_bdi(mount_.device_number(), mount_.type())) log_info("{}", remark);
}

Outcome<void> MountAttempt::run() {
  ASSIGN_OR_RETURN(Server server, reach_server());
  ServerWords words(std::move(server.words), STDERR_FILENO);
  interruption_.watch(server.socket.get());
  auto outcome = converse(server, words);
  interruption_.watch(-1);
  words.forward();
  if (!outcome) {
    undo(server, outcome.error(), words);
    return outcome;
  }
  if (server.process) server.process->let_go();
  tune();
  return {};
}

}  // namespace fuse4fs::helper
