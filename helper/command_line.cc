// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/quoted.h"

namespace fuse4fs::helper {
namespace {

// What -t says becomes the name of a socket: it must not lead out of its directory.
Outcome<std::string> subtype_of(std::string type) {
  for (const std::string_view prefix : {"fuse.", "fuseblk."})
    if (type.starts_with(prefix)) {
      type.erase(0, prefix.size());
      break;
    }
  constexpr std::size_t kLongest = 64;
  const bool plain = std::ranges::all_of(type, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '+';
  });
  if (type.empty() || type.size() > kLongest || type.starts_with('.') || !plain)
    return fail(Errno(EINVAL), fmt::format("-t: {} cannot be the name of a file system type", quoted(type)));
  return type;
}

// What --stop is told; systemd's commands are told the server's process by $MAINPID, or nothing when it has
// ended.
Outcome<void> take_stop(CommandLine& line, std::string server) {
  line.action = Action::kStop;
  const bool by_directory = !line.source.empty();
  if (!line.mount_point.empty() || int{by_directory} + int{!line.unit.empty()} + int{!server.empty()} > 1)
    return fail(Errno(EINVAL), "--stop takes one directory, or --unit, or --pid");
  line.mount_point = std::exchange(line.source, {});
  if (by_directory || !line.unit.empty()) return {};
  if (const char* const main_process = std::getenv("MAINPID"); server.empty() && main_process != nullptr)
    server = main_process;
  if (server.empty()) return {};
  const auto [end, error] = std::from_chars(server.data(), server.data() + server.size(), line.server);
  if (error != std::errc() || end != server.data() + server.size() || line.server <= 0)
    return fail(Errno(EINVAL), fmt::format("--pid: {} is no process number", quoted(server)));
  return {};
}

constexpr char kFooter[] =
    "SOURCE is a block device, an image file, or a tag (LABEL=…, UUID=…).\n"
    "With -o remount the flags of a mounted file system are changed (ro, nosuid, …).\n"
    "Exit status: 0 mounted, 1 wrong call or not permitted, 2 system error, 4 bug, 8 interrupted, 32 not "
    "mounted.";

}  // namespace

Outcome<CommandLine> parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine line;
  CLI::App app("Mounts an ext2, ext3 or ext4 file system through the contained server fuse4fs.",
               "mount.fuse4fs");
  app.footer(kFooter);
  app.set_version_flag("-V,--version", "mount.fuse4fs " FUSE4FS_VERSION);

  std::vector<std::string> option_lists;
  std::string type{kOwnType};
  std::string abort_directory;
  bool sloppy = false;
  bool no_mtab = false;
  bool read_only = false;
  bool user_service = false;
  app.add_option("SOURCE", line.source, "what to mount");
  app.add_option("DIRECTORY", line.mount_point, "where to mount it");
  app.add_option("-o", option_lists, "mount options, commas between them; may be given more than once")
      ->allow_extra_args(false)
      ->type_name("LIST");
  app.add_flag("-r", read_only, "mount read-only, as -o ro");
  app.add_flag("-w", line.demand_writable, "mount read-write, and fail where that cannot be");
  app.add_flag("-f", line.fake, "do everything but the mount");
  app.add_flag("-n", no_mtab, "accepted: only mount(8) itself writes /run/mount/utab");
  app.add_flag("-s", sloppy, "leave out unknown mount options");
  app.add_flag("-v", line.verbose, "say what is done");
  app.add_option("-N", line.name_space, "mount in this mount namespace: a process number or a path");
  app.add_option("-t", type, "the type: fuse4fs, or that of a service in /run/filesystems");
  bool stop = false;
  std::string server;
  app.add_flag(
      "--stop", stop,
      "unmount what is at the directory, or what --unit or --pid serves; alone: clear stale records");
  app.add_option("--unit", line.unit, "with --stop: the systemd unit of the server")->type_name("NAME");
  app.add_option("--pid", server, "with --stop: the server's process number")->type_name("PID");
  app.add_flag("--lazy", line.lazy, "with --stop: detach it even if it is in use");
  // For the systemd unit fuse4fs-mount@.service.
  app.add_flag("--user-service", user_service)->group("");
  app.add_option("--abort", abort_directory, "end the hung mount at this directory")->type_name("DIRECTORY");

  try {
    // CLI11 takes them from the back.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    line.action = Action::kShowText;
    line.text = app.help();
    return line;
  } catch (const CLI::CallForVersion&) {
    line.action = Action::kShowText;
    line.text = app.version() + "\n";
    return line;
  } catch (const CLI::ParseError& error) {
    return fail(Errno(EINVAL), fmt::format("{}\nTry mount.fuse4fs --help.", error.what()));
  }
  ASSIGN_OR_RETURN(line.type, subtype_of(type));

  if (user_service) {
    line.action = Action::kServeUser;
    return line;
  }
  if (!abort_directory.empty()) {
    if (!line.source.empty()) return fail(Errno(EINVAL), "--abort takes one directory and no source");
    line.action = Action::kAbort;
    line.mount_point = abort_directory;
    return line;
  }
  if (stop) {
    RETURN_IF_ERROR(take_stop(line, server));
    return line;
  }
  if (line.lazy || !line.unit.empty() || !server.empty())
    return fail(Errno(EINVAL), "--unit, --pid and --lazy belong to --stop");
  if (line.source.empty() || line.mount_point.empty())
    return fail(Errno(EINVAL), "a source and a directory are needed\nTry mount.fuse4fs --help.");
  if (read_only && line.demand_writable) return fail(Errno(EINVAL), "-r and -w exclude each other");
  if (read_only) option_lists.emplace_back("ro");
  if (line.demand_writable) option_lists.emplace_back("rw");

  for (const std::string& list : option_lists)
    line.option_text += (line.option_text.empty() ? "" : ",") + list;
  const OptionRules rules{
      .unknown = sloppy ? UnknownOptions::kLeftOut : UnknownOptions::kRefused,
      .vocabulary = line.type == kOwnType ? Vocabulary::kFuse4fs : Vocabulary::kForeignService,
  };
  ASSIGN_OR_RETURN(line.options, parse_mount_options(option_lists, rules));
  if (line.options.purpose == Purpose::kRemount) line.action = Action::kRemount;
  return line;
}

}  // namespace fuse4fs::helper
