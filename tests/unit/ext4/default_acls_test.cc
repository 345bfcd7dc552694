// SPDX-License-Identifier: GPL-2.0-or-later
// What a new file inherits is what its directory's default ACL is now, whoever asked for it before.
#include "server/ext4/default_acls.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr const char* kDefault = "system.posix_acl_default";
constexpr const char* kAccess = "system.posix_acl_access";

std::vector<std::byte> acl_for(std::uint32_t user) {
  constexpr std::uint32_t kNobody = UINT32_MAX;
  return acl_to_system_call({{.tag = AclTag::kOwner, .rights = 7, .id = kNobody},
                             {.tag = AclTag::kUser, .rights = 5, .id = user},
                             {.tag = AclTag::kOwningGroup, .rights = 5, .id = kNobody},
                             {.tag = AclTag::kMask, .rights = 7, .id = kNobody},
                             {.tag = AclTag::kOther, .rights = 4, .id = kNobody}});
}

class InheritedAcls : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    volume_.mount();
    directory_ = volume_.make_directory(kRootInode, "d");
  }
  FileSystem& fs() { return volume_.fs(); }
  void set_default(InodeNumber directory, std::uint32_t user) {
    ASSERT_TRUE(
        fs().set_xattr(directory, kDefault, acl_for(user), XattrMode::kCreateOrReplace, SetgidBit::kKeep));
  }
  // For whom a file made now has a line of its own; 0 for none.
  std::uint32_t inherited(InodeNumber directory) {
    const auto name = std::to_string(next_++);
    const auto file = volume_.make_file(directory, name);
    const auto got = fs().xattr(file, kAccess);
    if (!got) {
      EXPECT_EQ(got.error(), Errno(ENODATA));
      return 0;
    }
    const auto acl = acl_from_system_call(*got);
    if (!acl) return 0;
    for (const AclEntry& entry : *acl)
      if (entry.tag == AclTag::kUser) return entry.id;
    return 0;
  }

  TestVolume volume_{GetParam()};
  InodeNumber directory_ = 0;
  int next_ = 0;
};

TEST_P(InheritedAcls, AreThoseOfNow) {
  EXPECT_EQ(inherited(directory_), 0U);
  set_default(directory_, 1000);
  EXPECT_EQ(inherited(directory_), 1000U);
  EXPECT_EQ(inherited(directory_), 1000U);
  set_default(directory_, 1001);
  EXPECT_EQ(inherited(directory_), 1001U);
  const auto below = volume_.make_directory(directory_, "below");
  EXPECT_EQ(inherited(below), 1001U);
  ASSERT_TRUE(fs().remove_xattr(directory_, kDefault));
  EXPECT_EQ(inherited(directory_), 0U);
  EXPECT_EQ(inherited(below), 1001U);
  ASSERT_TRUE(fs().set_xattr(below, kDefault, {}, XattrMode::kCreateOrReplace, SetgidBit::kKeep));
  EXPECT_EQ(inherited(below), 0U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(InheritedAcls, GoWithTheirDirectory) {
  const auto inside = volume_.make_directory(directory_, "inside");
  set_default(inside, 1000);
  const auto file = volume_.make_file(inside, "file");
  ASSERT_TRUE(fs().xattr(file, kAccess));
  ASSERT_TRUE(fs().unlink(inside, "file"));
  fs().forget(file, 1);
  ASSERT_TRUE(fs().remove_directory(directory_, "inside"));
  fs().forget(inside, 1);
  ASSERT_TRUE(fs().sync());
  const auto again = volume_.make_directory(directory_, "again");
  ASSERT_EQ(again, inside) << "the number is to be the same for this test";
  EXPECT_EQ(inherited(again), 0U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, InheritedAcls,
                         testing::Values("-t ext4 -b 4096", "-t ext4 -b 1024 -I 128",
                                         "-t ext4 -b 1024 -I 256 -O inline_data"));

}  // namespace
}  // namespace fuse4fs::ext4
