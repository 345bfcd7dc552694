// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/write_order/promises.h"

#include <fmt/format.h>

#include <algorithm>

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kRecord = 16;

std::string words(const Place& place) { return fmt::format("{}/{:.20}", place.parent, place.name); }

bool is_found(const Answer& answer, const Survivors& found) {
  const auto name = found.names.find(answer.place);
  if (name == found.names.end() || name->second != answer.inode) return false;
  if (!answer.content) return true;
  const auto file = found.files.find(answer.inode);
  return file != found.files.end() && file->second.content == *answer.content;
}

std::string words(const Answer& answer, const Survivors& found) {
  const auto name = found.names.find(answer.place);
  if (name == found.names.end()) {
    std::string others;
    for (const auto& [place, inode] : found.names)
      if (inode == answer.inode) others += " " + words(place);
    return fmt::format("{} (inode {}) is gone{}", words(answer.place), answer.inode,
                       others.empty() ? ", inode and all" : ", its inode is" + others);
  }
  if (name->second != answer.inode)
    return fmt::format("{} leads to inode {} instead of {}", words(answer.place), name->second, answer.inode);
  return fmt::format("{} has another content", words(answer.place));
}

std::optional<std::string> answer_content(const Promises::Node& node) {
  if (!node.is_synced || node.is_directory) return std::nullopt;
  return node.content;
}

}  // namespace

std::string tagged(std::uint64_t tag, std::uint64_t salt, std::size_t length) {
  std::string bytes;
  while (bytes.size() < length) bytes += fmt::format("{:08x}{:08x}", tag, (salt + bytes.size()) & 0xffffffff);
  bytes.resize(length);
  return bytes;
}

bool is_pure(std::uint64_t tag, const std::string& content) {
  const std::string wanted = fmt::format("{:08x}", tag);
  for (std::size_t at = 0; at < content.size(); ++at) {
    const std::size_t inside = at % kRecord;
    if (inside < wanted.size() && content[at] != '\0' && content[at] != wanted[inside]) return false;
  }
  return true;
}

void Promises::made(const Node& node, const Place& place) {
  nodes_[node.inode] = node;
  linked(node.inode, place);
}

void Promises::linked(InodeNumber inode, const Place& place) {
  names_[place] = inode;
  nodes_[inode].places.insert(place);
}

// Whatever was promised of this inode.
void Promises::end_of(InodeNumber inode) {
  for (auto& [place, open] : open_) {
    std::erase_if(open, [&](std::size_t index) {
      auto& promise = promises_[index];
      const bool is_about = std::any_of(promise.answers.begin(), promise.answers.end(),
                                        [&](const Answer& answer) { return answer.inode == inode; });
      if (is_about) promise.until = now_;
      return is_about;
    });
  }
  nodes_[inode].is_synced = false;
}

void Promises::end_purity(Node& node) {
  if (node.purity) purities_[*node.purity].until = now_;
  node.purity.reset();
}

void Promises::changed(InodeNumber inode, std::string content) {
  end_of(inode);
  end_purity(nodes_[inode]);
  nodes_[inode].content = std::move(content);
}

void Promises::truncated(InodeNumber inode, std::size_t length) {
  end_of(inode);
  nodes_[inode].content.resize(length);
}

void Promises::touched(InodeNumber inode) { end_of(inode); }

void Promises::end_at(const Place& place) {
  for (const std::size_t index : open_[place]) promises_[index].until = now_;
  open_.erase(place);
}

void Promises::drop(const Place& place) {
  const auto name = names_.find(place);
  auto& node = nodes_.at(name->second);
  node.places.erase(place);
  if (node.places.empty()) nodes_.erase(name->second);
  names_.erase(name);
}

void Promises::unlinked(const Place& place) {
  end_at(place);
  drop(place);
}

void Promises::renamed(const Place& from, const Place& to) {
  const InodeNumber inode = names_.at(from);
  auto& node = nodes_.at(inode);
  const Answer answer{.inode = inode, .place = to, .content = answer_content(node)};
  if (names_.contains(to)) drop(to);
  // Of what was replaced: the one or the other is there at any time.
  auto moved = std::move(open_[from]);
  open_.erase(from);
  auto& there = open_[to];
  there.insert(moved.begin(), moved.end());
  for (const std::size_t index : there) promises_[index].answers.push_back(answer);
  names_.erase(from);
  node.places.erase(from);
  linked(inode, to);
}

void Promises::exchanged(const Place& first, const Place& second) {
  end_at(first);
  end_at(second);
  const InodeNumber one = names_.at(first), other = names_.at(second);
  nodes_.at(one).places.erase(first);
  nodes_.at(other).places.erase(second);
  linked(one, second);
  linked(other, first);
}

void Promises::synced(Moment moment) {
  for (const auto& [inode, node] : nodes_) synced(inode, moment);
}

void Promises::synced(InodeNumber inode, Moment moment) {
  auto& node = nodes_.at(inode);
  node.is_synced = true;
  if (node.tag != 0 && !node.purity) {
    node.purity = purities_.size();
    purities_.push_back({.inode = inode, .generation = node.generation, .tag = node.tag, .from = moment});
  }
  for (const Place& place : node.places) {
    // What was promised before, with other names, is now promised with this one alone.
    const Answer answer{.inode = inode, .place = place, .content = answer_content(node)};
    auto& open = open_[place];
    if (open.size() == 1 && promises_[*open.begin()].answers.size() == 1) continue;
    for (const std::size_t index : open) promises_[index].until = moment;
    open = {promises_.size()};
    promises_.push_back({.answers = {answer}, .from = moment});
  }
}

std::size_t Promises::count_at(Moment cut) const {
  return static_cast<std::size_t>(
      std::count_if(promises_.begin(), promises_.end(),
                    [&](const Promise& promise) { return promise.from <= cut && cut <= promise.until; }));
}

std::vector<std::string> Promises::broken(Moment cut, const Survivors& found) const {
  std::vector<std::string> lines;
  for (const Promise& promise : promises_) {
    if (cut < promise.from || cut > promise.until) continue;
    const auto& answers = promise.answers;
    if (std::any_of(answers.begin(), answers.end(),
                    [&](const Answer& answer) { return is_found(answer, found); }))
      continue;
    std::string line;
    for (const Answer& answer : answers) line += (line.empty() ? "" : "; and ") + words(answer, found);
    lines.push_back(line);
  }
  for (const Purity& purity : purities_) {
    if (cut < purity.from || cut > purity.until) continue;
    const auto file = found.files.find(purity.inode);
    if (file == found.files.end() || file->second.generation != purity.generation) continue;
    if (!is_pure(purity.tag, file->second.content))
      lines.push_back(fmt::format("inode {} shows what another file wrote", purity.inode));
  }
  return lines;
}

}  // namespace fuse4fs::ext4
