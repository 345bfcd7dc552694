// SPDX-License-Identifier: GPL-2.0-or-later
// Fast commits that the kernel wrote, replayed by us: the tree is what it was at the last fsync. It is not
// compared with the kernel's own replay, which (6.18) passes over what came by linkat(2), and more. A volume
// without extents is never made here: its fast commits stop that kernel. FUSE4FS_CUT_SEEDS=FIRST-LAST runs
// others than the usual seeds.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <vector>

#include "base/unique_fd.h"
#include "tests/mount/cut_volume.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

// Random operations of the kinds that fast commits know, on a few names.
class Worker {
 public:
  Worker(fs::path root, unsigned seed) : root_(std::move(root)), random_(seed) {}

  void step() {
    const int what = pick(21);
    if (what < 4) return write_somewhere(O_CREAT);
    if (what < 7) return write_somewhere(O_APPEND);
    if (what < 9) return truncate();
    if (what < 11) return rename();
    if (what < 13) return unlink();
    if (what < 14) return link();
    if (what < 16) return punch();
    if (what < 17) return make_directory();
    if (what < 18) return remove_directory();
    if (what < 19) return temporary();
    if (what < 20) return change_mode();
    (void)!::symlink("where it leads", name().c_str());
  }

  // All that is there lasts, contents too: those that only wait to be written are nobody's promise.
  void sync_all() {
    for (const auto& entry : fs::recursive_directory_iterator(root_)) {
      if (!entry.is_regular_file()) continue;
      const UniqueFd file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
      ASSERT_TRUE(file);
      ASSERT_EQ(::fsync(file.get()), 0) << std::strerror(errno);
    }
    const UniqueFd anchor(::open((root_ / "anchor").c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    ASSERT_TRUE(anchor);
    ASSERT_EQ(::write(anchor.get(), "x", 1), 1);
    ASSERT_EQ(::fsync(anchor.get()), 0) << std::strerror(errno);
  }

 private:
  int pick(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }
  fs::path directory() {
    const fs::path path = root_ / ("d" + std::to_string(pick(4)));
    return fs::is_directory(path) ? path : root_;
  }
  fs::path name() { return directory() / ("f" + std::to_string(pick(12))); }
  UniqueFd open(int flags) { return UniqueFd(::open(name().c_str(), flags | O_CLOEXEC, 0600 + pick(64))); }

  // What cannot be is left out: the names are drawn blindly.
  void write_somewhere(int flags) {
    const UniqueFd file = open(O_RDWR | flags);
    if (!file) return;
    const std::string bytes(static_cast<std::size_t>(1 + pick(40'000)), static_cast<char>('a' + pick(26)));
    (void)!::pwrite(file.get(), bytes.data(), bytes.size(), pick(3) == 0 ? pick(2'000'000) : pick(20'000));
    if (pick(2) == 0) {
      EXPECT_EQ(::fsync(file.get()), 0);
    }
    // An open file that loses its name, some of the time.
    if (pick(6) == 0) held_.push_back(UniqueFd(::dup(file.get())));
  }
  void truncate() {
    const UniqueFd file = open(O_RDWR);
    if (file) (void)!::ftruncate(file.get(), pick(2) == 0 ? 0 : pick(100'000));
  }
  void rename() { (void)!::rename(name().c_str(), name().c_str()); }
  void unlink() { (void)!::unlink(name().c_str()); }
  void link() { (void)!::link(name().c_str(), name().c_str()); }
  void punch() {
    const UniqueFd file = open(O_RDWR);
    if (!file) return;
    constexpr std::array kModes = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE, 0,
                                   FALLOC_FL_ZERO_RANGE};
    (void)!::fallocate(file.get(), kModes[static_cast<std::size_t>(pick(4))], pick(60'000), 1 + pick(60'000));
  }
  void make_directory() { (void)!::mkdir((root_ / ("d" + std::to_string(pick(4)))).c_str(), 0755); }
  void remove_directory() { (void)!::rmdir((root_ / ("d" + std::to_string(pick(4)))).c_str()); }
  void temporary() {
    const UniqueFd file(::open(directory().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644));
    if (!file) return;
    const std::string bytes(static_cast<std::size_t>(1 + pick(20'000)), 't');
    (void)!::write(file.get(), bytes.data(), bytes.size());
    const std::string self = "/proc/self/fd/" + std::to_string(file.get());
    (void)!::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name().c_str(), AT_SYMLINK_FOLLOW);
  }
  void change_mode() { (void)!::chmod(name().c_str(), static_cast<mode_t>(0600 + pick(64))); }

  fs::path root_;
  std::mt19937 random_;
  std::vector<UniqueFd> held_;
};

class LongFastCommits : public CutTest, public testing::WithParamInterface<Form> {};

TEST_P(LongFastCommits, TheTreeIsWhatItWasAtTheLastSync) {
  unsigned first = 1, last = 8, replays = 0;
  if (const char* const asked = std::getenv("FUSE4FS_CUT_SEEDS")) {
    ASSERT_EQ(std::sscanf(asked, "%u-%u", &first, &last), 2);
  }
  for (unsigned seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const fs::path image = make(GetParam());
    kernel_mounts(image, GetParam());
    SeenTree expected;
    {
      Worker worker(mount_point(), seed);
      for (int i = 0; i < 60; ++i) worker.step();
      // A full commit: without one before them there are no fast ones.
      ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
      for (int i = 0; i < 12; ++i) {
        worker.step();
        worker.sync_all();
      }
      expected = see(mount_point());
      stop();
    }
    let_go(image);
    if (seed == first) expect_in_memory(image, expected);
    fs::remove(scratch() / "log");
    mount_or_fail(image);
    if (log().find("fast commits were replayed") != std::string::npos) ++replays;
    EXPECT_EQ(differences(expected, see(mount_point())), "");
    unmount_and_check(image);
    if (HasFailure()) break;
  }
  // What a full commit took (after a directory was renamed, or every few seconds) proves nothing.
  EXPECT_GE(replays * 4, last - first + 1);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, LongFastCommits,
    testing::Values(Form{"ext4_4k", {"-t", "ext4", "-b", "4096", "-O", "fast_commit"}},
                    Form{"ext4_1k", {"-t", "ext4", "-b", "1024", "-O", "fast_commit"}},
                    Form{"ext4_2k", {"-t", "ext4", "-b", "2048", "-O", "fast_commit"}},
                    Form{"narrow", {"-t", "ext4", "-b", "4096", "-O", "fast_commit,^64bit"}},
                    Form{"bigalloc",
                         {"-t", "ext4", "-b", "4096", "-O", "fast_commit,bigalloc", "-C", "16384"}},
                    Form{"inline_data", {"-t", "ext4", "-b", "4096", "-O", "fast_commit,inline_data"}},
                    Form{"orphan_file", {"-t", "ext4", "-b", "4096", "-O", "fast_commit,orphan_file"}},
                    Form{"no_checksums", {"-t", "ext4", "-b", "4096", "-O", "fast_commit,^metadata_csum"}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace fuse4fs::test
