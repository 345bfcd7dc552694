// SPDX-License-Identifier: GPL-2.0-or-later
// The system-call list of fuse4fs@.service: no wider than the server's own filter, but for what comes before
// it.
#include <gtest/gtest.h>
#include <seccomp.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "server/sandbox/allowed_calls.h"

namespace fuse4fs {
namespace {

// What the program needs from its exec until its own filter closes, with the reason. systemd puts its filter
// on before the exec. Nothing of this can be called by a server that has read a byte of a volume.
struct StartCall {
  const char* name;
  const char* reason;
};
constexpr StartCall kStartCalls[] = {
#include "tests/unit/units/start_calls.inc"
};

// The settings of the unit, in their order; lines that end in a backslash go on.
std::vector<std::pair<std::string, std::string>> settings() {
  std::ifstream file(FUSE4FS_SERVICE_UNIT);
  EXPECT_TRUE(file) << FUSE4FS_SERVICE_UNIT;
  std::vector<std::pair<std::string, std::string>> found;
  for (std::string line; std::getline(file, line);) {
    for (std::string more; line.ends_with('\\') && std::getline(file, more);) {
      line.pop_back();
      line += more;
    }
    const auto equals = line.find('=');
    if (line.starts_with('#') || equals == std::string::npos) continue;
    found.emplace_back(line.substr(0, equals), line.substr(equals + 1));
  }
  return found;
}

std::set<std::string> words_of(const std::string& text) {
  std::istringstream words(text);
  std::set<std::string> set;
  for (std::string word; words >> word;) EXPECT_TRUE(set.insert(word).second) << word << " stands twice";
  return set;
}

std::vector<std::set<std::string>> call_lists() {
  std::vector<std::set<std::string>> lists;
  for (const auto& [name, value] : settings())
    if (name == "SystemCallFilter") lists.push_back(words_of(value));
  return lists;
}

std::set<std::string> own_calls() {
  std::set<std::string> names;
  for (const auto& call : sandbox::internal::kAllowedCalls) {
    const std::unique_ptr<char, decltype(&std::free)> name(
        seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call.number), std::free);
    if (name) names.emplace(name.get());
  }
  return names;
}

TEST(CallListOfTheUnit, IsTheServersOwn) {
  const auto lists = call_lists();
  ASSERT_EQ(lists.size(), 2U);
  EXPECT_EQ(lists[0], own_calls());
}

TEST(CallListOfTheUnit, HasReasonsForWhatComesBefore) {
  const auto lists = call_lists();
  ASSERT_EQ(lists.size(), 2U);
  const auto own = own_calls();
  std::set<std::string> wanted;
  for (const StartCall& call : kStartCalls) {
    EXPECT_FALSE(own.contains(call.name)) << call.name << " is in the server's own filter";
    EXPECT_NE(*call.reason, '\0') << call.name;
    wanted.emplace(call.name);
  }
  EXPECT_EQ(lists[1], wanted);
}

// A group of systemd's grows with its versions, "~" turns a list around, and with an errno a call would be
// answered.
TEST(CallListOfTheUnit, NamesCallsAndKills) {
  for (const auto& list : call_lists())
    for (const std::string& name : list) {
      EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), std::string::npos) << name;
    }
  for (const auto& [name, value] : settings()) EXPECT_NE(name, "SystemCallErrorNumber") << value;
}

}  // namespace
}  // namespace fuse4fs
