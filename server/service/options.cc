// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/options.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string_view>

#include "base/byte_size.h"
#include "base/quoted.h"

namespace fuse4fs::service {
namespace {

constexpr unsigned kMostThreads = 64;
constexpr std::uint64_t kLeastCache = std::uint64_t{4} << 20;  // bytes
constexpr std::uint64_t kLargestCache = std::uint64_t{512} << 20;
// Newer than the C library's list.
constexpr unsigned long kLazyTime = 1UL << 25;
constexpr unsigned long kAccessTimes = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;

struct FlagOption {
  std::string_view name;
  unsigned long set;
  unsigned long cleared;
};

// Options that are bits of mount(2).
constexpr FlagOption kFlagOptions[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"nosymfollow", MS_NOSYMFOLLOW, 0},
    {"symfollow", 0, MS_NOSYMFOLLOW},
    {"noatime", MS_NOATIME, kAccessTimes},
    {"atime", 0, MS_NOATIME},
    {"relatime", MS_RELATIME, kAccessTimes},
    {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, kAccessTimes},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"diratime", 0, MS_NODIRATIME},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0},
    {"lazytime", kLazyTime, 0},
    {"nolazytime", 0, kLazyTime},
};

// Said to be so, and so in any case: the mount always has the first two, the rest is about who mounts and
// when.
constexpr std::string_view kIgnoredOptions[] = {"default_permissions", "allow_other", "defaults", "_netdev"};

struct ErrorsWord {
  std::string_view word;
  ErrorsOption value;
};
constexpr ErrorsWord kErrorsWords[] = {
    {"continue", ErrorsOption::kContinue},
    {"remount-ro", ErrorsOption::kRemountReadOnly},
    {"panic", ErrorsOption::kPanic},
};

std::optional<unsigned> parse_number(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Outcome<void> apply_errors(Options& options, std::string_view word) {
  for (const auto& known : kErrorsWords) {
    if (known.word != word) continue;
    options.errors = known.value;
    return {};
  }
  return fail(Errno(EINVAL), "option errors: not continue, remount-ro or panic: " + quoted(word));
}

Outcome<void> apply_threads(Options& options, std::string_view text) {
  const auto number = parse_number(text);
  if (!number || *number < 1 || *number > kMostThreads)
    return fail(Errno(EINVAL), "option threads: not a number from 1 to 64: " + quoted(text));
  options.threads = number;
  return {};
}

Outcome<void> apply_cache_size(Options& options, std::string_view text) {
  const auto bytes = parse_byte_size(text);
  if (!bytes || *bytes < kLeastCache || *bytes > kLargestCache)
    return fail(Errno(EINVAL), "option cache_size: not an amount of memory from 4m to 512m: " + quoted(text));
  options.cache_size = *bytes;
  return {};
}

Outcome<void> apply_commit(Options& options, std::string_view text) {
  const auto number = parse_number(text);
  if (!number || *number > kLongestCommit)
    return fail(Errno(EINVAL), fmt::format("option commit: not a number of seconds from 0 to {}: {}",
                                           kLongestCommit, quoted(text)));
  options.commit = *number == 0 ? std::nullopt : number;
  return {};
}

// The kernel's own lower limit is its business; that it is a number is ours, since it goes on into a list.
Outcome<void> apply_init_itable(Options& options, std::string_view text) {
  const auto number = parse_number(text);
  if (!number || *number > kLongestInitPause)
    return fail(Errno(EINVAL), fmt::format("option init_itable: not a number from 0 to {}: {}",
                                           kLongestInitPause, quoted(text)));
  options.init_itable = number;
  return {};
}

Outcome<void> apply_max_read(Options& options, std::string_view text) {
  const auto number = parse_number(text);
  if (!number) return fail(Errno(EINVAL), "option max_read: not a number: " + quoted(text));
  std::erase_if(options.kernel_options,
                [](const std::string& other) { return other.starts_with("max_read="); });
  options.kernel_options.push_back(fmt::format("max_read={}", *number));
  return {};
}

Outcome<void> apply_option(Options& options, std::string_view option) {
  for (const auto& flag : kFlagOptions) {
    if (flag.name != option) continue;
    options.mount_flags = (options.mount_flags & ~flag.cleared) | flag.set;
    return {};
  }
  if (std::ranges::find(kIgnoredOptions, option) != std::end(kIgnoredOptions)) return {};
  if (option == "noload" || option == "norecovery") {
    options.ignore_journal = true;
    return {};
  }
  if (option == "noacl") {
    options.no_acls = true;
    return {};
  }
  if (option == "discard" || option == "nodiscard") {
    options.discard = option == "discard";
    return {};
  }
  if (option == "noinit_itable") {
    options.init_itable.reset();
    return {};
  }
  if (option == "init_itable") {
    options.init_itable = kDefaultInitPause;
    return {};
  }
  if (option == "idmap") {
    options.id_mapped_mounts = true;
    return {};
  }
  if (option == "iomap" || option == "noiomap") {
    options.iomap = option == "iomap" ? IomapOption::kRequired : IomapOption::kRefused;
    return {};
  }
  if (option == "debug") {
    options.debug = true;
    return {};
  }
  if (const std::size_t equals = option.find('='); equals != std::string_view::npos) {
    const std::string_view name = option.substr(0, equals);
    const std::string_view value = option.substr(equals + 1);
    if (name == "errors") return apply_errors(options, value);
    if (name == "threads") return apply_threads(options, value);
    if (name == "cache_size") return apply_cache_size(options, value);
    if (name == "commit") return apply_commit(options, value);
    if (name == "init_itable") return apply_init_itable(options, value);
    if (name == "max_read") return apply_max_read(options, value);
    if (name == "journal_path") {
      if (value.empty()) return fail(Errno(EINVAL), "option journal_path: no device is named");
      options.journal_path = value;
      return {};
    }
  }
  return fail(Errno(EINVAL), "unknown option " + quoted(option));
}

Outcome<void> apply_list(Options& options, std::string_view list) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (comma > 0) RETURN_IF_ERROR(apply_option(options, list.substr(0, comma)));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return {};
}

}  // namespace

Outcome<Options> parse_options(const std::vector<std::string>& arguments) {
  Options options;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (i == 0 || !argument.starts_with('-')) {
      names.push_back(argument);
    } else if (argument == "-o") {
      if (++i == arguments.size()) return fail(Errno(EINVAL), "-o without a list of options");
      RETURN_IF_ERROR(apply_list(options, arguments[i]));
    } else if (argument.starts_with("-o")) {
      RETURN_IF_ERROR(apply_list(options, std::string_view(argument).substr(2)));
    } else {
      return fail(Errno(EINVAL), "unknown argument " + quoted(argument));
    }
  }
  if (names.size() != 3 || std::ranges::any_of(names, &std::string::empty))
    return fail(Errno(EINVAL), "the helper must name the file system's type, the source and the mount point");
  options.subtype = std::move(names[0]);
  options.source = std::move(names[1]);
  options.mount_point = std::move(names[2]);
  options.read_only = (options.mount_flags & MS_RDONLY) != 0;
  return options;
}

}  // namespace fuse4fs::service
