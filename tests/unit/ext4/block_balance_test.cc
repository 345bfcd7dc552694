// SPDX-License-Identifier: GPL-2.0-or-later
// Who has a block more than once, and how that ends.
#include "server/ext4/block_balance.h"

#include <gmock/gmock.h>

#include <utility>
#include <vector>

namespace fuse4fs::ext4 {
namespace {

using Runs = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

Runs runs_of(const std::vector<BlockRun>& found) {
  Runs runs;
  for (const auto& [first, count] : found) runs.emplace_back(first, count);
  return runs;
}

TEST(SharedBlocks, AreThoseWithMoreThanOneOwner) {
  BlockBalance balance;
  balance.add_nobodys({0, 10});
  balance.add_taken({0, 5});
  EXPECT_TRUE(SharedBlocks(balance).empty());
  balance.add_taken({100, 20});
  balance.add_taken({110, 20});
  balance.add_taken({200, 1});
  const SharedBlocks shared(balance);
  EXPECT_EQ(runs_of(shared.all()), (Runs{{100, 10}, {110, 10}, {120, 10}, {200, 1}}));
  EXPECT_EQ(runs_of(shared.inside({105, 20})), (Runs{{105, 5}, {110, 10}, {120, 5}}));
  EXPECT_EQ(runs_of(shared.inside({129, 100})), (Runs{{129, 1}, {200, 1}}));
  EXPECT_EQ(runs_of(shared.inside({130, 70})), Runs{});
  EXPECT_EQ(runs_of(shared.inside({0, 100})), Runs{});
}

// Two owners too many take two drops; what lies beside the dropped ones stays as it is.
TEST(SharedBlocks, AreLetGoOfPieceByPiece) {
  BlockBalance balance;
  balance.add_taken({100, 30});
  balance.add_taken({110, 10});
  SharedBlocks shared(balance);
  shared.drop({105, 10});
  EXPECT_EQ(runs_of(shared.all()), (Runs{{100, 5}, {110, 5}, {115, 5}, {120, 10}}));
  shared.drop({112, 1});
  EXPECT_EQ(runs_of(shared.all()), (Runs{{100, 5}, {110, 2}, {113, 2}, {115, 5}, {120, 10}}));
  shared.drop({0, 115});
  shared.drop({115, 1000});
  EXPECT_EQ(runs_of(shared.all()), (Runs{{115, 5}}));
  shared.drop({115, 5});
  EXPECT_TRUE(shared.empty());
}

}  // namespace
}  // namespace fuse4fs::ext4
