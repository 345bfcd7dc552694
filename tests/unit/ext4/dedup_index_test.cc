// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/dedup_index.h"

#include <gmock/gmock.h>

namespace fuse4fs::ext4 {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST(DedupIndex, FindsAllOfAHash) {
  DedupIndex<int> index;
  index.add(7, 1);
  index.add(7, 2);
  index.add(8, 3);
  index.add(7, 1);
  EXPECT_THAT(index.find(7), UnorderedElementsAre(1, 2));
  EXPECT_THAT(index.find(8), ElementsAre(3));
  EXPECT_THAT(index.find(9), IsEmpty());
}

TEST(DedupIndex, ANumberHasOneHash) {
  DedupIndex<int> index;
  index.add(7, 1);
  index.add(8, 1);
  EXPECT_THAT(index.find(7), IsEmpty());
  EXPECT_THAT(index.find(8), ElementsAre(1));
  index.forget(1);
  index.forget(2);
  EXPECT_THAT(index.find(8), IsEmpty());
}

TEST(DedupIndex, HasABound) {
  DedupIndex<std::uint32_t> index;
  for (std::uint32_t i = 0; i < 100'000; ++i) index.add(i, i);
  EXPECT_THAT(index.find(99'999), ElementsAre(99'999U));
  std::size_t known = 0;
  for (std::uint32_t i = 0; i < 100'000; ++i) known += index.find(i).size();
  EXPECT_LE(known, 4096U);
}

}  // namespace
}  // namespace fuse4fs::ext4
