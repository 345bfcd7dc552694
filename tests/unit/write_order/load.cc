// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/write_order/load.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <vector>

namespace fuse4fs::ext4 {
namespace {

constexpr auto kKeep = AttributeChanges::Privileges::kKeep;

bool is_enospc(const Errno& error) { return error == Errno(ENOSPC); }

}  // namespace

std::string Load::new_name() { return fmt::format("{}-{:x}", std::string(1 + draw(60), 'n'), random_()); }

InodeNumber Load::a_directory() {
  std::vector<InodeNumber> numbers{kRootInode};
  for (const auto& [number, node] : promises_.nodes())
    if (node.is_directory) numbers.push_back(number);
  return numbers[draw(numbers.size())];
}

std::optional<Place> Load::a_name(bool of_directories) {
  std::vector<Place> places;
  for (const auto& [place, inode] : promises_.names())
    if (promises_.nodes().at(inode).is_directory == of_directories) places.push_back(place);
  if (places.empty()) return std::nullopt;
  return places[draw(places.size())];
}

std::optional<InodeNumber> Load::a_file() {
  std::vector<InodeNumber> numbers;
  for (const auto& [number, node] : promises_.nodes())
    if (!node.is_directory && node.tag != 0) numbers.push_back(number);
  if (numbers.empty()) return std::nullopt;
  return numbers[draw(numbers.size())];
}

void Load::check(const Result<void>& done, std::string_view doing) {
  EXPECT_TRUE(done) << doing << ": " << done.error().message();
}

void Load::make_file_in(InodeNumber parent, std::size_t most) {
  const Place place{parent, new_name()};
  const auto made = fs_.make(parent, place.name, {.mode = S_IFREG | 0644U});
  if (!made && is_enospc(made.error())) return;
  ASSERT_TRUE(made) << made.error().message();
  const std::uint64_t tag = next_tag_++;
  Promises::Node node{.inode = made->inode, .generation = made->generation, .tag = tag};
  if (const std::size_t length = draw(most); length != 0) {
    const auto bytes = tagged(tag, 0, length);
    const auto done = fs_.write(made->inode, 0, std::as_bytes(std::span(bytes)), kKeep);
    if (done) node.content = bytes;
  }
  fs_.forget(made->inode, 1);
  promises_.made(node, place);
}

void Load::make_directory() {
  const Place place{a_directory(), new_name()};
  const auto made = fs_.make(place.parent, place.name, {.mode = S_IFDIR | 0755U});
  if (!made && is_enospc(made.error())) return;
  ASSERT_TRUE(made) << made.error().message();
  fs_.forget(made->inode, 1);
  promises_.made({.inode = made->inode, .generation = made->generation, .is_directory = true}, place);
}

void Load::make_symlink() {
  const Place place{a_directory(), new_name()};
  const auto target = std::string(1 + draw(200), 't');
  const auto made = fs_.make_symlink(place.parent, place.name, target, {});
  if (!made && is_enospc(made.error())) return;
  ASSERT_TRUE(made) << made.error().message();
  fs_.forget(made->inode, 1);
  promises_.made({.inode = made->inode, .generation = made->generation, .content = target}, place);
}

void Load::write() {
  const auto file = a_file();
  if (!file) return;
  const auto& node = promises_.nodes().at(*file);
  auto content = node.content;
  const std::size_t offset = draw(content.size() + 3000) & ~std::size_t{15};
  const auto bytes = tagged(node.tag, random_(), 1 + draw(9000));
  if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size());
  content.replace(offset, bytes.size(), bytes);
  // Whatever becomes of it: it may have been written in part.
  promises_.changed(*file, node.content);
  const auto done = fs_.write(*file, offset, std::as_bytes(std::span(bytes)), kKeep);
  if (done) promises_.changed(*file, content);
}

void Load::truncate() {
  const auto file = a_file();
  if (!file) return;
  const std::size_t length = draw(promises_.nodes().at(*file).content.size() + 1);
  promises_.truncated(*file, length);
  const auto done = fs_.set_attributes(*file, {.size = length});
  ASSERT_TRUE(done) << done.error().message();
}

void Load::link() {
  const auto file = a_file();
  if (!file) return;
  const Place place{a_directory(), new_name()};
  const auto done = fs_.link(*file, place.parent, place.name);
  if (!done && is_enospc(done.error())) return;
  ASSERT_TRUE(done) << done.error().message();
  fs_.forget(*file, 1);
  promises_.linked(*file, place);
}

void Load::unlink() {
  const auto place = a_name(false);
  if (!place) return;
  check(fs_.unlink(place->parent, place->name), "unlink");
  promises_.unlinked(*place);
}

void Load::remove_directory() {
  const auto place = a_name(true);
  if (!place) return;
  const InodeNumber number = promises_.names().at(*place);
  const bool is_empty = std::none_of(promises_.names().begin(), promises_.names().end(),
                                     [&](const auto& name) { return name.first.parent == number; });
  if (!is_empty) return;
  check(fs_.remove_directory(place->parent, place->name), "rmdir");
  promises_.unlinked(*place);
}

void Load::rename() {
  const auto from = a_name(draw(4) == 0);
  if (!from) return;
  const Place to{draw(2) == 0 ? from->parent : a_directory(), new_name()};
  const auto done = fs_.rename(from->parent, from->name, to.parent, to.name, {});
  // Into itself.
  if (!done && (done.error() == Errno(EINVAL) || is_enospc(done.error()))) return;
  check(done, "rename");
  promises_.renamed(*from, to);
}

void Load::replace() {
  const auto from = a_name(false);
  const auto to = a_name(false);
  if (!from || promises_.names().at(*from) == promises_.names().at(*to)) return;
  check(fs_.rename(from->parent, from->name, to->parent, to->name, {}), "rename over a file");
  promises_.renamed(*from, *to);
}

void Load::exchange() {
  const auto from = a_name(false);
  const auto to = a_name(false);
  if (!from || promises_.names().at(*from) == promises_.names().at(*to)) return;
  promises_.exchanged(*from, *to);
  check(fs_.rename(from->parent, from->name, to->parent, to->name, {.mode = RenameMode::kExchange}),
        "exchange");
}

void Load::set_xattr() {
  const auto file = a_file();
  if (!file) return;
  promises_.touched(*file);
  const std::string value(draw(700), 'x');
  const auto done = fs_.set_xattr(*file, fmt::format("user.{}", draw(3)), std::as_bytes(std::span(value)),
                                  XattrMode::kCreateOrReplace, SetgidBit::kKeep);
  if (!done && is_enospc(done.error())) return;
  check(done, "setxattr");
}

void Load::sync() {
  check(fs_.sync(), "sync");
  promises_.synced(moment_());
}

void Load::sync_file() {
  const auto file = a_file();
  if (!file) return;
  check(fs_.sync_inode(*file, FileSystem::SyncWhat::kAll), "fsync");
  promises_.synced(*file, moment_());
}

void Load::write_back() { check(fs_.write_back(), "write_back"); }

void Load::prepare() {
  for (int i = 0; i < 4; ++i) make_directory();
  for (int i = 0; i < 150; ++i) make_file_in(a_directory(), draw(8) == 0 ? 20000 : 300);
  sync();
}

void Load::run(std::size_t steps) {
  struct Weighed {
    Step step;
    std::size_t weight;
  };
  constexpr Weighed kSteps[] = {
      {&Load::make_file, 30}, {&Load::make_directory, 4},   {&Load::make_symlink, 4},
      {&Load::write, 12},     {&Load::truncate, 8},         {&Load::link, 6},
      {&Load::unlink, 20},    {&Load::remove_directory, 4}, {&Load::rename, 25},
      {&Load::replace, 8},    {&Load::exchange, 2},         {&Load::set_xattr, 8},
      {&Load::sync, 1},       {&Load::sync_file, 4},        {&Load::write_back, 3},
  };
  std::vector<Step> deck;
  for (const auto& [step, weight] : kSteps) deck.insert(deck.end(), weight, step);
  for (std::size_t i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) {
    promises_.at(moment_());
    (this->*deck[draw(deck.size())])();
  }
  promises_.at(moment_());
}

}  // namespace fuse4fs::ext4
