// SPDX-License-Identifier: GPL-2.0-or-later
// POSIX ACLs through our mount: that they are enforced, inherited, and kept in step with the mode.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class AclMount : public MountTest {
 protected:
  static Finished as(const std::string& uid, const std::string& gid, const std::string& script) {
    return run({"setpriv", "--reuid=" + uid, "--regid=" + gid, "--clear-groups", "sh", "-c", script});
  }
  static void setfacl(Command arguments) {
    arguments.insert(arguments.begin(), "setfacl");
    const auto done = run(arguments);
    EXPECT_EQ(done.status, 0) << done.output;
  }
  // Lines, without the comments.
  static std::string getfacl(const fs::path& path) {
    return run({"getfacl", "--omit-header", "--absolute-names", "--numeric", path}).output;
  }
  static mode_t mode(const fs::path& path) {
    struct stat status{};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
  }
};

TEST_F(AclMount, ANamedUserGetsInAndAnotherDoesNot) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto file = mount_point() / "file";
  write_file(file, "secret\n");
  ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
  EXPECT_NE(as("2001", "2001", "cat " + file.string()).status, 0);
  setfacl({"-m", "u:2001:r", file});
  EXPECT_EQ(as("2001", "2001", "cat " + file.string()).output, "secret\n");
  EXPECT_NE(as("2001", "2001", "echo x >>" + file.string()).status, 0);
  EXPECT_NE(as("2002", "2002", "cat " + file.string()).status, 0);
  // What is denied to one though everybody else may.
  ASSERT_EQ(::chmod(file.c_str(), 0644), 0);
  setfacl({"-m", "u:2002:-", file});
  EXPECT_EQ(as("2003", "2003", "cat " + file.string()).status, 0);
  EXPECT_NE(as("2002", "2002", "cat " + file.string()).status, 0);
  setfacl({"-m", "g:3000:rw", file});
  EXPECT_EQ(as("2004", "3000", "echo x >>" + file.string()).status, 0);
  setfacl({"-b", file});
  EXPECT_EQ(as("2002", "2002", "cat " + file.string()).status, 0);
  EXPECT_NE(as("2004", "3000", "echo x >>" + file.string()).status, 0);
  // Still so for who mounts it next, and for the kernel's ext4. (Where the group bits are empty the kernel
  // looks at no ACL at all.)
  ASSERT_EQ(::chmod(file.c_str(), 0644), 0);
  setfacl({"-m", "u:2002:-", file});
  unmount_and_check(image);
  for (const bool is_ours : {true, false}) {
    is_ours ? mount_or_fail(image) : kernel_mount(image);
    EXPECT_NE(as("2002", "2002", "cat " + file.string()).status, 0) << is_ours;
    EXPECT_EQ(as("2003", "2003", "cat " + file.string()).status, 0) << is_ours;
    EXPECT_EQ(unmount().status, 0);
  }
}

TEST_F(AclMount, ChmodChangesTheMask) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto file = mount_point() / "file";
  write_file(file, "text\n");
  ASSERT_EQ(::chmod(file.c_str(), 0640), 0);
  setfacl({"-m", "u:2001:rw", file});
  EXPECT_EQ(mode(file), 0660U);
  EXPECT_EQ(as("2001", "2001", "echo x >>" + file.string()).status, 0);
  ASSERT_EQ(::chmod(file.c_str(), 0640), 0);
  EXPECT_THAT(getfacl(file), HasSubstr("mask::r--"));
  EXPECT_THAT(getfacl(file), HasSubstr("group::r--"));
  EXPECT_NE(as("2001", "2001", "echo x >>" + file.string()).status, 0);
  EXPECT_EQ(as("2001", "2001", "cat " + file.string()).status, 0);
  unmount_and_check(image);
}

TEST_F(AclMount, DefaultsAreInheritedAndTakeTheUmasksPlace) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto directory = mount_point() / "directory";
  fs::create_directory(directory);
  setfacl({"-d", "-m", "u:2001:rwx,g::rx,o::-", directory});
  const mode_t old = ::umask(077);
  write_file(directory / "file", "x\n");
  fs::create_directory(directory / "inner");
  write_file(mount_point() / "outside", "x\n");
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0644), 0);
  ::umask(old);
  EXPECT_EQ(mode(directory / "file"), 0660U);
  EXPECT_EQ(mode(mount_point() / "outside"), 0600U);
  EXPECT_EQ(mode(directory / "inner"), 0770U);
  EXPECT_EQ(mode(directory / "fifo"), 0640U);
  EXPECT_THAT(getfacl(directory / "inner"), HasSubstr("default:user:2001:rwx"));
  EXPECT_THAT(getfacl(directory / "file"), HasSubstr("user:2001:rwx\t#effective:rw-"));
  ASSERT_EQ(::chmod(directory.c_str(), 0755), 0);
  EXPECT_EQ(as("2001", "2001", "echo y >>" + (directory / "file").string()).status, 0);
  EXPECT_NE(as("2002", "2002", "cat " + (directory / "file").string()).status, 0);
  EXPECT_EQ(as("2001", "2001", "umask 0; mkdir " + (directory / "inner/theirs").string()).status, 0);
  EXPECT_EQ(mode(directory / "inner/theirs"), 0770U);
  unmount_and_check(image);

  kernel_mount(image);
  EXPECT_THAT(getfacl(directory / "inner/theirs"), HasSubstr("default:user:2001:rwx"));
  EXPECT_EQ(mode(directory / "file"), 0660U);
  EXPECT_EQ(unmount().status, 0);
}

TEST_F(AclMount, AStrangerToTheGroupLosesSetgid) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto file = mount_point() / "file";
  write_file(file, "x");
  for (const char* const group : {"2001", "3000"}) {
    ASSERT_EQ(::chown(file.c_str(), 2001, static_cast<gid_t>(std::stoi(group))), 0);
    ASSERT_EQ(::chmod(file.c_str(), 02750), 0);
    // Another one each time: setfacl leaves one alone that is there already.
    EXPECT_EQ(as("2001", "2001", "setfacl -m u:" + std::string(group) + ":r " + file.string()).status, 0);
    EXPECT_EQ(mode(file), group == std::string("2001") ? 02750U : 0750U);
  }
  unmount_and_check(image);
}

TEST_F(AclMount, WithNoaclTheModeAloneCounts) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto file = mount_point() / "file";
  write_file(file, "x");
  ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
  setfacl({"-m", "u:2001:r", file});
  setfacl({"-d", "-m", "u:2001:rwx", mount_point()});
  unmount_and_check(image);
  mount_or_fail(image, "noacl");
  EXPECT_NE(as("2001", "2001", "cat " + file.string()).status, 0);
  const auto refused = run({"setfacl", "-m", "u:2001:rw", file});
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.output, HasSubstr("Operation not supported"));
  const mode_t old = ::umask(027);
  write_file(mount_point() / "new", "x");
  ::umask(old);
  EXPECT_EQ(mode(mount_point() / "new"), 0640U);
  unmount_and_check(image);
  mount_or_fail(image);
  EXPECT_EQ(as("2001", "2001", "cat " + file.string()).status, 0);
  EXPECT_THAT(getfacl(mount_point() / "new"), Not(HasSubstr("2001")));
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
