// SPDX-License-Identifier: GPL-2.0-or-later
// Between the answer to a write's BEGIN and the page that it is for, the page may be written back and
// dropped. The answer still says "unwritten", and the rest of the block becomes zeros, unless the kernel
// notices. Of an answer it does not; of what it was given to keep, it does.
#include <gtest/gtest.h>

#include "tests/iomap/allocating_mount.h"
#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

// The rules that are broken when the page goes in that moment.
std::set<Rule> reclaim_within_a_write(AllocatingOptions::Remember remember) {
  std::shared_ptr<File> file;
  bool now = false;
  AllocatingMount::Options options;
  options.server.remember = remember;
  options.mount.kernel.quirks = Quirks::v7();
  options.mount.kernel.tampering = [&](Connection::Answer& answer) {
    if (answer.opcode != abi::kBegin || !std::exchange(now, false)) return;
    EXPECT_TRUE(file->write_back());
    file->reclaim();
  };
  AllocatingMount mount(options);
  Kernel& kernel = mount.kernel();
  EXPECT_TRUE(kernel.mount());
  const auto created = kernel.create("file");
  EXPECT_TRUE(created);
  file = *created;
  EXPECT_EQ(file->write(0, pattern(1, 0, 4096)), 4096U);
  // The kernel has got no mapping of it, and asks.
  file->mapper().cache().drop();
  now = true;
  EXPECT_EQ(file->write(100, pattern(2, 100, 200)), 200U);
  std::vector<std::byte> bytes(4096);
  EXPECT_EQ(file->read(0, bytes), bytes.size());
  return kernel.breaches().rules();
}

TEST(Reclaim, LosesDataToAnAnswerThatIsTakenAsItIs) {
  EXPECT_EQ(reclaim_within_a_write(AllocatingOptions::Remember::kAnswers), std::set<Rule>{Rule::kDataLost});
}

TEST(Reclaim, LosesNothingWhereTheKernelLooksIntoWhatItKeeps) {
  EXPECT_EQ(reclaim_within_a_write(AllocatingOptions::Remember::kByCache), std::set<Rule>{});
}

}  // namespace
}  // namespace fuse4fs::iomap_model
