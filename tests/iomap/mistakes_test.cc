// SPDX-License-Identifier: GPL-2.0-or-later
// Each mistake of a server, and that the model calls it by its name.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/iomap/allocating_mount.h"
#include "tests/iomap/mistakes.h"
#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

using Remember = AllocatingOptions::Remember;

// The steps up to the first breach; all of them where there is none.
struct Walk {
  std::set<Rule> rules;
  std::string words;
};
Walk walk(const AllocatingOptions& server, const Quirks& quirks, std::size_t folio_size = 4096) {
  AllocatingMount::Options options;
  options.server = server;
  options.mount.kernel.quirks = quirks;
  options.mount.kernel.folio_size = folio_size;
  AllocatingMount mount(options);
  Breaches& breaches = mount.kernel().breaches();
  std::string words;
  for (const Step& step : scenario(mount.kernel(), mount.server())) {
    const auto outcome = step.run();
    if (!breaches.empty()) {
      words = std::string(step.name) + ": " + breaches.words();
      break;
    }
    EXPECT_TRUE(outcome) << step.name << ": " << outcome.error().message();
  }
  return {.rules = breaches.rules(), .words = words};
}

std::string names(const std::set<Rule>& rules) {
  std::string out;
  for (const Rule rule : rules) out += std::string(name(rule)) + " ";
  return out;
}

class MistakeTest : public ::testing::TestWithParam<MistakeRow> {};

TEST_P(MistakeTest, IsReportedByItsName) {
  const MistakeRow& row = GetParam();
  AllocatingOptions server{.mistake = row.mistake};
  if (row.shows == MistakeRow::Shows::kWithCache) server.remember = Remember::kAnswers;
  if (row.shows == MistakeRow::Shows::kInline) server.inline_bytes = 100;
  const Walk wrong = walk(server, Quirks::v7());
  EXPECT_EQ(wrong.rules, std::set<Rule>{row.rule})
      << "wanted " << name(row.rule) << ", got " << names(wrong.rules) << "\n"
      << wrong.words;
}

INSTANTIATE_TEST_SUITE_P(All, MistakeTest, ::testing::ValuesIn(mistakes().begin(), mistakes().end()),
                         [](const auto& info) { return std::string(info.param.name); });

// The same steps on a server that makes none.
class NoMistakeTest : public ::testing::TestWithParam<std::tuple<Remember, Quirks, std::size_t>> {};

TEST_P(NoMistakeTest, NothingIsReported) {
  const auto& [remember, quirks, folio_size] = GetParam();
  const Walk right = walk({.remember = remember}, quirks, folio_size);
  EXPECT_TRUE(right.rules.empty()) << right.words;
}

std::string name_of(const ::testing::TestParamInfo<NoMistakeTest::ParamType>& info) {
  const auto& [remember, quirks, folio_size] = info.param;
  constexpr const char* kRemembered[] = {"Nothing", "Answers", "ByCache"};
  const char* kernel = "Plain";
  if (quirks.has(Quirk::kEndNotSent)) kernel = "NoEnd";
  if (quirks.has(Quirk::kStatMovesDiskSize)) kernel = "V7";
  return fmt::format("{}{}{}", kRemembered[static_cast<int>(remember)], kernel, folio_size);
}

INSTANTIATE_TEST_SUITE_P(
    All, NoMistakeTest,
    ::testing::Combine(::testing::Values(Remember::kNothing, Remember::kAnswers, Remember::kByCache),
                       ::testing::Values(Quirks{}, Quirks::v7(), Quirks{Quirk::kEndNotSent}),
                       ::testing::Values(4096, 16384)),
    name_of);

TEST(Mistakes, HaveANameEach) {
  std::set<std::string_view> names;
  std::set<Mistake> known;
  for (const MistakeRow& row : mistakes()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_TRUE(known.insert(row.mistake).second) << row.name;
  }
  // All of the enum but kNone.
  EXPECT_EQ(known.size(), static_cast<std::size_t>(Mistake::kEndRefused));
}

}  // namespace
}  // namespace fuse4fs::iomap_model
