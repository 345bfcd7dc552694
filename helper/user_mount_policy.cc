// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/quoted.h"
#include "helper/command_line.h"

namespace fuse4fs::helper {
namespace {

// What a user may always ask for, for it makes the mount less.
constexpr std::string_view kNarrowing[] = {"ro", "nosuid", "nodev", "noexec", "nosymfollow"};
// What mount(8) writes into the list that it hands to helpers, and what changes nothing for them.
constexpr std::string_view kOfMount8[] = {
    "rw",     "defaults", "user",   "users", "owner",   "group",  "suid",    "dev",   "exec", "async",
    "nofail", "auto",     "noauto", "loop",  "_netdev", "nouser", "nousers", "atime", "loud", "relatime"};
// When things are noted down is nobody's right.
constexpr std::string_view kHarmless[] = {"noatime",     "nodiratime",    "diratime", "norelatime",
                                          "strictatime", "nostrictatime", "symfollow"};
// Neither may follow from what a line of fstab or an administrator says.
constexpr std::string_view kForced = "nosuid,nodev";

bool is_in(std::span<const std::string_view> words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

// At the commas that are not inside double quotes; the text stays as it is.
std::vector<std::string> items_of(std::string_view list) {
  std::vector<std::string> items(1);
  bool in_quotes = false;
  for (const char c : list) {
    if (c == '"') in_quotes = !in_quotes;
    if (c == ',' && !in_quotes)
      items.emplace_back();
    else
      items.back() += c;
  }
  std::erase_if(items, [](const std::string& item) { return item.empty(); });
  return items;
}

std::string joined(const std::vector<std::string>& items) {
  std::string list;
  for (const std::string& item : items) {
    list += item;
    list += ',';
  }
  return list.append(kForced);
}

// mount(8) writes user=NAME for its own use; as a wish it is nothing.
bool is_of_mount8(std::string_view item) {
  return is_in(kOfMount8, item) || item.starts_with("user=") || item.starts_with("x-") ||
         item.starts_with("X-");
}

bool is_own_type(std::string_view type) {
  return type == kOwnType || type == "fuse.fuse4fs" || type == "fuseblk.fuse4fs";
}

// The words of a line, the last one on a subject counting.
struct Words {
  bool user = false;
  bool users = false;
  bool owner = false;
  bool group = false;
  std::vector<std::string> options;  // with what a word implies in its place
};

Words words_of(const FstabLine& line) {
  Words words;
  const auto set = [&](bool& word, bool value, std::string_view implied) {
    word = value;
    if (value) words.options.emplace_back(implied);
  };
  for (std::string& item : items_of(line.options)) {
    if (item == "user" || item == "nouser") {
      set(words.user, item == "user", "noexec,nosuid,nodev");
    } else if (item == "users" || item == "nousers") {
      set(words.users, item == "users", "noexec,nosuid,nodev");
    } else if (item == "owner" || item == "noowner") {
      set(words.owner, item == "owner", kForced);
    } else if (item == "group" || item == "nogroup") {
      set(words.group, item == "group", kForced);
    } else {
      // user=NAME among them, which gives nobody a right; nor does mount(8) let it.
      words.options.push_back(std::move(item));
    }
  }
  return words;
}

bool may_mount(const Words& words, const Person& person, const std::optional<DeviceOwner>& owner) {
  if (words.user || words.users) return true;
  if (!owner) return false;
  return (words.owner && owner->user == person.user) || (words.group && person.is_in(owner->group));
}

}  // namespace

bool Person::is_in(gid_t wanted) const {
  return group == wanted || std::ranges::find(groups, wanted) != groups.end();
}

Outcome<std::string> options_by_fstab(const FstabLine& line, const Person& person,
                                      const std::optional<DeviceOwner>& owner, const std::string& wished) {
  if (!is_own_type(line.type)) {
    return fail(Errno(EPERM), fmt::format("the line of {} in /etc/fstab is of the type {}, not fuse4fs",
                                          quoted(line.target), quoted(line.type)));
  }
  Words words = words_of(line);
  if (!may_mount(words, person, owner)) {
    const bool for_owners = words.owner || words.group;
    return fail(
        Errno(EPERM),
        fmt::format("the line of {} in /etc/fstab does not let you mount it ({})", quoted(line.target),
                    for_owners ? "it lets the owner or the group of the device, which is not you"
                               : "it has neither user nor users"));
  }
  const std::vector<std::string> written = items_of(line.options);
  for (std::string& item : items_of(wished)) {
    if (is_in(kNarrowing, item)) {
      words.options.push_back(std::move(item));
    } else if (!is_of_mount8(item) && std::ranges::find(written, item) == written.end()) {
      return fail(Errno(EPERM), fmt::format("option {} is not in the line of {} in /etc/fstab", quoted(item),
                                            quoted(line.target)));
    }
  }
  return joined(words.options);
}

Outcome<std::string> options_by_consent(const std::string& wished) {
  std::vector<std::string> options;
  for (std::string& item : items_of(wished)) {
    if (is_in(kNarrowing, item) || is_in(kHarmless, item) || item == "exec") {
      options.push_back(std::move(item));
    } else if (!is_of_mount8(item)) {
      return fail(Errno(EPERM),
                  fmt::format("option {} is root's to choose: leave it out, or have a line with "
                              "it and the word user written into /etc/fstab",
                              quoted(item)));
    }
  }
  return joined(options);
}

}  // namespace fuse4fs::helper
