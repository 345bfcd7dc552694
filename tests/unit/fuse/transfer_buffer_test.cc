// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/transfer_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <thread>

namespace fuse4fs::fuse {
namespace {

std::uintptr_t payload_of(TransferBuffer& buffer) {
  return reinterpret_cast<std::uintptr_t>(buffer.request().data()) + kWriteHeaderSize;
}

TEST(TransferBuffer, ThePayloadOfAWriteLiesOnAPageAndOnAHugeOne) {
  TransferBuffer buffer;
  EXPECT_EQ(buffer.request().size(), kWriteHeaderSize + kMaxTransfer);
#ifdef FUSE4FS_SANITIZED
  EXPECT_EQ(payload_of(buffer) % 4096, 0U);
#else
  EXPECT_EQ(payload_of(buffer) % (std::size_t{2} << 20), 0U);
#endif
  std::ranges::fill(buffer.request(), std::byte{7});
}

TEST(TransferBuffer, AnswersLieInThePayload) {
  TransferBuffer buffer;
  const auto answer = TransferBuffer::of_this_thread(5000);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(answer.data()), payload_of(buffer));
  EXPECT_EQ(answer.size(), 5000U);
  EXPECT_EQ(TransferBuffer::of_this_thread(kMaxTransfer + 1).size(), kMaxTransfer);
}

TEST(TransferBuffer, AThreadWithoutOneHasOneForAnswers) {
  TransferBuffer mine;
  std::thread([&] {
    const auto answer = TransferBuffer::of_this_thread(100);
    EXPECT_NE(reinterpret_cast<std::uintptr_t>(answer.data()), payload_of(mine));
    std::ranges::fill(answer, std::byte{1});
    EXPECT_EQ(TransferBuffer::of_this_thread(100).data(), answer.data());
    {
      TransferBuffer inner;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(TransferBuffer::of_this_thread(1).data()),
                payload_of(inner));
    }
    EXPECT_EQ(TransferBuffer::of_this_thread(100).data(), answer.data());
  }).join();
}

}  // namespace
}  // namespace fuse4fs::fuse
