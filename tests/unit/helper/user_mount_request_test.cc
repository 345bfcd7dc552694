// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_request.h"

#include <gtest/gtest.h>

#include <string>

namespace fuse4fs::helper {
namespace {

using protocol::Bytes;

Bytes bytes_of(std::string_view text) {
  Bytes bytes;
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
  return bytes;
}

std::string packet(std::initializer_list<std::string_view> fields) {
  std::string text;
  for (const std::string_view field : fields) text.append(field).push_back('\0');
  return text;
}

TEST(UserMountRequest, ComesThrough) {
  for (const UserRequest& request :
       {UserRequest{.source = "/dev/sdb1", .target = "/mnt", .options = "ro,user"},
        UserRequest{.verbose = true, .fake = true, .source = "/a b", .target = "/\xc3\xa4", .options = {}},
        UserRequest{.action = UserAction::kStop, .source = {}, .target = "/mnt", .options = {}}}) {
    const auto decoded = decode_user_request(encode_user_request(request));
    ASSERT_TRUE(decoded);
    EXPECT_EQ(*decoded, request);
  }
}

TEST(UserMountRequest, WhatIsNoneIsRefused) {
  const std::string good = packet({"fuse4fs-user-1", "mount", "v", "/dev/sdb1", "/mnt", "ro"});
  ASSERT_TRUE(decode_user_request(bytes_of(good)));
  // Each part of it, and each with something behind it.
  for (std::size_t length = 0; length < good.size(); ++length)
    EXPECT_FALSE(decode_user_request(bytes_of(good.substr(0, length)))) << length;
  EXPECT_FALSE(decode_user_request(bytes_of(good + '\0')));
  EXPECT_FALSE(decode_user_request(bytes_of(good + "x")));
  for (const std::string& bad : {
           packet({"fuse4fs-user-2", "mount", "", "/dev/sdb1", "/mnt", ""}),
           packet({"fuse4fs-user-1", "remount", "", "/dev/sdb1", "/mnt", ""}),
           packet({"fuse4fs-user-1", "", "", "/dev/sdb1", "/mnt", ""}),
           packet({"fuse4fs-user-1", "mount", "x", "/dev/sdb1", "/mnt", ""}),
           packet({"fuse4fs-user-1", "mount", "", "", "/mnt", ""}),
           packet({"fuse4fs-user-1", "mount", "", "/dev/sdb1", "", ""}),
           packet({"fuse4fs-user-1", "stop", "", "/dev/sdb1", "/mnt", ""}),
           packet({"fuse4fs-user-1", "mount", "", "/dev/sdb1\n", "/mnt", ""}),
           packet({"fuse4fs-user-1", "mount", "", "/dev/sdb1", "/mnt\x1b[2J", ""}),
           packet({"fuse4fs-user-1", "mount", "", "/dev/sdb1", "/mnt", "ro\x7f"}),
           packet({"fuse4fs-user-1", "mount", "", "/dev/sdb1", "/mnt", "ro", "more"}),
       })
    EXPECT_EQ(decode_user_request(bytes_of(bad)).error(), Errno(EBADMSG)) << bad;
  const std::string large =
      packet({"fuse4fs-user-1", "mount", "", "/dev/sdb1", "/mnt", std::string(kMostRequestBytes, 'x')});
  EXPECT_EQ(decode_user_request(bytes_of(large)).error(), Errno(EMSGSIZE));
}

TEST(UserMountRequest, RepliesAreWordsOrAStatus) {
  const auto words = decode_user_reply(encode_user_words("it is so\n"));
  ASSERT_TRUE(words);
  EXPECT_EQ(words->words, "it is so\n");
  EXPECT_FALSE(words->status);
  const auto status = decode_user_reply(encode_user_status(32));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->status, 32);
  EXPECT_EQ(encode_user_words(std::string(2 * kMostReplyBytes, 'x')).size(), kMostReplyBytes);
  for (const std::string_view bad : {"", "W", "S", "S12", "X1"})
    EXPECT_FALSE(decode_user_reply(bytes_of(bad))) << bad;
}

}  // namespace
}  // namespace fuse4fs::helper
