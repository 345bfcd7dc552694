// SPDX-License-Identifier: GPL-2.0-or-later
// What the model's applications write to a file of a real ext4 volume is what the kernel's ext4 reads there.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "tests/iomap/identity_volume.h"
#include "tests/iomap/random_load.h"
#include "tests/iomap/test_mount.h"

namespace fuse4fs::iomap_model {
namespace {

// A sanitizer finds what it finds in less.
#ifdef FUSE4FS_SANITIZED
constexpr std::uint64_t kFileBytes = std::uint64_t{32} << 20, kMoved = std::uint64_t{96} << 20;
#else
constexpr std::uint64_t kFileBytes = std::uint64_t{256} << 20, kMoved = std::uint64_t{1} << 30;
#endif

TEST(Identity, TheKernelReadsWhatTheModelWrote) {
  if (::geteuid() != 0) GTEST_SKIP() << "SKIPPED: loop devices and mounts need root";
  const Ext4Image image(kFileBytes);
  ASSERT_GT(image.extents().size(), 1U);
  TestMount::Options options;
  options.kernel.quirks = Quirks::v7();
  options.kernel.watch = Core::Watch::kNothing;
  const auto make = [&](Kernel& kernel) { return std::make_unique<IdentityVolume>(image, kernel); };
  TestMount mount(image.device(), make, options);
  Kernel& kernel = mount.kernel();
  ASSERT_TRUE(kernel.mount());
  RandomLoad load(kernel, {.files = 1, .blocks = LoadOptions::Blocks::kFixed, .largest_write = 512 << 10});
  ASSERT_TRUE(load.prepare());
  while (load.bytes_moved() < kMoved && kernel.breaches().empty() && !HasFailure()) load.run();
  ASSERT_TRUE(load.judge());
  ASSERT_TRUE(kernel.breaches().empty()) << kernel.breaches().words();
  RecordProperty("moved", std::to_string(load.bytes_moved()));
  // Each extent is asked for once: then the kernel has it.
  EXPECT_GT(kernel.counts()[iomap_abi::kBegin], image.extents().size() / 2);
  const auto file = kernel.open(Ext4Image::kFileName);
  ASSERT_TRUE(file);

  EXPECT_EQ(image.check(), "");
  std::vector<std::byte> expected(1 << 20);
  std::uint64_t written = 0;
  image.read_back([&](std::uint64_t offset, std::span<const std::byte> bytes) {
    (*file)->ledger().expect(offset, std::span(expected).first(bytes.size()));
    EXPECT_TRUE(std::ranges::equal(bytes, std::span(expected).first(bytes.size()))) << "at " << offset;
    written += static_cast<std::uint64_t>(
        std::ranges::count_if(bytes, [](std::byte byte) { return byte != std::byte{0}; }));
  });
  EXPECT_GT(written, kFileBytes / 4);
  EXPECT_TRUE(kernel.unmount());
}

}  // namespace
}  // namespace fuse4fs::iomap_model
