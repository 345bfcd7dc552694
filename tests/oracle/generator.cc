// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/generator.h"

#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>

namespace fuse4fs::oracle {
namespace {

constexpr ClassName kClassNames[] = {
    {"names", Class::kNames},           {"data", Class::kData},         {"ranges", Class::kRanges},
    {"attributes", Class::kAttributes}, {"xattrs", Class::kXattrs},     {"acls", Class::kAcls},
    {"flags", Class::kFlags},           {"projects", Class::kProjects}, {"temporary", Class::kTemporary},
    {"mounts", Class::kMounts},
};

char type_of(const Entry& entry) {
  switch (entry.status.stx_mode & S_IFMT) {
    case S_IFREG:
      return 'f';
    case S_IFDIR:
      return 'd';
    case S_IFLNK:
      return 'l';
    default:
      return 's';
  }
}

}  // namespace

std::span<const ClassName> class_names() { return kClassNames; }
Classes all_classes() {
  Classes all;
  for (const ClassName& name : kClassNames) all.insert(name.value);
  return all;
}

void Known::learn(const Tree& tree) {
  types_.clear();
  locked_.clear();
  for (const auto& [path, entry] : tree) {
    types_[path] = type_of(entry);
    if ((entry.flags.value_or(0) & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0) locked_.insert(path);
  }
}

void Known::remove(const std::string& path) {
  if (path == ".") return;
  types_.erase(path);
  locked_.erase(path);
}

void Known::move(const std::string& from, const std::string& to) {
  if (from == "." || to == ".") return;
  std::map<std::string, char> moved;
  for (auto at = types_.begin(); at != types_.end();) {
    if (at->first == from || at->first.starts_with(from + "/")) {
      moved[to + at->first.substr(from.size())] = at->second;
      at = types_.erase(at);
    } else {
      ++at;
    }
  }
  types_.merge(moved);
}

void Known::follow(const Step& step, const Returned& returned) {
  switch (step.operation) {
    case Operation::kRemount:
    case Operation::kSwap:
      open_.clear();
      return;
    case Operation::kOpen:
    case Operation::kTmpfile:
      if (returned.error != 0) open_.erase(step.slot);
      break;
    default:
      break;
  }
  if (returned.error != 0) return;
  switch (step.operation) {
    case Operation::kOpen:
      open_.insert(step.slot);
      types_.emplace(step.path, 'f');
      break;
    case Operation::kTmpfile:
      open_.insert(step.slot);
      break;
    case Operation::kClose:
      open_.erase(step.slot);
      break;
    case Operation::kCreate:
    case Operation::kLinkSlot:
      types_.emplace(step.path, 'f');
      break;
    case Operation::kMkdir:
      types_[step.path] = 'd';
      break;
    case Operation::kSymlink:
      types_[step.path] = 'l';
      break;
    case Operation::kMknod:
      types_[step.path] = 's';
      break;
    case Operation::kLink:
      types_[step.other] = types_.contains(step.path) ? types_[step.path] : 'f';
      break;
    case Operation::kUnlink:
    case Operation::kRmdir:
      remove(step.path);
      break;
    case Operation::kRename:
      if ((step.flags & RENAME_EXCHANGE) != 0) {
        move(step.path, "\x01");
        move(step.other, step.path);
        move("\x01", step.other);
      } else if (step.path != step.other) {
        remove(step.other);
        move(step.path, step.other);
      }
      break;
    case Operation::kSetFlags:
      if ((step.number & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0) {
        locked_.insert(step.path);
      } else {
        locked_.erase(step.path);
      }
      break;
    default:
      break;
  }
}

std::vector<std::string> Known::of(char type) const {
  std::vector<std::string> paths;
  for (const auto& [path, found] : types_)
    if (found == type) paths.push_back(path);
  return paths;
}

std::span<const Generator::Choice> Generator::choices() {
  using enum Class;
  static constexpr Choice kChoices[] = {
      {kNames, 10, &Generator::create},
      {kNames, 6, &Generator::make_directory},
      {kNames, 3, &Generator::remove_directory},
      {kNames, 7, &Generator::unlink_name},
      {kNames, 8, &Generator::rename_name},
      {kNames, 5, &Generator::link_name},
      {kNames, 4, &Generator::make_symlink},
      {kNames, 1, &Generator::read_link},
      {kNames, 2, &Generator::make_node},
      {kNames, 3, &Generator::open_file},
      {kNames, 2, &Generator::close_file},
      {kNames, 1, &Generator::list},
      {kTemporary, 2, &Generator::temporary},
      {kTemporary, 2, &Generator::link_slot},
      {kData, 16, &Generator::write_bytes},
      {kData, 8, &Generator::read_bytes},
      {kData, 4, &Generator::direct_write},
      {kData, 3, &Generator::direct_read},
      {kData, 6, &Generator::truncate_file},
      {kData, 2, &Generator::sync_file},
      {kRanges, 8, &Generator::change_range},
      {kRanges, 4, &Generator::seek},
      {kRanges, 3, &Generator::copy},
      {kAttributes, 6, &Generator::change_mode},
      {kAttributes, 6, &Generator::change_owner},
      {kAttributes, 5, &Generator::set_times},
      {kAttributes, 3, &Generator::may_access},
      {kAttributes, 3, &Generator::status},
      {kAttributes, 1, &Generator::volume},
      {kXattrs, 8, &Generator::set_xattr},
      {kXattrs, 3, &Generator::get_xattr},
      {kXattrs, 2, &Generator::list_xattrs},
      {kXattrs, 3, &Generator::remove_xattr},
      {kAcls, 5, &Generator::set_acl},
      {kAcls, 1, &Generator::drop_acl},
      {kFlags, 2, &Generator::get_flags},
      {kFlags, 3, &Generator::set_flags},
      {kProjects, 1, &Generator::get_project},
      {kProjects, 2, &Generator::set_project},
      {kMounts, 1, &Generator::drop_caches},
  };
  return kChoices;
}

Step Generator::next(std::uint64_t free_percent) {
  // Everything is locked before long if nobody clears the flags again.
  if (!known_.locked().empty() && one_in(8))
    return {.operation = Operation::kSetFlags, .path = pick(known_.locked())};
  if (free_percent < 25) {
    const auto files = known_.of('f');
    if (!files.empty()) return {.operation = Operation::kTruncate, .path = pick(files)};
  }
  if (classes_.contains(Class::kMounts)) {
    if (one_in(250)) return remount();
    if (one_in(800)) return swap();
  }
  unsigned all = 0;
  for (const Choice& choice : choices())
    if (classes_.contains(choice.of)) all += choice.weight;
  auto at = static_cast<unsigned>(below(all));
  for (const Choice& choice : choices()) {
    if (!classes_.contains(choice.of)) continue;
    if (at < choice.weight) return (this->*choice.make)();
    at -= choice.weight;
  }
  return list();
}

std::string Generator::entry_name() {
  // Few names, so that they meet.
  if (one_in(40)) return std::string(254 + below(3), 'n');  // 256 is one too many
  if (one_in(20)) return std::string(20 + below(200), 'm') + std::to_string(below(4));
  return std::string(1, "abcdefgh"[below(8)]) + std::to_string(below(6));
}

std::string Generator::fresh() {
  std::vector<std::string> directories = known_.of('d');
  std::erase_if(directories, [](const std::string& path) { return path.size() > 2000; });
  std::erase(directories, "lost+found");
  const std::string directory = directories.empty() || one_in(6) ? "." : pick(directories);
  const std::string name = entry_name();
  return directory == "." ? name : directory + "/" + name;
}

std::string Generator::some(char type) {
  if (one_in(25)) return fresh();
  if (one_in(60)) return some('f') + "/" + entry_name();  // ENOTDIR
  if (!one_in(12)) {
    std::vector<std::string> paths = known_.of(type);
    std::erase(paths, "lost+found");
    if (!paths.empty()) return pick(paths);
  }
  return pick(known_.all()).first;
}

void Generator::aim(Step& step, char type) {
  if (!known_.open().empty() && one_in(4)) {
    step.slot = pick(known_.open());
  } else {
    step.path = some(type);
  }
}

}  // namespace fuse4fs::oracle
