// SPDX-License-Identifier: GPL-2.0-or-later
// Journals that debugfs writes (jo, jw, jc), by e2fsprogs' own scenario words: what a plan does with one is
// what e2fsck does with it, block by block; what is damaged is refused.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "image_journal.h"
#include "server/journal/records.h"
#include "server/journal/recovery.h"

namespace fuse4fs::journal::test {
namespace {

namespace fs = std::filesystem;
using tools::ImageJournal;

constexpr const char* kJournalUuid = "1db3f677-6832-4adb-bafc-8e4059c30a34";

class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "journal-scenario-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

// The exit status; what it said goes to `output`.
int run(const std::string& command, const std::string& output) {
  const int status = std::system(fmt::format("{} >>{} 2>&1 </dev/null", command, output).c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string whole_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes(file ? fs::file_size(path) : 0, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

struct Scenario {
  std::string_view word;
  std::uint32_t block_size = 1024;
  std::string_view features;  // for mke2fs -O, after has_journal
  std::string_view open;      // what follows "jo"
  std::vector<std::string_view>
      writes;  // each a "jw", FILE being what is written; ";" starts another session
  std::function<void(int image, const ImageJournal&)> damage = nullptr;
  std::string_view refused =
      {};  // words of the error; e2fsck's result is then no measure: it takes what it can
  bool external = false;
};

void overwrite(int image, std::uint64_t offset, std::string_view bytes) {
  ASSERT_EQ(::pwrite(image, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
            static_cast<ssize_t>(bytes.size()));
}
auto damaged(std::uint32_t log_block, std::size_t offset, std::string bytes) {
  return [=](int image, const ImageJournal& journal) {
    overwrite(image, journal.offset(log_block) + offset, bytes);
  };
}

constexpr std::string_view kSum2 = "metadata_csum,^64bit";
constexpr std::string_view kSum64 = "metadata_csum,64bit";
constexpr std::string_view kOld = "^metadata_csum,^64bit";

// Eleven blocks: log block 1 is the descriptor, 2 to 12 are data, 13 is the commit block.
const std::vector<std::string_view> kShort = {"-b 15000-15010 FILE"};
const std::vector<std::string_view> kLong = {"-b 14000-14599 FILE"};
const std::vector<std::string_view> kUncommitted = {"-b 15000-15010 FILE", ";", "-b 15005-15110 -c FILE"};
// The second transaction: 14 is its revoke block.
const std::vector<std::string_view> kRevoke = {"-b 15000-15010 FILE", ";", "-r 15002-15005"};

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> kScenarios = {
      {.word = "j_short_trans", .features = kOld, .open = "", .writes = kShort},
      {.word = "j_short_trans_4k",
       .block_size = 4096,
       .features = kOld,
       .open = "",
       .writes = {"-b 3000-3010 FILE"}},
      {.word = "j_short_trans_64bit", .features = "^metadata_csum,64bit", .open = "", .writes = kShort},
      {.word = "j_short_trans_mcsum_64bit", .features = kSum64, .open = "-c", .writes = kShort},
      {.word = "j_short_trans_old_csum", .features = kSum64, .open = "-c -v 2", .writes = kShort},
      {.word = "j_short_uncommitted_trans", .features = kOld, .open = "", .writes = kUncommitted},
      {.word = "j_short_uncommitted_trans_mcsum_64bit",
       .features = kSum64,
       .open = "-c",
       .writes = kUncommitted},
      {.word = "j_short_revoke_trans", .features = kOld, .open = "", .writes = kRevoke},
      {.word = "j_short_revoke_trans_mcsum_64bit", .features = kSum64, .open = "-c", .writes = kRevoke},
      {.word = "j_long_trans", .features = kOld, .open = "", .writes = kLong},
      {.word = "j_long_trans_mcsum_32bit", .features = kSum2, .open = "-c", .writes = kLong},
      {.word = "j_long_trans_mcsum_64bit", .features = kSum64, .open = "-c", .writes = kLong},
      {.word = "j_long_revoke_trans",
       .features = kOld,
       .open = "",
       .writes = {"-b 14000-14399 FILE", ";", "-r 14000-14380"}},
      {.word = "j_long_revoke_trans_mcsum_32bit",
       .features = kSum2,
       .open = "-c",
       .writes = {"-b 14000-14399 FILE", ";", "-r 14000-14380"}},
      {.word = "j_long_revoke_trans_mcsum_64bit",
       .features = kSum64,
       .open = "-c",
       .writes = {"-b 14000-14399 FILE", ";", "-r 14000-14380"}},
      {.word = "j_written_again_after_its_revoke",
       .features = kSum64,
       .open = "-c",
       .writes = {"-b 15000-15010 FILE", ";", "-r 15002-15005", ";", "-b 15004-15020 FILE"}},
      {.word = "j_recover_csum2_32bit",
       .features = kSum2,
       .open = "-c -v 2",
       .writes = {"-b 15000-15010 FILE", ";", "-b 15003-15020 FILE"}},
      {.word = "j_recover_csum2_64bit",
       .features = kSum64,
       .open = "-c -v 2",
       .writes = {"-b 15000-15010 FILE", ";", "-b 15003-15020 FILE"}},
      {.word = "j_recover_csum3_64bit",
       .features = kSum64,
       .open = "-c -v 3",
       .writes = {"-b 15000-15010 FILE", ";", "-b 15003-15020 FILE"}},
      {.word = "j_ext_long_trans", .features = kOld, .open = "-f JOURNAL", .writes = kLong, .external = true},
      {.word = "j_ext_long_revoke_trans",
       .features = kOld,
       .open = "-f JOURNAL",
       .writes = {"-b 14000-14399 FILE", ";", "-r 14000-14380"},
       .external = true},
      // Where the log goes on: a wrong number ends it before that transaction, as a commit that was never
      // written.
      {.word = "j_corrupt_commit_tid",
       .features = kSum64,
       .open = "-c",
       .writes = kShort,
       .damage = damaged(13, 8, "\1\2\3\4")},
      {.word = "j_corrupt_descr_tid",
       .features = kSum64,
       .open = "-c",
       .writes = kShort,
       .damage = damaged(1, 8, "\1\2\3\4")},
      {.word = "j_corrupt_commit_csum",
       .features = kSum64,
       .open = "-c",
       .writes = kShort,
       .damage = damaged(13, 16, "no sum"),
       .refused = "journal block 13"},
      {.word = "j_corrupt_descr_csum",
       .features = kSum64,
       .open = "-c",
       .writes = kShort,
       .damage = damaged(1, 1000, "no tag"),
       .refused = "journal block 1 "},
      {.word = "j_corrupt_journal_block",
       .features = kSum64,
       .open = "-c",
       .writes = kShort,
       .damage = damaged(5, 77, "no data"),
       .refused = "journal block 5 "},
      {.word = "j_corrupt_revoke_csum",
       .features = kSum64,
       .open = "-c",
       .writes = kRevoke,
       .damage = damaged(14, 900, "no revoke"),
       .refused = "journal block 14"},
      {.word = "j_corrupt_revoke_rcount",
       .features = kOld,
       .open = "",
       .writes = kRevoke,
       .damage = damaged(14, 12, "\xff\xff\xff\xff"),
       .refused = "journal block 14"},
      {.word = "j_corrupt_sb_csum",
       .features = kSum64,
       .open = "-c",
       .writes = kShort,
       .damage = damaged(0, 0x300, "no sum"),
       .refused = "superblock has checksum"},
      {.word = "j_corrupt_sb_magic",
       .features = kSum64,
       .open = "-c",
       .writes = kShort,
       .damage = damaged(0, 0, "none"),
       .refused = "superblock is not there"},
  };
  return kScenarios;
}

void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.word; }

class Scenarios : public testing::TestWithParam<Scenario> {
 protected:
  // Blocks that differ, some of which start with the journal's magic.
  void write_content(const std::string& path) {
    std::ofstream file(path, std::ios::binary);
    for (std::uint32_t number = 0; number < 700; ++number) {
      std::string block = fmt::format("block {} ", number);
      while (block.size() < GetParam().block_size)
        block += block.substr(0, GetParam().block_size - block.size());
      if (number % 7 == 3) block.replace(0, 4, "\xc0\x3b\x39\x98");
      file << block;
    }
  }

  void make_volume() {
    const Scenario& one = GetParam();
    const auto size = 16 * 1024 * 1024 / one.block_size;
    const std::string journal =
        one.external ? "-O ^has_journal" : fmt::format("-J size={}", one.block_size / 1024);
    ASSERT_EQ(run(fmt::format("mke2fs -F -t ext4 -b {} -O {} {} {} {}", one.block_size, one.features, journal,
                              scratch_ / "image", size),
                  log_),
              0)
        << whole_file(log_);
    if (!one.external) return;
    ASSERT_EQ(run(fmt::format("mke2fs -F -b {} -O journal_dev -U {} {} 2048", one.block_size, kJournalUuid,
                              scratch_ / "journal"),
                  log_),
              0)
        << whole_file(log_);
    debugfs(
        {"feature has_journal", "ssv journal_dev 0x9999", fmt::format("ssv journal_uuid {}", kJournalUuid)});
    count_user();
  }

  // As mke2fs does for a volume that it gives the journal to; debugfs names the journal only in the volume.
  void count_user() {
    constexpr unsigned kUsers = 0x40;  // s_nr_users, big-endian
    const auto superblock = (1024 / GetParam().block_size + 1) * GetParam().block_size;
    const std::array<char, 4> one{0, 0, 0, 1};
    std::fstream(scratch_ / "journal", std::ios::in | std::ios::out | std::ios::binary)
        .seekp(superblock + kUsers)
        .write(one.data(), one.size());
  }

  void debugfs(const std::vector<std::string>& commands) {
    std::ofstream(scratch_ / "commands") << fmt::format("{}\n", fmt::join(commands, "\n"));
    ASSERT_EQ(run(fmt::format("debugfs -w -f {} {}", scratch_ / "commands", scratch_ / "image"), log_), 0)
        << whole_file(log_);
  }

  void write_journal() {
    const Scenario& one = GetParam();
    write_content(scratch_ / "content");
    const auto with_names = [&](std::string words) {
      for (const auto& [name, file] : {std::pair("FILE", "content"), std::pair("JOURNAL", "journal")}) {
        if (const auto at = words.find(name); at != std::string::npos)
          words.replace(at, std::string(name).size(), scratch_ / file);
      }
      return words;
    };
    std::vector<std::string> commands = {with_names("jo " + std::string(one.open))};
    for (const std::string_view write : one.writes) {
      if (write == ";") {
        commands.emplace_back("jc");
        commands.push_back(with_names("jo " + std::string(one.open)));
      } else {
        commands.push_back(with_names("jw " + std::string(write)));
      }
    }
    commands.emplace_back("jc");
    debugfs(commands);
  }

  Outcome<std::unique_ptr<ImageJournal>> open_journal(const std::string& image) {
    return ImageJournal::open(scratch_ / image, GetParam().external ? scratch_ / "journal" : "");
  }

  // Carries the plan out on a copy, as a recovery would.
  void replay_on(const std::string& image, ImageJournal& journal, const JournalSuperblock& superblock,
                 const ReplayPlan& plan) {
    const UniqueFd volume(::open((scratch_ / image).c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(volume);
    std::vector<std::byte> block(superblock.block_size);
    const auto write = [&](std::uint64_t offset) {
      ASSERT_EQ(::pwrite(volume.get(), block.data(), block.size(), static_cast<off_t>(offset)),
                static_cast<ssize_t>(block.size()));
    };
    for (const ReplayBlock& one : plan.blocks) {
      ASSERT_TRUE(journal.log().read(one.log_block, block));
      if (one.escaped) unescape(block);
      write(one.home * superblock.block_size);
    }
    if (GetParam().external) return;
    ASSERT_TRUE(journal.log().read(superblock.own_block, block));
    clear_superblock(block, superblock, plan.next_sequence);
    write(journal.offset(superblock.own_block));
  }

  void expect_same(const std::string& ours, const std::string& theirs) {
    std::string one = whole_file(scratch_ / ours);
    std::string other = whole_file(scratch_ / theirs);
    ASSERT_EQ(one.size(), other.size());
    // The volume's superblock has times, and the flags of a volume that was checked.
    one.replace(1024, 1024, 1024, ' ');
    other.replace(1024, 1024, 1024, ' ');
    const std::size_t size = GetParam().block_size;
    // debugfs named the external journal in the first of them only.
    if (GetParam().external) one.replace(8193 * size, size, other, 8193 * size, size);
    for (std::size_t offset = 0; offset < one.size(); offset += size)
      EXPECT_EQ(one.compare(offset, size, other, offset, size), 0) << "block " << offset / size;
  }

  Scratch scratch_;
  std::string log_ = scratch_ / "output";
};

INSTANTIATE_TEST_SUITE_P(JournalForms, Scenarios, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return std::string(info.param.word); });

TEST_P(Scenarios, AreReplayedAsE2fsckDoes) {
  const Scenario& one = GetParam();
  make_volume();
  if (HasFatalFailure()) return;
  fs::copy_file(scratch_ / "image", scratch_ / "before");
  write_journal();
  if (HasFatalFailure()) return;
  if (one.damage) {
    const auto journal = open_journal("image");
    ASSERT_TRUE(journal) << journal.error().message;
    const UniqueFd image(::open((scratch_ / "image").c_str(), O_RDWR | O_CLOEXEC));
    one.damage(image.get(), **journal);
  }

  const auto journal = open_journal("image");
  ASSERT_TRUE(journal) << journal.error().message;
  const auto superblock = read_superblock((*journal)->log(), (*journal)->expectation());
  const RecoveryOptions options{
      .object = [&](std::uint64_t home, HomeUse use) { return (*journal)->object(home, use); },
      .progress = {},
      .limits = {}};
  const auto plan = superblock ? plan_recovery((*journal)->log(), *superblock, options)
                               : Outcome<ReplayPlan>(std::unexpected(superblock.error()));
  if (!one.refused.empty()) {
    ASSERT_FALSE(plan) << "replays " << plan->transactions();
    EXPECT_THAT(plan.error().message, testing::HasSubstr(std::string(one.refused)));
    return;
  }
  ASSERT_TRUE(plan) << plan.error().message << whole_file(log_);
  // A scenario whose journal came out empty would show nothing.
  ASSERT_TRUE(superblock->needs_recovery()) << whole_file(log_);

  fs::copy_file(scratch_ / "image", scratch_ / "ours");
  replay_on("ours", **journal, *superblock, *plan);
  if (HasFatalFailure()) return;
  const std::string external = one.external ? fmt::format("-j {}", scratch_ / "journal") : "";
  const int status = run(fmt::format("e2fsck -fy {} {}", external, scratch_ / "image"), log_);
  EXPECT_LE(status, 1) << whole_file(log_);
  expect_same("ours", "image");
  const bool changed =
      std::ranges::any_of(plan->blocks, [](const ReplayBlock& block) { return block.home > 2000; });
  EXPECT_EQ(changed, plan->transactions() > 0);
}

}  // namespace
}  // namespace fuse4fs::journal::test
