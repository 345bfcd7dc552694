// SPDX-License-Identifier: GPL-2.0-or-later
// Volumes that the kernel left with a dirty journal: mounted to write, to read, as they are, or not at all.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

#include "base/unique_fd.h"
#include "tests/mount/cut_volume.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr unsigned long kShutdown = _IOR('X', 125, std::uint32_t);

// A loop device, for as long as it is in scope.
class Loop {
 public:
  explicit Loop(const fs::path& image, const Command& options = {}) {
    Command command{"losetup", "-f", "--show"};
    command.insert(command.end(), options.begin(), options.end());
    command.emplace_back(image);
    const Finished made = run(command);
    EXPECT_EQ(made.status, 0) << made.output;
    if (made.status == 0) device_ = made.output.substr(0, made.output.find('\n'));
  }
  ~Loop() {
    if (!device_.empty()) {
      EXPECT_EQ(run({"losetup", "-d", device_}).status, 0);
    }
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  [[nodiscard]] const std::string& device() const { return device_; }

 private:
  std::string device_;
};

class Recovery : public MountTest {
 protected:
  static std::set<std::string> names() { return {"lost+found", "kept", "moved"}; }

  // As the kernel leaves it when the power goes. `options` are for its mount.
  fs::path make_dirty(const Command& mkfs = {}, const std::string& options = "loop") {
    const auto image = make_image("64M", mkfs.empty() ? Command{"-b", "4096"} : mkfs);
    kernel_mount(image, options);
    cut_it(image);
    return image;
  }
  void cut_it(const fs::path& image) {
    const auto script = "cd " + mount_point().string() +
                        " && echo content >kept && mkdir dir && echo x >dir/file && sync -f . && mv dir/file "
                        "moved && rmdir dir && sync moved";
    const auto done = run({"sh", "-ec", script});
    ASSERT_EQ(done.status, 0) << done.output;
    {
      const UniqueFd top(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY));
      std::uint32_t without_log_flush = 2;
      ASSERT_EQ(::ioctl(top.get(), kShutdown, &without_log_flush), 0);
    }
    ASSERT_EQ(unmount().status, 0);
    ASSERT_TRUE(is_free(image));
  }
  void expect_names() const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(mount_point())) found.insert(entry.path().filename());
    EXPECT_EQ(found, names());
    EXPECT_EQ(contents_of(mount_point() / "kept"), "content\n");
    EXPECT_EQ(contents_of(mount_point() / "moved"), "x\n");
  }
  static std::string hash(const fs::path& image) { return run({"sha256sum", image}).output; }
  static std::string superblock(const fs::path& image) { return run({"dumpe2fs", "-h", image}).output; }
  // Where byte `offset` of the journal's block `log` is in the image.
  static std::streamoff place_in_journal(const fs::path& image, unsigned log, unsigned offset) {
    const auto words =
        run({"sh", "-c",
             "debugfs -R 'bmap <8> " + std::to_string(log) + "' " + image.string() + " 2>/dev/null"})
            .output;
    std::streamoff block = 0;
    std::istringstream(words) >> block;
    EXPECT_GT(block, 0) << words;
    return block * 4096 + offset;
  }
  static void overwrite(const fs::path& image, std::streamoff at, std::string_view bytes) {
    std::fstream file(image, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    ASSERT_TRUE(file);
  }
};

TEST_F(Recovery, AMountThatWritesReplaysOntoTheDevice) {
  const auto image = make_dirty();
  ASSERT_THAT(superblock(image), HasSubstr("needs_recovery"));
  mount_or_fail(image);
  expect_names();
  write_file(mount_point() / "later", "more");
  unmount_and_check(image);
  EXPECT_TRUE(server_ends());
  EXPECT_THAT(log(), HasSubstr("the journal was replayed: "));
  EXPECT_THAT(superblock(image), Not(HasSubstr("needs_recovery")));
  EXPECT_THAT(superblock(image), ::testing::ContainsRegex("Filesystem state: +clean"));
}

TEST_F(Recovery, AMountThatReadsShowsItAndWritesNothing) {
  const auto image = make_dirty();
  const std::string before = hash(image);
  mount_or_fail(image, "ro");
  expect_names();
  EXPECT_THAT(log(), HasSubstr("the journal was replayed, in memory: "));
  // Nor does it ever: the server cannot write.
  std::ignore = run({"mount", "-o", "remount,rw", mount_point()});
  EXPECT_LT(::mkdir((mount_point() / "never").c_str(), 0700), 0);
  EXPECT_EQ(errno, EROFS);
  expect_names();
  ASSERT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());
  EXPECT_EQ(hash(image), before);
  EXPECT_THAT(superblock(image), HasSubstr("needs_recovery"));
  // What cannot be written at all is the same.
  {
    const Loop loop(image, {"-r"});
    mount_or_fail(loop.device());
    expect_names();
    EXPECT_EQ(unmount().status, 0);
    EXPECT_TRUE(server_ends());
  }
  EXPECT_EQ(hash(image), before);
}

TEST_F(Recovery, WithNoloadItIsReadAsItIs) {
  const auto image = make_dirty();
  const std::string before = hash(image);
  for (const std::string word : {"noload", "norecovery"}) {
    const Finished writing = mount(image, word);
    EXPECT_NE(writing.status, 0);
    EXPECT_THAT(writing.output, HasSubstr("noload"));
    mount_or_fail(image, "ro," + word);
    EXPECT_THAT(log(), HasSubstr("the journal is not replayed"));
    EXPECT_THAT(log(), Not(HasSubstr("was replayed")));
    EXPECT_EQ(unmount().status, 0);
    EXPECT_TRUE(server_ends());
  }
  EXPECT_EQ(hash(image), before);
}

// Copies of blocks whose checksums are wrong: block 2 of the log is the first behind the first descriptor.
TEST_F(Recovery, ADamagedJournalIsRefusedInWordsAndRecorded) {
  const auto image = make_dirty();
  overwrite(image, place_in_journal(image, 2, 100), "\xA5\x5A\xA5\x5A");
  const std::string before = hash(image);
  // Who may not write records nothing.
  const Finished reading = mount(image, "ro");
  EXPECT_NE(reading.status, 0);
  EXPECT_THAT(reading.output, HasSubstr("noload"));
  EXPECT_EQ(hash(image), before);
  const Finished writing = mount(image);
  EXPECT_NE(writing.status, 0);
  EXPECT_THAT(writing.output, ::testing::ContainsRegex("block 2[^0-9]"));
  EXPECT_THAT(writing.output, HasSubstr("e2fsck"));
  const std::string after = superblock(image);
  EXPECT_THAT(after, HasSubstr("with errors"));
  EXPECT_THAT(after, ::testing::ContainsRegex("FS Error count: +1\n"));
  EXPECT_THAT(after, ::testing::ContainsRegex("First error err: +EFSBADCRC"));
  // The log is as it was, for e2fsck to judge.
  EXPECT_THAT(after, HasSubstr("needs_recovery"));
  EXPECT_NE(run({"e2fsck", "-fy", image}).status, 8);
  mount_or_fail(image);
  unmount_and_check(image);
}

TEST_F(Recovery, AnErrorThatTheJournalRecordedBecomesTheVolumes) {
  const auto image = make_image("64M", {"-b", "4096"});
  // s_errno at byte 32 of the journal's superblock; no checksums that would be wrong then.
  ASSERT_EQ(run({"tune2fs", "-O", "^metadata_csum", image}).status, 0);
  ASSERT_EQ(run({"debugfs", "-w", "-R", "feature needs_recovery", image}).status, 0);
  const std::streamoff offset = place_in_journal(image, 0, 32);
  overwrite(image, offset, "\xFF\xFF\xFF\xFB");  // -EIO
  mount_or_fail(image);
  EXPECT_THAT(log(), HasSubstr("the journal recorded an error"));
  ASSERT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());
  EXPECT_THAT(superblock(image), HasSubstr("with errors"));
  std::ifstream file(image, std::ios::binary);
  std::string stored(4, 'x');
  file.seekg(offset);
  file.read(stored.data(), 4);
  EXPECT_EQ(stored, std::string(4, '\0'));
}

TEST_F(Recovery, AnExternalJournalIsGivenByItsPath) {
  const auto journal = scratch() / "journal";
  ASSERT_EQ(run({"truncate", "-s", "16M", journal}).status, 0);
  fs::path image;
  {
    const Loop loop(journal);
    const std::string& device = loop.device();
    ASSERT_EQ(run({"mkfs.ext4", "-q", "-F", "-O", "journal_dev", "-b", "4096", device}).status, 0);
    image = make_dirty({"-b", "4096", "-J", "device=" + device}, "loop,journal_path=" + device);
  }
  ASSERT_TRUE(is_free(journal));
  const auto both = [&] { return hash(image) + hash(journal); };
  const std::string before = both();
  for (const std::string options : {"", "ro"}) {
    const Finished without = mount(image, options);
    EXPECT_NE(without.status, 0);
    EXPECT_THAT(without.output, HasSubstr("journal_path="));
  }
  const auto other = make_image("16M", {"-O", "journal_dev", "-b", "4096"}, "other");
  const Finished wrong = mount(image, "ro,journal_path=" + other.string());
  EXPECT_NE(wrong.status, 0);
  EXPECT_THAT(wrong.output, HasSubstr("UUID"));

  mount_or_fail(image, "ro,journal_path=" + journal.string());
  expect_names();
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());
  EXPECT_EQ(both(), before);

  mount_or_fail(image, "journal_path=" + journal.string());
  expect_names();
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());
  EXPECT_THAT(superblock(image), Not(HasSubstr("needs_recovery")));
  // Clean now, and mounts without it. The kernel finds an empty log.
  mount_or_fail(image);
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());
  const Loop loop(journal);
  const std::string& again = loop.device();
  kernel_mount(image, "loop,journal_path=" + again);
  expect_names();
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(is_free(image));
  EXPECT_EQ(run({"e2fsck", "-fn", "-j", again, image}).status, 0);
}

}  // namespace
}  // namespace fuse4fs::test
