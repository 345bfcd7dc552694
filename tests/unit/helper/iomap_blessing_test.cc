// SPDX-License-Identifier: GPL-2.0-or-later
// No released kernel has iomap: here a fake one answers for it, and the running one for itself.
#include "helper/iomap_blessing.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "base/fuse_iomap_abi.h"
#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TemporaryDirectory;

constexpr int kDevice = 77;  // never opened

class IomapBlessing : public ::testing::Test {
 protected:
  IomapKernel kernel() {
    return {.ioctl = [this](int fd, unsigned long request, void* argument) -> Result<void> {
              EXPECT_EQ(fd, kDevice);
              asked_.push_back(request);
              if (error_ != 0) return fail(error_);
              if (request == iomap_abi::kIoctlSupport) {
                const iomap_abi::Support support{.flags = support_, .padding = 0};
                std::memcpy(argument, &support, sizeof support);
              }
              return {};
            },
            .parameter = directory_.path("enable_iomap")};
  }
  void set_parameter(const char* value) { std::ofstream(directory_.path("enable_iomap")) << value << '\n'; }

  TemporaryDirectory directory_;
  int error_ = 0;
  std::uint64_t support_ = iomap_abi::kSupportFileIo | iomap_abi::kSupportAtomic;
  std::vector<unsigned long> asked_;
};

TEST_F(IomapBlessing, IsGivenWhereTheKernelHasIt) {
  for (const auto wish : {IomapWish::kIfOffered, IomapWish::kRequired}) {
    asked_.clear();
    EXPECT_TRUE(bless_for_iomap(kDevice, wish, kernel()));
    EXPECT_THAT(asked_, ElementsAre(iomap_abi::kIoctlAddIomap, iomap_abi::kIoctlSupport));
  }
}

TEST_F(IomapBlessing, IsNotEvenTriedWhereTheUserRefusesIt) {
  const auto blessed = bless_for_iomap(kDevice, IomapWish::kRefused, kernel());
  ASSERT_FALSE(blessed);
  EXPECT_EQ(blessed.error().error, Errno(EPERM));
  EXPECT_THAT(blessed.error().message, HasSubstr("noiomap"));
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(IomapBlessing, WhatIsMissingIsSaid) {
  struct Case {
    int error;
    const char* parameter;
    int expected;
    const char* words;
  };
  const Case cases[] = {
      {ENOTTY, "Y", ENOTTY, "this kernel has no iomap"},
      {EINVAL, "Y", ENOTTY, "this kernel has no iomap"},
      {EOPNOTSUPP, "Y", EOPNOTSUPP, "CONFIG_FUSE_IOMAP"},
      {EPERM, "N", EPERM, "switched off (echo Y >"},
      {EPERM, "Y", EPERM, "CAP_SYS_RAWIO"},
  };
  for (const auto& [error, parameter, expected, words] : cases) {
    SCOPED_TRACE(words);
    error_ = error;
    set_parameter(parameter);
    const auto blessed = bless_for_iomap(kDevice, IomapWish::kRequired, kernel());
    ASSERT_FALSE(blessed);
    EXPECT_EQ(blessed.error().error, Errno(expected));
    EXPECT_THAT(blessed.error().message, HasSubstr(words));
  }
}

TEST_F(IomapBlessing, WithoutFileIoIsNone) {
  support_ = iomap_abi::kSupportAtomic;
  const auto blessed = bless_for_iomap(kDevice, IomapWish::kIfOffered, kernel());
  ASSERT_FALSE(blessed);
  EXPECT_EQ(blessed.error().error, Errno(EOPNOTSUPP));
}

TEST(RunningKernel, AnswersForItself) {
  const UniqueFd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse) GTEST_SKIP() << "no /dev/fuse here";
  iomap_abi::Support support{};
  const bool known =
      static_cast<bool>(running_kernel().ioctl(fuse.get(), iomap_abi::kIoctlSupport, &support));
  const auto blessed = bless_for_iomap(fuse.get(), IomapWish::kIfOffered);
  if (!known) {
    ASSERT_FALSE(blessed);
    EXPECT_EQ(blessed.error().error, Errno(ENOTTY)) << blessed.error().message;
  } else if (blessed) {
    ASSERT_TRUE(running_kernel().ioctl(fuse.get(), iomap_abi::kIoctlSupport, &support));
    EXPECT_NE(support.flags & iomap_abi::kSupportFileIo, 0U);
  } else {
    EXPECT_NE(blessed.error().error, Errno(ENOTTY)) << blessed.error().message;
  }
}

}  // namespace
}  // namespace fuse4fs::helper
