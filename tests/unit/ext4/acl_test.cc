// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/acl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string_view>

namespace fuse4fs::ext4 {
namespace {

using ::testing::ElementsAre;

constexpr AclEntry owner(std::uint16_t rights) { return {AclTag::kOwner, rights, 0}; }
constexpr AclEntry user(std::uint32_t id, std::uint16_t rights) { return {AclTag::kUser, rights, id}; }
constexpr AclEntry owning_group(std::uint16_t rights) { return {AclTag::kOwningGroup, rights, 0}; }
constexpr AclEntry group(std::uint32_t id, std::uint16_t rights) { return {AclTag::kGroup, rights, id}; }
constexpr AclEntry mask(std::uint16_t rights) { return {AclTag::kMask, rights, 0}; }
constexpr AclEntry other(std::uint16_t rights) { return {AclTag::kOther, rights, 0}; }

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}
template <std::size_t N>
std::vector<std::byte> bytes(const char (&text)[N]) {
  return bytes_of({text, N - 1});
}

const Acl kNamed{owner(6), user(1000, 7), owning_group(4), mask(7), other(4)};

TEST(Acl, HasTwoFormsInBytes) {
  const auto system_call = bytes(
      "\2\0\0\0\1\0\6\0\xff\xff\xff\xff\2\0\7\0\xe8\3\0\0\4\0\4\0\xff\xff\xff\xff"
      "\x10\0\7\0\xff\xff\xff\xff\x20\0\4\0\xff\xff\xff\xff");
  const auto volume = bytes("\1\0\0\0\1\0\6\0\2\0\7\0\xe8\3\0\0\4\0\4\0\x10\0\7\0\x20\0\4\0");
  EXPECT_EQ(acl_to_system_call(kNamed), system_call);
  EXPECT_EQ(acl_to_volume(kNamed), volume);
  EXPECT_EQ(acl_from_system_call(system_call).value(), kNamed);
  EXPECT_EQ(acl_from_volume(volume).value(), kNamed);
}

TEST(Acl, WithoutEntriesIsNone) {
  EXPECT_TRUE(acl_from_system_call({})->empty());
  EXPECT_TRUE(acl_from_system_call(bytes("\2\0\0\0"))->empty());
  EXPECT_TRUE(acl_from_volume(bytes("\1\0\0\0"))->empty());
}

TEST(Acl, WhatIsNoneIsRefused) {
  EXPECT_EQ(acl_from_system_call(bytes("\2\0\0")).error(), Errno(EINVAL));
  EXPECT_EQ(acl_from_system_call(bytes("\1\0\0\0")).error(), Errno(EOPNOTSUPP));
  EXPECT_EQ(acl_from_system_call(bytes("\2\0\0\0\1\0\7\0\0\0\0")).error(), Errno(EINVAL)) << "cut short";
  EXPECT_EQ(acl_from_system_call(bytes("\2\0\0\0\3\0\7\0\0\0\0\0")).error(), Errno(EINVAL)) << "a tag";
  EXPECT_EQ(acl_from_system_call(bytes("\2\0\0\0\2\0\7\0\xff\xff\xff\xff")).error(), Errno(EINVAL))
      << "nobody's";
  EXPECT_FALSE(acl_from_volume({}));
  EXPECT_FALSE(acl_from_volume(bytes("\2\0\0\0")));
  EXPECT_FALSE(acl_from_volume(bytes("\1\0\0\0\1\0")));
  EXPECT_FALSE(acl_from_volume(bytes("\1\0\0\0\2\0\7\0")));
  EXPECT_FALSE(acl_from_volume(bytes("\1\0\0\0\0\0\7\0")));
}

TEST(Acl, IsValidInOneOrder) {
  EXPECT_TRUE(is_valid_acl(kNamed));
  EXPECT_TRUE(is_valid_acl({owner(7), owning_group(5), other(0)}));
  EXPECT_TRUE(is_valid_acl({owner(7), owning_group(5), mask(5), other(0)}));
  EXPECT_TRUE(
      is_valid_acl({owner(7), user(2, 1), user(1, 1), owning_group(5), group(7, 1), mask(5), other(0)}));
  EXPECT_FALSE(is_valid_acl({owner(7), user(2, 1), owning_group(5), other(0)})) << "no mask";
  EXPECT_FALSE(is_valid_acl({owner(7), owning_group(5)}));
  EXPECT_FALSE(is_valid_acl({owner(7), other(5)}));
  EXPECT_FALSE(is_valid_acl({owning_group(7), other(5)}));
  EXPECT_FALSE(is_valid_acl({owner(7), owner(7), owning_group(5), other(0)}));
  EXPECT_FALSE(is_valid_acl({owning_group(5), owner(7), other(0)}));
  EXPECT_FALSE(is_valid_acl({owner(8), owning_group(5), other(0)}));
}

TEST(Acl, GivesTheModeItsBits) {
  EXPECT_EQ(mode_of_acl({owner(7), owning_group(5), other(1)}).permissions, 0751U);
  EXPECT_TRUE(mode_of_acl({owner(7), owning_group(5), other(1)}).says_all);
  EXPECT_EQ(mode_of_acl(kNamed).permissions, 0674U);
  EXPECT_FALSE(mode_of_acl(kNamed).says_all);
  EXPECT_FALSE(mode_of_acl({owner(7), owning_group(5), mask(5), other(1)}).says_all);
}

TEST(Acl, IsInheritedAsFarAsTheModeGoes) {
  Acl acl = kNamed;
  auto got = inherit_acl(acl, S_IFREG | 0640);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->mode, mode_t{S_IFREG | 0640});
  EXPECT_FALSE(got->says_all);
  EXPECT_THAT(acl, ElementsAre(owner(6), user(1000, 7), owning_group(4), mask(4), other(0)));

  acl = {owner(7), owning_group(5), other(0)};
  got = inherit_acl(acl, S_IFDIR | S_ISGID | 0777);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->mode, mode_t{S_IFDIR | S_ISGID | 0750});
  EXPECT_TRUE(got->says_all);

  acl = {owner(7), other(0)};
  EXPECT_EQ(inherit_acl(acl, 0777).error(), Errno(EIO));
}

TEST(Acl, FollowsAChmod) {
  Acl acl = kNamed;
  ASSERT_TRUE(change_acl_mode(acl, 0751));
  EXPECT_THAT(acl, ElementsAre(owner(7), user(1000, 7), owning_group(4), mask(5), other(1)));
  acl = {owner(7), owning_group(5), other(0)};
  ASSERT_TRUE(change_acl_mode(acl, 0421));
  EXPECT_THAT(acl, ElementsAre(owner(4), owning_group(2), other(1)));
}

}  // namespace
}  // namespace fuse4fs::ext4
