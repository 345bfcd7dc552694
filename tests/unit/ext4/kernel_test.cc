// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel's ext4 wrote, we read and change; what we wrote, the kernel reads. Needs root and loop
// devices.
#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

// Runs a script in a fresh copy of the mount tree, with the image mounted by the kernel as its working
// directory.
CommandOutcome under_kernel(const TestVolume& volume, const std::string& script) {
  const auto path = volume.image().parent_path() / "script";
  const auto place = volume.image().parent_path() / "mounted";
  std::filesystem::create_directory(place);
  std::ofstream(path) << "mount -o loop " << volume.image().string() << " " << place.string() << "\ncd "
                      << place.string() << "\n"
                      << "attr() { setfattr -n \"$2\" -v \"$3\" \"$1\"; }\n"
                      << "show() { getfattr --only-values -n \"$2\" \"$1\"; }\n"
                      << "set -x\n"
                      << script << "\ncd /\numount " << place.string() << "\n";
  return run("unshare -m --propagation private sh -e " + path.string());
}

std::string last_words(const std::string& output) {
  return output.substr(output.size() - std::min<std::size_t>(output.size(), 600));
}

class WithKernel : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    if (run("losetup -f").status != 0) GTEST_SKIP() << "no loop devices";
  }
};
class Kernel : public WithKernel, public testing::WithParamInterface<const char*> {};

// Two volumes, one file of many extents in each, made by us: then the kernel moves the ranges of one, and we
// those of the other.
TEST_F(WithKernel, RangesMoveAsTheKernelMovesThem) {
  struct Step {
    char what;  // c: collapse, i: insert
    std::uint64_t offset, length;
  };
  constexpr std::uint64_t kBlock = 1024, kBlocks = 6000;
  constexpr std::uint64_t kMost = ((std::uint64_t{1} << 32) - 1) * kBlock;
  const std::vector<Step> steps{
      {'c', 0, kBlock},
      {'i', 0, kBlock},
      {'c', 100, kBlock},
      {'c', kBlock, 100},
      {'i', 100, kBlock},
      {'i', kBlock, 100},
      {'c', 10 * kBlock, 2001 * kBlock},
      {'i', 3001 * kBlock, 1000 * kBlock},
      {'i', 7 * kBlock, 5000 * kBlock},
      {'c', 2 * kBlock, 4 * kBlock},
      // Over the end, and at it.
      {'c', kBlock, 100'000 * kBlock},
      {'i', 100'000 * kBlock, kBlock},
      {'i', 9000 * kBlock, kBlock},
      {'c', 8997 * kBlock, kBlock},
      {'c', 0, 8000 * kBlock},
      // Further than a file reaches.
      {'i', 0, kMost},
      {'i', 0, kMost - kBlock},
      {'c', 0, kMost},
      {'c', kMost - kBlock, 2 * kBlock},
      {'i', kMost - kBlock, 2 * kBlock},
  };
  std::array volumes{std::make_unique<TestVolume>("-t ext4 -b 1024 -O ^has_journal"),
                     std::make_unique<TestVolume>("-t ext4 -b 1024 -O ^has_journal")};
  InodeNumber file = 0;
  for (auto& volume : volumes) {
    volume->mount();
    file = volume->make_file(kRootInode, "file");
    for (std::uint64_t i = 0; i < kBlocks; i += 2)
      volume->write(file, i * kBlock, fmt::format("piece {}", i) + std::string(1000, 'x'));
    ASSERT_EQ(volume->unmount_and_check(), "");
  }
  std::string script;
  for (const Step& step : steps)
    script += fmt::format(
        "set +x; fallocate -{} -o {} -l {} file 2>&1 | sed 's/.*: /=/'; stat -c '=%s' file; md5sum <file | "
        "sed 's/^/=/'\n",
        step.what, step.offset, step.length);
  const auto done = under_kernel(*volumes[0], script);
  ASSERT_EQ(done.status, 0) << last_words(done.output);
  std::string theirs, mine;
  std::istringstream lines(done.output);
  for (std::string line; std::getline(lines, line);) theirs += line.starts_with('=') ? line + "\n" : "";

  auto& fs = volumes[1]->mount();
  const auto copy = volumes[1]->image().parent_path() / "copy";
  for (const Step& step : steps) {
    const auto what = step.what == 'c' ? RangeChange::kCollapse : RangeChange::kInsert;
    const auto moved = fs.change_range(file, what, {step.offset, step.length}, EndOfFile::kMayMove,
                                       AttributeChanges::Privileges::kKeep);
    if (!moved) mine += fmt::format("={}\n", moved.error().message());
    const auto size = fs.attributes(file)->size;
    mine += fmt::format("={}\n", size);
    std::ofstream(copy, std::ios::binary) << volumes[1]->read(file, 0, size);
    mine += "=" + run("md5sum <" + copy.string()).output;
  }
  EXPECT_GT(theirs.size(), steps.size() * 32);  // a digest has as many
  EXPECT_EQ(mine, theirs);
  EXPECT_EQ(volumes[1]->unmount_and_check(), "");
  EXPECT_EQ(volumes[0]->check(), "");
}

TEST_P(Kernel, BothReadAndChangeTheSameVolume) {
  TestVolume volume(GetParam(), "128M");
  // Inodes of 128 bytes have no room for nanoseconds, nor for years after 2038.
  const bool narrow = std::string_view(GetParam()).ends_with("-I 128");
  auto done = under_kernel(volume, R"sh(
    mkdir big small deep; i=0; while [ $i -lt 3000 ]; do : > big/entry_number_$i; i=$((i+1)); done
    for i in 1 2 3; do echo small $i > small/$i; done
    printf %s "$(seq 1 20)" > inline; : > empty
    seq 1 200000 > text; fallocate -l 3M unwritten; printf middle | dd of=unwritten bs=1 seek=1000000 conv=notrunc status=none
    for i in $(seq 0 2 400); do printf x | dd of=holes bs=4096 seek=$i conv=notrunc status=none; done
    ln -s $(printf "%0500d" 1) slow; ln -s fast fast; mknod null c 1 3
    mkdir deep/a deep/a/b; chown 100000:200000 text; touch -d "2100-01-02 03:04:05.678901234" text
    attr text user.key value; attr text user.large $(printf "%0900d" 7); attr small user.key value
  )sh");
  ASSERT_EQ(done.status, 0) << last_words(done.output);
  auto& fs = volume.mount();

  const auto big = fs.lookup(kRootInode, "big")->inode;
  EXPECT_EQ(volume.list(big).size(), 3002U);
  for (int i = 0; i < 3000; i += 7) ASSERT_TRUE(fs.lookup(big, fmt::format("entry_number_{}", i))) << i;
  ASSERT_TRUE(fs.unlink(big, "entry_number_1234"));
  volume.unmount();
  ASSERT_EQ(volume.check(), "") << "after a removal, with the index";
  volume.mount();
  auto& again = volume.fs();
  ASSERT_TRUE(again.lookup(big, "entry_number_0"));
  for (int i = 0; i < 500; ++i) volume.make_file(big, fmt::format("ours_{}", i));
  EXPECT_EQ(volume.list(big).size(), 3501U);

  const auto small = again.lookup(kRootInode, "small")->inode;
  EXPECT_EQ(volume.read(again.lookup(small, "2")->inode, 0, 100), "small 2\n");
  ASSERT_TRUE(again.unlink(small, "2"));
  volume.write(volume.make_file(small, "4"), 0, "four");
  ASSERT_TRUE(again.rename(small, "1", small, "one", {.mode = RenameMode::kReplace}));
  const auto deep = again.lookup(kRootInode, "deep")->inode;
  ASSERT_TRUE(again.rename(deep, "a", small, "a", {.mode = RenameMode::kReplace}));

  const auto inside = again.lookup(kRootInode, "inline")->inode;
  const auto was = volume.read(inside, 0, 1000);
  EXPECT_TRUE(was.starts_with("1\n2\n3\n"));
  volume.write(inside, 2, "ZZ");
  EXPECT_EQ(volume.read(inside, 0, 6), "1\nZZ3\n");
  volume.write(again.lookup(kRootInode, "empty")->inode, 3, "abc");

  const auto unwritten = again.lookup(kRootInode, "unwritten")->inode;
  EXPECT_EQ(volume.read(unwritten, 999'998, 10), std::string("\0\0middle\0\0", 10));
  volume.write(unwritten, 2'000'001, "ours");
  volume.write(unwritten, 1'500'000, std::string(200'000, 'w'));
  EXPECT_EQ(volume.read(unwritten, 1'999'999, 8), std::string("\0\0ours\0\0", 8));
  ASSERT_TRUE(again.set_attributes(unwritten, {.size = 2'500'001}));

  const auto holes = again.lookup(kRootInode, "holes")->inode;
  volume.write(holes, 4096 + 17, std::string(500'000, 'h'));
  const auto text = again.lookup(kRootInode, "text");
  EXPECT_EQ(text->uid, 100'000U);
  EXPECT_EQ(text->gid, 200'000U);
  if (!narrow) {
    EXPECT_EQ(text->modified.seconds, 4'102'542'245) << "in UTC";
    EXPECT_EQ(text->modified.nanoseconds, 678'901'234U);
  }
  EXPECT_EQ(again.symlink_target(again.lookup(kRootInode, "slow")->inode)->size(), 500U);
  EXPECT_EQ(again.symlink_target(again.lookup(kRootInode, "fast")->inode).value(), "fast");
  EXPECT_EQ(again.lookup(kRootInode, "null")->device, makedev(1, 3));
  ASSERT_TRUE(again.set_attributes(text->inode, {.modified = Timestamp{-5, 999'999'999}}));

  volume.write(volume.make_file(kRootInode, "from us"), 0, std::string(1'000'000, 'u'));
  ASSERT_TRUE(again.make_symlink(kRootInode, "link from us", std::string(300, 'l'), {}));
  ASSERT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());

  done = under_kernel(volume, R"sh(
    test $(ls big | wc -l) = 3499; test -e big/ours_499; test ! -e big/entry_number_1234
    test "$(cat small/4)" = four; test "$(cat small/one)" = "small 1"; test -d small/a/b; test ! -e small/2
    test "$(head -c 6 inline | tail -c 4)" = "ZZ3"; test $(stat -c %s empty) = 6
    test "$(dd if=unwritten bs=1 skip=2000001 count=4 status=none)" = ours
    test "$(dd if=unwritten bs=1 skip=1000000 count=6 status=none)" = middle
    test $(tr -d "w\000" < unwritten | wc -c) = 10; test $(stat -c %s unwritten) = 2500001
    test $(tr -cd h < holes | wc -c) = 500000; test $(tr -cd x < holes | wc -c) -gt 70
    seq 1 200000 | cmp - text; case "$(stat -c %.9Y text)" in -4.000000001 | -5.000000000) ;; *) exit 1 ;; esac
    test $(tr -cd u < "from us" | wc -c) = 1000000; test $(readlink "link from us" | wc -c) = 301
    test $(show text user.key) = value; test $(show small user.key) = value
    : > big/theirs; rm -r big; mkdir new
  )sh");
  EXPECT_EQ(done.status, 0) << last_words(done.output);
  EXPECT_EQ(volume.check(), "");

  // And all of it goes.
  auto& last = volume.mount();
  for (const char* name :
       {"inline", "empty", "text", "unwritten", "holes", "slow", "fast", "null", "from us"})
    EXPECT_TRUE(last.unlink(kRootInode, name)) << name;
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Forms, Kernel,
    testing::Values("-t ext4 -b 4096", "-t ext4 -b 1024", "-t ext4 -b 4096 -O ^metadata_csum,uninit_bg",
                    "-t ext4 -b 4096 -O inline_data -I 256", "-t ext4 -b 4096 -O inline_data -I 1024",
                    "-t ext4 -b 4096 -O bigalloc -C 65536 -N 8192", "-t ext4 -b 1024 -O ea_inode",
                    "-t ext4 -b 4096 -O metadata_csum_seed,orphan_file,large_dir", "-t ext4 -b 2048 -I 128"));

}  // namespace
}  // namespace fuse4fs::ext4
