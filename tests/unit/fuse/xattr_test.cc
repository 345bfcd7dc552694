// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>

#include "tests/unit/fuse/dispatcher_fixture.h"

namespace fuse4fs::fuse {
namespace {

using ::testing::_;
using ::testing::Return;

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}

std::string with_nul(std::string_view name) { return std::string(name) + '\0'; }

class XattrRequests : public DispatcherTest {
 protected:
  template <class In>
  void send(std::uint32_t opcode, const In& in, std::string_view tail = {}, std::size_t length = sizeof(In)) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + length + tail.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = 12;
    header.uid = uid_;
    std::string request(reinterpret_cast<const char*>(&header), sizeof header);
    request.append(reinterpret_cast<const char*>(&in), length);
    request += tail;
    dispatcher_->dispatch(device_.get(), std::as_writable_bytes(std::span(request)));
  }
  // The error that was answered, or the payload.
  struct Answer {
    int error = -1;
    std::string payload;
  };
  Answer answer() {
    std::string bytes(1 << 16, '\0');
    const ssize_t got = ::recv(kernel_.get(), bytes.data(), bytes.size(), 0);
    fuse_out_header header{};
    if (got < static_cast<ssize_t>(sizeof header)) return {};
    std::memcpy(&header, bytes.data(), sizeof header);
    return {-header.error, bytes.substr(sizeof header, static_cast<std::size_t>(got) - sizeof header)};
  }
  std::uint32_t init(std::uint32_t offered) {
    fuse_init_in in{};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = 45;
    in.flags = offered;
    send(FUSE_INIT, in);
    fuse_init_out out{};
    const Answer got = answer();
    EXPECT_EQ(got.payload.size(), sizeof out);
    std::memcpy(&out, got.payload.data(), std::min(sizeof out, got.payload.size()));
    return out.flags;
  }
  static std::uint32_t size_in(const Answer& answer) {
    fuse_getxattr_out out{};
    EXPECT_EQ(answer.payload.size(), sizeof out);
    std::memcpy(&out, answer.payload.data(), std::min(sizeof out, answer.payload.size()));
    return out.size;
  }

  static constexpr std::uint32_t kAcls = FUSE_POSIX_ACL | FUSE_DONT_MASK;
  static constexpr std::uint32_t kEverything = 0x7fff'ffff;

  std::uint32_t uid_ = 0;
};

TEST_F(XattrRequests, AclsAreTheKernelsBusinessWhereTheVolumeHasThem) {
  EXPECT_CALL(fs_, has_acls).WillRepeatedly(Return(true));
  const auto flags = init(kEverything);
  EXPECT_EQ(flags & kAcls, kAcls);
  EXPECT_NE(flags & FUSE_SETXATTR_EXT, 0U);
  EXPECT_NE(flags & FUSE_HANDLE_KILLPRIV_V2, 0U) << "or each write would ask for security.capability";
}

TEST_F(XattrRequests, AclsAreNobodysBusinessWithNoacl) {
  EXPECT_CALL(fs_, has_acls).WillRepeatedly(Return(false));
  EXPECT_EQ(init(kEverything) & kAcls, 0U);
}

TEST_F(XattrRequests, NothingIsAskedForThatWasNotOffered) {
  EXPECT_CALL(fs_, has_acls).WillRepeatedly(Return(true));
  EXPECT_EQ(init(FUSE_ASYNC_READ) & (kAcls | FUSE_SETXATTR_EXT), 0U);
}

TEST_F(XattrRequests, GetAnswersLengthValueOrRange) {
  init(kEverything);
  EXPECT_CALL(fs_, xattr(12, std::string_view("user.a"))).WillRepeatedly(Return(bytes_of("value")));
  send(FUSE_GETXATTR, fuse_getxattr_in{}, with_nul("user.a"));
  EXPECT_EQ(size_in(answer()), 5U);
  send(FUSE_GETXATTR, fuse_getxattr_in{.size = 5, .padding = 0}, with_nul("user.a"));
  EXPECT_EQ(answer().payload, "value");
  send(FUSE_GETXATTR, fuse_getxattr_in{.size = 4, .padding = 0}, with_nul("user.a"));
  EXPECT_EQ(answer().error, ERANGE);
  EXPECT_CALL(fs_, xattr(12, std::string_view("user.b"))).WillOnce(Return(fail(ENODATA)));
  send(FUSE_GETXATTR, fuse_getxattr_in{.size = 4, .padding = 0}, with_nul("user.b"));
  EXPECT_EQ(answer().error, ENODATA);
}

TEST_F(XattrRequests, ListHidesTrustedNamesFromUsers) {
  init(kEverything);
  const std::string all = with_nul("trusted.a") + with_nul("user.b") + with_nul("trusted.c");
  EXPECT_CALL(fs_, xattr_names(12)).WillRepeatedly(Return(all));
  send(FUSE_LISTXATTR, fuse_getxattr_in{.size = 100, .padding = 0});
  EXPECT_EQ(answer().payload, all);
  send(FUSE_LISTXATTR, fuse_getxattr_in{.size = 10, .padding = 0});
  EXPECT_EQ(answer().error, ERANGE);
  uid_ = 1000;
  send(FUSE_LISTXATTR, fuse_getxattr_in{});
  EXPECT_EQ(size_in(answer()), 7U);
  send(FUSE_LISTXATTR, fuse_getxattr_in{.size = 7, .padding = 0});
  EXPECT_EQ(answer().payload, with_nul("user.b"));
  // Nobody, which is what an idmapped mount sends for everybody.
  uid_ = UINT32_MAX;
  send(FUSE_LISTXATTR, fuse_getxattr_in{.size = 100, .padding = 0});
  EXPECT_EQ(answer().payload, all);
}

TEST_F(XattrRequests, SetHandsOnWhatItSays) {
  init(kEverything);
  const auto expect = [&](ext4::XattrMode mode, ext4::SetgidBit setgid) {
    EXPECT_CALL(fs_, set_xattr(12, std::string_view("user.a"), _, mode, setgid))
        .WillOnce([](auto, auto, std::span<const std::byte> value, auto, auto) -> Result<void> {
          EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(value.data()), value.size()), "value");
          return {};
        });
  };
  const auto name_and_value = with_nul("user.a") + "value";
  expect(ext4::XattrMode::kCreateOrReplace, ext4::SetgidBit::kKeep);
  send(FUSE_SETXATTR, fuse_setxattr_in{5, 0, 0, 0}, name_and_value);
  EXPECT_EQ(answer().error, 0);
  expect(ext4::XattrMode::kCreate, ext4::SetgidBit::kClear);
  send(FUSE_SETXATTR, fuse_setxattr_in{5, XATTR_CREATE, FUSE_SETXATTR_ACL_KILL_SGID, 0}, name_and_value);
  EXPECT_EQ(answer().error, 0);
  expect(ext4::XattrMode::kReplace, ext4::SetgidBit::kKeep);
  send(FUSE_SETXATTR, fuse_setxattr_in{5, XATTR_REPLACE, 0, 0}, name_and_value);
  EXPECT_EQ(answer().error, 0);
}

TEST_F(XattrRequests, AnOlderKernelSendsLessOfIt) {
  init(kEverything & ~FUSE_SETXATTR_EXT);
  EXPECT_CALL(fs_, set_xattr(12, std::string_view("user.a"), _, _, ext4::SetgidBit::kKeep))
      .WillOnce(Return(Result<void>()));
  send(FUSE_SETXATTR, fuse_setxattr_in{1, 0, 0, 0}, with_nul("user.a") + "v", FUSE_COMPAT_SETXATTR_IN_SIZE);
  EXPECT_EQ(answer().error, 0);
}

TEST_F(XattrRequests, WhatIsCutShortIsRefused) {
  init(kEverything);
  EXPECT_CALL(fs_, set_xattr).Times(0);
  send(FUSE_SETXATTR, fuse_setxattr_in{5, 0, 0, 0}, with_nul("user.a") + "valu");
  EXPECT_EQ(answer().error, EINVAL);
  send(FUSE_SETXATTR, fuse_setxattr_in{0, 0, 0, 0}, "user.a");
  EXPECT_EQ(answer().error, EINVAL);
  send(FUSE_SETXATTR, fuse_setxattr_in{0, 0, 0, 0}, "", 4);
  EXPECT_EQ(answer().error, EINVAL);
}

TEST_F(XattrRequests, TheUmaskIsHandedOn) {
  init(kEverything);
  EXPECT_CALL(fs_, make(12, std::string_view("f"), _))
      .WillOnce([](auto, auto, const ext4::NewInode& what) -> Result<ext4::Attributes> {
        EXPECT_EQ(what.umask, 027U);
        EXPECT_EQ(what.mode & 07777U, 0666U);
        return ext4::Attributes{.inode = 13, .mode = what.mode};
      });
  send(FUSE_MKNOD, fuse_mknod_in{.mode = S_IFREG | 0666, .rdev = 0, .umask = 027, .padding = 0},
       with_nul("f"));
  EXPECT_EQ(answer().error, 0);
}

TEST_F(XattrRequests, RemoveIsHandedOn) {
  init(kEverything);
  EXPECT_CALL(fs_, remove_xattr(12, std::string_view("user.a"))).WillOnce(Return(fail(ENODATA)));
  struct Nothing {};
  send(FUSE_REMOVEXATTR, Nothing{}, with_nul("user.a"), 0);
  EXPECT_EQ(answer().error, ENODATA);
}

}  // namespace
}  // namespace fuse4fs::fuse
