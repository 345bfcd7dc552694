// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_read_ahead.h"

#include <gtest/gtest.h>

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint64_t kPiece = InodeReadAhead::kPiece;

TEST(InodeReadAhead, WhoComesOnceGetsHisBlock) {
  InodeReadAhead reads;
  for (std::uint64_t piece = 0; piece < 500; ++piece) EXPECT_FALSE(reads.missed(piece * kPiece + 7));
}

TEST(InodeReadAhead, TheNextBlockBringsThePiece) {
  InodeReadAhead reads;
  EXPECT_FALSE(reads.missed(100 * kPiece + 4));
  EXPECT_TRUE(reads.missed(100 * kPiece + 5));
}

TEST(InodeReadAhead, SoDoesTheThirdInNoOrder) {
  InodeReadAhead reads;
  EXPECT_FALSE(reads.missed(100 * kPiece + 9));
  EXPECT_FALSE(reads.missed(101 * kPiece));
  EXPECT_FALSE(reads.missed(100 * kPiece + 2));
  EXPECT_TRUE(reads.missed(100 * kPiece + 30));
}

TEST(InodeReadAhead, WhatDoesNotStayIsReadMoreAndMoreSeldom) {
  InodeReadAhead reads;
  int pieces = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) pieces += reads.missed(kPiece + i * 11 % kPiece) ? 1 : 0;
  EXPECT_GE(pieces, 5);
  EXPECT_LE(pieces, 20);
}

}  // namespace
}  // namespace fuse4fs::ext4
