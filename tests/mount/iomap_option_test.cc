// SPDX-License-Identifier: GPL-2.0-or-later
// -o iomap and noiomap, on whatever kernel runs: one without iomap refuses the first in words, and all else
// works as ever.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fuse_iomap_abi.h"
#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class IomapOption : public MountTest {
 protected:
  // Whether this kernel knows iomap at all, be it switched on or not.
  static bool kernel_knows_iomap() {
    const UniqueFd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    iomap_abi::Support support{};
    return ::ioctl(fuse.get(), iomap_abi::kIoctlSupport, &support) == 0;
  }
  void expect_it_works() const {
    write_file(mount_point() / "file", "text");
    EXPECT_EQ(contents_of(mount_point() / "file"), "text");
  }
  [[nodiscard]] std::string mount_line() const {
    return run({"findmnt", "-n", "-o", "FSTYPE,OPTIONS", mount_point()}).output;
  }
};

TEST_F(IomapOption, IsRefusedInWordsWhereTheKernelHasNone) {
  if (kernel_knows_iomap()) GTEST_SKIP() << "this kernel knows iomap";
  const auto image = make_image();
  const auto mounted = mount(image, "iomap");
  EXPECT_EQ(mounted.status, 32);
  EXPECT_THAT(mounted.output, HasSubstr("option iomap cannot be heeded: this kernel has no iomap for FUSE"));
  EXPECT_THAT(mount_line(), IsEmpty());
  EXPECT_THAT(loop_devices_of(image), IsEmpty());
}

TEST_F(IomapOption, TheLastWordCounts) {
  const auto image = make_image();
  const auto mounted = mount(image, "iomap,noiomap");
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  expect_it_works();
  unmount_and_check(image);
}

TEST_F(IomapOption, WithoutItOrWithoutAWordTheMountWorks) {
  const auto image = make_image();
  for (const char* const options : {"noiomap", "rw"}) {
    SCOPED_TRACE(options);
    const auto mounted = mount(image, options);
    ASSERT_EQ(mounted.status, 0) << mounted.output;
    EXPECT_THAT(mounted.output, Not(HasSubstr("iomap"))) << "nothing is said of it";
    expect_it_works();
    unmount_and_check(image);
  }
}

TEST_F(IomapOption, NoiomapIsSaidToBeTheReasonWithV) {
  const auto image = make_image();
  const auto mounted = run({FUSE4FS_HELPER, image, mount_point(), "-v", "-o", "noiomap,lazytime,standalone"});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(mounted.output, AllOf(HasSubstr("file I/O goes through the server: option noiomap"),
                                    HasSubstr("option \"lazytime\" has no effect")));
  EXPECT_THAT(mount_line(), AllOf(HasSubstr("fuseblk.fuse4fs"), Not(HasSubstr("lazytime"))));
  unmount_and_check(image);
}

TEST_F(IomapOption, ARemountSaysThatItTakesANewMount) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto remounted = run({FUSE4FS_HELPER, "none", mount_point(), "-o", "remount,noiomap,noexec"});
  EXPECT_EQ(remounted.status, 0) << remounted.output;
  EXPECT_THAT(remounted.output, HasSubstr("option \"noiomap\" is not changed by a remount"));
  EXPECT_THAT(mount_line(), HasSubstr("noexec"));
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
