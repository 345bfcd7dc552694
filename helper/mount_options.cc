// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_options.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <algorithm>
#include <charconv>

#include "base/byte_size.h"
#include "base/quoted.h"
#include "helper/option_table.h"

namespace fuse4fs::helper {
namespace {

constexpr unsigned kMostThreads = 64;
constexpr unsigned kLongestCommit = 86'400;                    // seconds
constexpr unsigned kLongestInitPause = 1'000'000;              // times the work
constexpr std::uint64_t kLeastCache = std::uint64_t{4} << 20;  // bytes
constexpr std::uint64_t kLargestCache = std::uint64_t{512} << 20;
constexpr unsigned kMostStartSeconds = 86400;

struct FlagName {
  unsigned long flag;
  std::string_view name;
};
// relatime is not here: it is what the kernel does without a word.
constexpr FlagName kFlagNames[] = {
    {MS_RDONLY, "ro"},
    {MS_NOSUID, "nosuid"},
    {MS_NODEV, "nodev"},
    {MS_NOEXEC, "noexec"},
    {MS_SYNCHRONOUS, "sync"},
    {MS_DIRSYNC, "dirsync"},
    {MS_NOATIME, "noatime"},
    {MS_NODIRATIME, "nodiratime"},
    {MS_STRICTATIME, "strictatime"},
    {MS_NOSYMFOLLOW, "nosymfollow"},
    {kLazyTime, "lazytime"},
};

std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> items(1);
  bool in_quotes = false;
  for (const char c : list) {
    if (c == '"') {
      in_quotes = !in_quotes;
    } else if (c == ',' && !in_quotes) {
      items.emplace_back();
    } else {
      items.back() += c;
    }
  }
  std::erase_if(items, [](const std::string& item) { return item.empty(); });
  return items;
}

struct Item {
  std::string text;  // as it was written
  std::string name;
  std::string value;
  bool has_value = false;
};

Item take_apart(std::string text) {
  Item item{.text = std::move(text), .name = {}, .value = {}};
  const auto equals = item.text.find('=');
  item.has_value = equals != std::string::npos;
  item.name = item.text.substr(0, equals);
  if (item.has_value) item.value = item.text.substr(equals + 1);
  return item;
}

std::unexpected<Failure> refuse(const Item& item, std::string_view reason) {
  return fail(Errno(EINVAL), fmt::format("option {} is refused: {}", quoted(item.text), reason));
}

bool is_vfs_flag(const OptionRow& row) { return (row.set | row.clear) != 0; }

// From 1 to `most`.
std::optional<unsigned> number_up_to(std::string_view text, unsigned most) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1 || number > most)
    return std::nullopt;
  return number;
}

std::optional<std::uint64_t> cache_size(std::string_view text) {
  const auto bytes = parse_byte_size(text);
  return bytes && *bytes >= kLeastCache && *bytes <= kLargestCache ? bytes : std::nullopt;
}

class Parser {
 public:
  explicit Parser(const OptionRules& rules) : rules_(rules) {}

  Outcome<void> take(const Item& item) {
    const OptionRow* const row = find_option(item.name, item.has_value, item.value);
    if (is_services_own(row, item)) {
      options.for_new_mounts.push_back(item.text);
      options.for_server.push_back(item.text);
      return {};
    }
    if (row == nullptr) return take_unknown(item);
    if (row->value == OptionValue::kNone && item.has_value) return refuse(item, "it takes no value");
    if (row->value == OptionValue::kRequired && !item.has_value) return refuse(item, "it needs a value");
    if (item.has_value && !row->values.empty() && !is_one_of(item.value, row->values))
      return refuse(item, fmt::format("its value must be {}", row->values));
    return take_known(item, *row);
  }

  MountOptions options;

 private:
  [[nodiscard]] bool is_services_own(const OptionRow* row, const Item& item) const {
    if (rules_.vocabulary != Vocabulary::kForeignService) return false;
    if (row == nullptr) return true;
    // Libfuse's own ext4 has an iomap= beside what the helper is told.
    if (row->use == OptionUse::kIomap) return item.has_value;
    if (is_vfs_flag(*row)) return false;
    return row->use == OptionUse::kServer || row->use == OptionUse::kIgnored ||
           row->use == OptionUse::kRefused || row->use == OptionUse::kJournalPath;
  }

  Outcome<void> take_unknown(const Item& item) {
    if (rules_.unknown == UnknownOptions::kRefused) return refuse(item, "fuse4fs does not know it");
    remark(item, "fuse4fs does not know it");
    return {};
  }

  // What our server does not keep another may.
  [[nodiscard]] OptionUse use_of(const OptionRow& row) const {
    const bool foreign = rules_.vocabulary == Vocabulary::kForeignService;
    return foreign && is_vfs_flag(row) ? OptionUse::kFlag : row.use;
  }

  Outcome<void> take_known(const Item& item, const OptionRow& row) {
    switch (use_of(row)) {
      case OptionUse::kFlag:
        options.flags = (options.flags & ~row.clear) | row.set;
        options.mentioned |= row.set | row.clear;
        return {};
      case OptionUse::kServer:
        return take_for_server(item);
      case OptionUse::kSilent:
        return {};
      case OptionUse::kIgnored:
        remark(item, row.reason);
        return {};
      case OptionUse::kRefused:
        return refuse(item, row.reason);
      case OptionUse::kKernel:
        kernel_options_.push_back(item);
        return {};
      case OptionUse::kRemount:
        options.purpose = Purpose::kRemount;
        return {};
      case OptionUse::kLog:
        if (!item.value.starts_with('/'))
          return refuse(item, "the file must be named from the root, as in log=/var/log/disk.log");
        note_for_new_mounts(item);
        options.log_file = item.value;
        return {};
      case OptionUse::kBdi:
        note_for_new_mounts(item);
        options.bdi = item.value == "keep" ? BdiTuning::kKeep : BdiTuning::kTune;
        return {};
      case OptionUse::kIomap:
        return take_iomap(item);
      case OptionUse::kTrustedService:
        note_for_new_mounts(item);
        options.trusted_service = true;
        return {};
      case OptionUse::kService:
        if (!item.value.starts_with('/')) return refuse(item, "the socket must be named from the root");
        options.service = item.value;
        options.standalone = false;
        return {};
      case OptionUse::kStandalone:
        if (rules_.vocabulary == Vocabulary::kForeignService)
          return refuse(item, "only a service can serve this type");
        options.standalone = true;
        options.service.clear();
        return {};
      case OptionUse::kStartTimeout:
        return take_start_timeout(item);
      case OptionUse::kJournalPath:
        note_for_new_mounts(item);
        options.journal_path = item.value;
        return {};
      case OptionUse::kNoFail:
        options.no_fail = true;
        return {};
      case OptionUse::kUser:
        options.user = item.value;
        return {};
    }
    return fail(Errno(EINVAL), "option table");
  }

  Outcome<void> take_for_server(const Item& item) {
    if (item.name == "threads" && !number_up_to(item.value, kMostThreads))
      return refuse(item, fmt::format("its value must be a number from 1 to {}", kMostThreads));
    if (item.name == "init_itable" && item.value != "0" && !item.value.empty() &&
        !number_up_to(item.value, kLongestInitPause))
      return refuse(item, fmt::format("its value must be a number from 0 to {}", kLongestInitPause));
    if (item.name == "commit" && item.value != "0" && !number_up_to(item.value, kLongestCommit))
      return refuse(item, fmt::format("its value must be a number of seconds, 0 (the default, 5) to {}",
                                      kLongestCommit));
    if (item.name == "cache_size" && !cache_size(item.value))
      return refuse(item, "its value must be an amount of memory, 4m to 512m");
    add_last_word(options.for_server, item);
    note_for_new_mounts(item);
    return {};
  }

  Outcome<void> take_iomap(const Item& item) {
    options.iomap = item.name == "iomap" ? IomapWish::kRequired : IomapWish::kRefused;
    // Another service finds out from /dev/fuse, as ours would.
    const bool is_ours = rules_.vocabulary == Vocabulary::kFuse4fs;
    for (auto* const items : {&options.for_new_mounts, &options.for_server}) {
      std::erase_if(*items, [](const std::string& other) { return other == "iomap" || other == "noiomap"; });
      if (is_ours || items != &options.for_server) items->push_back(item.text);
    }
    return {};
  }

  Outcome<void> take_start_timeout(const Item& item) {
    const auto seconds = number_up_to(item.value, kMostStartSeconds);
    if (!seconds)
      return refuse(item, fmt::format("its value must be a number of seconds, 1 to {}", kMostStartSeconds));
    options.start_timeout = std::chrono::seconds(*seconds);
    return {};
  }

  // Said again, it counts once: the last time.
  static void add_last_word(std::vector<std::string>& items, const Item& item) {
    std::erase_if(items, [&](const std::string& earlier) { return take_apart(earlier).name == item.name; });
    items.push_back(item.text);
  }

  void note_for_new_mounts(const Item& item) { add_last_word(options.for_new_mounts, item); }

  void remark(const Item& item, std::string_view reason) {
    options.remarks.push_back(fmt::format("option {} has no effect: {}", quoted(item.text), reason));
  }

 public:
  // Whether it is a remount is known only after the last option.
  Outcome<void> finish() const {
    if (options.purpose == Purpose::kRemount || kernel_options_.empty()) return {};
    const Item& item = kernel_options_.front();
    return refuse(item, find_option(item.name, item.has_value, item.value)->reason);
  }

 private:
  OptionRules rules_;
  std::vector<Item> kernel_options_;
};

}  // namespace

Outcome<MountOptions> parse_mount_options(const std::vector<std::string>& lists, const OptionRules& rules) {
  Parser parser(rules);
  for (const std::string& list : lists)
    for (std::string& text : split_list(list)) RETURN_IF_ERROR(parser.take(take_apart(std::move(text))));
  RETURN_IF_ERROR(parser.finish());
  return std::move(parser.options);
}

std::string server_options(const MountOptions& options) {
  std::string text = flag_names(options.flags);
  for (const std::string& option : options.for_server) {
    if (!text.empty()) text += ',';
    text += option;
  }
  return text;
}

std::string flag_names(unsigned long flags) {
  std::string text;
  for (const auto& [flag, name] : kFlagNames) {
    if ((flags & flag) == 0) continue;
    if (!text.empty()) text += ',';
    text += name;
  }
  return text;
}

std::optional<unsigned long> flag_of_name(std::string_view name) {
  if (name == "relatime") return MS_RELATIME;
  const auto* const found = std::ranges::find(kFlagNames, name, &FlagName::name);
  if (found == std::ranges::end(kFlagNames)) return std::nullopt;
  return found->flag;
}

}  // namespace fuse4fs::helper
