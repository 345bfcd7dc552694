// SPDX-License-Identifier: GPL-2.0-or-later
// Records of the journal, where lines go, and how many of them.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "base/unique_fd.h"
#include "server/engine_log.h"
#include "server/service/journal_records.h"
#include "server/service/log_output.h"
#include "server/service/message_ids.h"

namespace fuse4fs::service {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;
using ::testing::UnorderedElementsAreArray;

using Fields = std::multimap<std::string, std::string>;

// As journald reads them.
Fields fields_of(std::string_view record) {
  Fields fields;
  while (!record.empty()) {
    const auto end = record.find_first_of("=\n");
    if (end == std::string_view::npos) {
      ADD_FAILURE() << "a field without an end";
      break;
    }
    const std::string key(record.substr(0, end));
    const bool counted = record[end] == '\n';
    record.remove_prefix(end + 1);
    std::size_t size = record.find('\n');
    if (counted) {
      size = 0;
      for (unsigned i = 0; i < 8; ++i) size |= std::size_t{static_cast<unsigned char>(record[i])} << (8 * i);
      record.remove_prefix(8);
    }
    if (size >= record.size() || record[size] != '\n') {
      ADD_FAILURE() << "the value of " << key << " has no end";
      break;
    }
    fields.emplace(key, record.substr(0, size));
    record.remove_prefix(size + 1);
  }
  return fields;
}

TEST(JournalRecord, HasTheFieldsThatAreKnown) {
  const JournalOrigin origin{.device = "/dev/sdb1", .mount_point = "/mnt"};
  EXPECT_THAT(
      fields_of(journal_record(LogLevel::kError, "a block is wrong",
                               {.message_id = kCorruption, .inode = 12, .block = 3456, .error = EUCLEAN},
                               origin)),
      UnorderedElementsAre(Pair("MESSAGE", "a block is wrong"), Pair("PRIORITY", "3"),
                           Pair("SYSLOG_IDENTIFIER", "fuse4fs"), Pair("MESSAGE_ID", std::string(kCorruption)),
                           Pair("FUSE4FS_DEVICE", "/dev/sdb1"), Pair("FUSE4FS_MOUNT_POINT", "/mnt"),
                           Pair("DEVICE", "/dev/sdb1"), Pair("WHERE", "/mnt"), Pair("FUSE4FS_INODE", "12"),
                           Pair("FUSE4FS_BLOCK", "3456"), Pair("ERRNO", std::to_string(EUCLEAN))));
  EXPECT_THAT(fields_of(journal_record(LogLevel::kInfo, "words", {}, origin)),
              UnorderedElementsAre(Pair("MESSAGE", "words"), Pair("PRIORITY", "6"),
                                   Pair("SYSLOG_IDENTIFIER", "fuse4fs"), Pair("FUSE4FS_DEVICE", "/dev/sdb1"),
                                   Pair("FUSE4FS_MOUNT_POINT", "/mnt"), Pair("DEVICE", "/dev/sdb1"),
                                   Pair("WHERE", "/mnt")));
}

// Whatever bytes a name has, they stay in its field.
TEST(JournalRecord, CannotBeForgedByAName) {
  for (const std::string evil :
       {"/a\nPRIORITY=0\nMESSAGE=all is well", "\n", "/a\n", "=\n=", "\x01\x02\x00z"}) {
    const auto fields =
        fields_of(journal_record(LogLevel::kWarning, evil, {}, {.device = "/dev/sdb1", .mount_point = evil}));
    EXPECT_EQ(fields.size(), 7U) << evil;
    EXPECT_THAT(fields,
                IsSupersetOf(Fields{{"MESSAGE", evil}, {"FUSE4FS_MOUNT_POINT", evil}, {"PRIORITY", "4"}}));
  }
}

TEST(JournalRecord, FitsIntoADatagram) {
  const std::string endless(1 << 20, 'x');
  const auto record = journal_record(LogLevel::kInfo, endless, {}, {});
  EXPECT_LT(record.size(), kLongestMessage + 200);
  EXPECT_EQ(fields_of(record).find("MESSAGE")->second.size(), kLongestMessage);
}

struct Sockets {
  Sockets(int type = SOCK_DGRAM) {
    int ends[2];
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) ADD_FAILURE() << "socketpair";
    server = UniqueFd(ends[0]);
    journald = UniqueFd(ends[1]);
  }
  // Empty when there is none.
  std::string next() {
    std::array<char, 65536> bytes{};
    const auto size = ::recv(journald.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    return size < 0 ? "" : std::string(bytes.data(), static_cast<std::size_t>(size));
  }
  UniqueFd server, journald;
};

std::string text_in(int descriptor) {
  std::array<char, 65536> bytes{};
  const auto size = ::pread(descriptor, bytes.data(), bytes.size(), 0);
  return {bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

const LineLimit::TimePoint kNoon{12h};

class LogOutputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    standard_error_ = UniqueFd(::dup(STDERR_FILENO));
    captured_ = UniqueFd(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_TRUE(captured_);
    ASSERT_EQ(::dup2(captured_.get(), STDERR_FILENO), STDERR_FILENO);
  }
  void TearDown() override { ::dup2(standard_error_.get(), STDERR_FILENO); }
  UniqueFd standard_error_, captured_;
};

TEST_F(LogOutputTest, GoesToTheJournalAsARecordAndToTheUserAsALine) {
  Sockets sockets;
  LogOutput log(std::move(sockets.server), {.device = "/dev/sdb1", .mount_point = "/mnt"});
  log.write(LogLevel::kError, "bad", {.message_id = kDeviceError, .inode = 7, .error = EIO});
  EXPECT_THAT(fields_of(sockets.next()), IsSupersetOf(Fields{{"MESSAGE", "/dev/sdb1 on /mnt: bad"},
                                                             {"MESSAGE_ID", std::string(kDeviceError)},
                                                             {"FUSE4FS_INODE", "7"},
                                                             {"ERRNO", std::to_string(EIO)}}));
  EXPECT_EQ(text_in(STDERR_FILENO), "bad\n");
}

TEST_F(LogOutputTest, IsNotTwiceInTheJournal) {
  // Under systemd standard error leads there too.
  Sockets standard(SOCK_STREAM);
  ASSERT_EQ(::dup2(standard.server.get(), STDERR_FILENO), STDERR_FILENO);
  Sockets sockets;
  LogOutput log(std::move(sockets.server), {.device = "/dev/sdb1", .mount_point = "/mnt"});
  log.write(LogLevel::kInfo, "once");
  EXPECT_THAT(sockets.next(), HasSubstr("once"));
  EXPECT_EQ(standard.next(), "");
}

TEST_F(LogOutputTest, GoesToAFileAsALine) {
  UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC | O_APPEND, 0600));
  const int descriptor = file.get();
  LogOutput log(std::move(file), {.device = "/dev/sdb1", .mount_point = "/mnt"});
  log.write(LogLevel::kError, "bad", {.message_id = kDeviceError, .inode = 7});
  EXPECT_EQ(text_in(descriptor), "fuse4fs (/dev/sdb1 on /mnt): bad\n");
}

TEST_F(LogOutputTest, StopsAFloodAndSaysHowMuchItWas) {
  UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC | O_APPEND, 0600));
  const int descriptor = file.get();
  LogOutput log(std::move(file), {.device = "d", .mount_point = "m"});
  for (int i = 0; i < 1000; ++i)
    log.write_at(kNoon + i * 1ms, LogLevel::kWarning, fmt::format("line {}", i), {});
  EXPECT_THAT(text_in(descriptor), HasSubstr("line 199\n"));
  EXPECT_THAT(text_in(descriptor), Not(HasSubstr("line 200\n")));
  log.write_at(kNoon + 59s, LogLevel::kDebug, "asked for", {});
  EXPECT_THAT(text_in(descriptor), HasSubstr("asked for\n"));
  log.write_at(kNoon + 60s, LogLevel::kInfo, "later", {});
  EXPECT_THAT(text_in(descriptor), HasSubstr("(d on m): 800 lines were left out\nfuse4fs (d on m): later\n"));
  log.write_at(kNoon + 60s, LogLevel::kInfo, "once more", {});
  EXPECT_THAT(text_in(descriptor), HasSubstr("later\nfuse4fs (d on m): once more\n"));
}

// The journal may lie on the mount that this server serves.
TEST_F(LogOutputTest, NeverWaitsForTheJournal) {
  Sockets sockets;
  LogOutput log(std::move(sockets.server), {.device = "d", .mount_point = "m"});
  const std::string much(kLongestMessage, 'x');
  int sent = 0;
  for (; sent < 199; ++sent) log.write_at(kNoon, LogLevel::kInfo, much, {});
  int arrived = 0;
  while (!sockets.next().empty()) ++arrived;
  ASSERT_LT(arrived, sent) << "the socket took all, so nothing was left out";
  log.write_at(kNoon, LogLevel::kInfo, "now there is room", {});
  EXPECT_THAT(sockets.next(), HasSubstr(fmt::format("{} lines were left out", sent - arrived)));
  EXPECT_THAT(sockets.next(), HasSubstr("now there is room"));
}

TEST(EngineLogTest, NamesWhatItIsAbout) {
  struct Line {
    LogLevel level;
    std::string words;
    std::string id;
    std::uint64_t inode, block;
    int error;
    bool operator==(const Line&) const = default;
  };
  std::vector<Line> lines;
  set_log_writer([&](LogLevel level, std::string_view words, const LogDetails& about) {
    lines.push_back(
        {level, std::string(words), std::string(about.message_id), about.inode, about.block, about.error});
  });
  EngineLog log;
  ext4::Events& events = log;
  events.corruption("c", {.inode = 3, .block = 4, .error = EUCLEAN});
  events.device_error("d", {.inode = 5, .error = ENXIO});
  events.notice(ext4::Notice::kReadOnly, "ro");
  events.notice(ext4::Notice::kShutDown, "gone");
  events.notice(ext4::Notice::kRecovered, "whole again");
  events.notice("plain");
  EXPECT_THAT(lines, ElementsAre(Line{LogLevel::kError, "c", std::string(kCorruption), 3, 4, EUCLEAN},
                                 Line{LogLevel::kError, "d", std::string(kDeviceError), 5, 0, ENXIO},
                                 Line{LogLevel::kWarning, "ro", std::string(kReadOnly), 0, 0, 0},
                                 Line{LogLevel::kWarning, "gone", std::string(kShutDown), 0, 0, 0},
                                 Line{LogLevel::kNotice, "whole again", std::string(kRecovered), 0, 0, 0},
                                 Line{LogLevel::kWarning, "plain", "", 0, 0, 0}));
  EXPECT_EQ(log.errors(), 2U);
  for (int i = 0; i < 100; ++i) events.corruption("flood");
  EXPECT_EQ(log.errors(), 102U);
  EXPECT_LT(lines.size(), 50U);
  set_log_writer([](LogLevel, std::string_view, const LogDetails&) {});
}

// Each id has a text for people, which names only fields that the records have, and each text has an id.
TEST(Catalog, HasATextForEachMessageId) {
  std::ifstream file(FUSE4FS_CATALOG);
  ASSERT_TRUE(file) << FUSE4FS_CATALOG;
  std::map<std::string, std::string> texts;
  std::string id;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("-- ")) {
      id = line.substr(3);
      EXPECT_EQ(texts.count(id), 0U) << id << " twice";
      texts[id];
    } else if (!id.empty()) {
      texts[id] += line + '\n';
    }
  }
  std::set<std::string> ids;
  for (const auto& [each, text] : texts) {
    ids.insert(each);
    EXPECT_EQ(each.size(), 32U);
    EXPECT_EQ(each.find_first_not_of("0123456789abcdef"), std::string::npos) << each;
    EXPECT_TRUE(text.starts_with("Subject: ")) << each;
    EXPECT_THAT(text, HasSubstr("\nDefined-By: fuse4fs\n\n"));
    EXPECT_GT(text.size(), 120U) << each;
    std::string rest = text;
    for (const char* field : {"@DEVICE@", "@WHERE@"})
      for (auto at = rest.find(field); at != std::string::npos; at = rest.find(field))
        rest.erase(at, std::string_view(field).size());
    EXPECT_THAT(rest, Not(HasSubstr("@"))) << each;
  }
  EXPECT_THAT(ids, UnorderedElementsAreArray(std::begin(kMessageIds), std::end(kMessageIds)));
}

}  // namespace
}  // namespace fuse4fs::service
