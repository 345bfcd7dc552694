// SPDX-License-Identifier: GPL-2.0-or-later
// Torn and damaged journals: fuse4fs mounts what the kernel's ext4 mounts, with the same blocks and the same
// next transaction, and refuses what it refuses, with the log block in its words, and nothing written but the
// record of the error.
#include <fmt/format.h>

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "fixture.h"
#include "image_journal.h"
#include "server/journal/format.h"
#include "tests/mount/cut_volume.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlock = 1024;
// Where the journal's copies belong: in the free part of the volume.
constexpr std::size_t kFirstHome = 15000;
constexpr std::size_t kEndHome = 15111;

struct Patch {
  std::uint32_t log_block;
  std::size_t offset;
  std::string_view bytes;
};

// The log has a descriptor in 1, data in 2 to 12, a commit in 13; a revoke block (of 15002 to 15005) in 14,
// its commit in 15; and a descriptor in 16, data in 17 to 27, a commit in 28.
struct Case {
  std::string_view name;
  std::vector<Patch> damage;
  std::string_view refused = {};
};

using namespace std::string_view_literals;
constexpr std::string_view kOldTime = "\0\0\0\0\0\0\0\1"sv;

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {"whole", {}},
      {"last commit missing", {{28, 0, "\0\0\0\0"sv}}},
      {"middle commit missing", {{15, 0, "\0\0\0\0"sv}}},
      {"last commit wrong", {{28, 20, "wrong"}}, "journal block 28"},
      {"middle commit wrong", {{15, 20, "wrong"}}, "journal block 15"},
      {"commit torn behind its record", {{15, 600, "wrong"}}},
      {"commit of an older log", {{28, 48, kOldTime}}},
      {"descriptor wrong", {{16, 1000, "wrong"}}, "journal block 16"},
      {"descriptor of an older log", {{16, 1000, "wrong"}, {28, 48, kOldTime}}},
      {"data wrong in the last", {{20, 77, "wrong"}}, "journal block 20"},
      {"data wrong in the first", {{2, 77, "wrong"}}, "journal block 2 "},
      {"data of a revoked copy wrong", {{4, 77, "wrong"}}},
      {"revokes wrong", {{14, 900, "wrong"}}, "journal block 14"},
      {"superblock wrong", {{0, 0x300, "wrong"}}, "the journal's superblock"},
  };
  return kCases;
}

class JournalVerdict : public MountTest {
 protected:
  void write_journal(const fs::path& image) {
    const fs::path content = scratch() / "content";
    std::string bytes;
    while (bytes.size() < 64 * kBlock) bytes += fmt::format("line {}\n", bytes.size());
    write_file(content, bytes);
    const fs::path commands = scratch() / "commands";
    write_file(commands, fmt::format("jo -c\njw -b 15000-15010 {0}\njc\njo -c\njw -r 15002-15005\njc\n"
                                     "jo -c\njw -b 15100-15110 {0}\njc\n",
                                     content.string()));
    const Finished wrote = run({"debugfs", "-w", "-f", commands, image});
    ASSERT_EQ(wrote.status, 0) << wrote.output;
  }

  static void damage(const fs::path& image, const std::vector<Patch>& patches) {
    const auto journal = journal::tools::ImageJournal::open(image);
    ASSERT_TRUE(journal) << journal.error().message;
    std::fstream file(image, std::ios::binary | std::ios::in | std::ios::out);
    for (const Patch& patch : patches) {
      file.seekp(static_cast<std::streamoff>((*journal)->offset(patch.log_block) + patch.offset));
      file.write(patch.bytes.data(), static_cast<std::streamsize>(patch.bytes.size()));
    }
    ASSERT_TRUE(file.flush());
  }

  // That is where a refusal is recorded.
  static std::string without_superblock(const fs::path& image) {
    return contents_of(image).replace(1024, 1024, "");
  }

  // What a recovery leaves: the journal's next transaction and start, and the blocks that it writes.
  static std::string outcome(const fs::path& image) {
    const auto journal = journal::tools::ImageJournal::open(image);
    if (!journal) return journal.error().message;
    const std::string bytes = contents_of(image);
    return bytes.substr((*journal)->offset(0) + journal::superblock_at::kSequence, 8) +
           bytes.substr(kFirstHome * kBlock, (kEndHome - kFirstHome) * kBlock);
  }
};

TEST_F(JournalVerdict, IsTheKernels) {
  const fs::path original = make_image("16M", {"-b", "1024", "-J", "size=1"});
  write_journal(original);
  if (HasFatalFailure()) return;
  int number = 0;
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    // Names of their own: a server or a loop device of the case before may still be about to end.
    const fs::path folder = scratch() / fmt::format("case-{}", ++number);
    fs::create_directory(folder);
    const fs::path damaged = folder / "damaged";
    const fs::path ours = folder / "ours";
    const fs::path kernels = folder / "kernels";
    fs::copy_file(original, damaged);
    damage(damaged, one.damage);
    for (const fs::path& copy : {ours, kernels}) fs::copy_file(damaged, copy);

    // Without transactions of its own: they would count its sequence on.
    const Finished by_kernel =
        run({"mount", "-t", "ext4", "-o", "loop,noinit_itable,commit=600", kernels, mount_point()});
    if (by_kernel.status == 0) {
      const Finished gone = run({"umount", mount_point()});
      ASSERT_EQ(gone.status, 0) << gone.output;
      ASSERT_TRUE(is_free(kernels));
    }
    const Finished mounted = mount(ours);
    if (mounted.status == 0) {
      const Finished gone = unmount();
      ASSERT_EQ(gone.status, 0) << gone.output;
    }
    ASSERT_TRUE(server_ends(30));

    EXPECT_EQ(by_kernel.status == 0, one.refused.empty()) << by_kernel.output;
    EXPECT_EQ(mounted.status == 0, one.refused.empty()) << mounted.output;
    if (one.refused.empty()) {
      EXPECT_EQ(outcome(ours), outcome(kernels));
    } else {
      EXPECT_THAT(mounted.output, testing::HasSubstr(std::string(one.refused)));
      EXPECT_TRUE(without_superblock(ours) == without_superblock(damaged));
    }
    fs::remove_all(folder);
  }
}

}  // namespace
}  // namespace fuse4fs::test
