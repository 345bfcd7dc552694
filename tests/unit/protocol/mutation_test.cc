// SPDX-License-Identifier: GPL-2.0-or-later
// Thousands of damaged packets, the same ones in each run: no decoder may crash, and what a decoder accepts
// means what its bytes say, that is, it encodes to the very same bytes.
#include <gtest/gtest.h>

#include <random>

#include "protocol/arguments.h"
#include "tests/unit/protocol/support.h"
#include "tests/unit/protocol/vectors.h"

namespace fuse4fs::protocol::testing {
namespace {

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  Bytes damage(Bytes bytes) {
    for (auto times = pick(3) + 1; times > 0; --times) damage_once(bytes);
    return bytes;
  }

 private:
  std::size_t pick(std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(random_);
  }

  void damage_once(Bytes& bytes) {
    // Values that sit on edges more often than chance would have it.
    static constexpr std::array<unsigned, 8> kEdges{0, 1, 2, 0x0f, 0x10, 0x40, 0x80, 0xff};
    switch (bytes.empty() ? 3 : pick(6)) {
      case 0:
        bytes[pick(bytes.size())] ^= std::byte{1} << pick(8);
        break;
      case 1:
        bytes[pick(bytes.size())] = std::byte{static_cast<unsigned char>(kEdges[pick(kEdges.size())])};
        break;
      case 2:
        bytes.resize(pick(bytes.size()));
        break;
      case 3:
        for (auto more = pick(9); more > 0; --more) bytes.push_back(static_cast<std::byte>(pick(256)));
        break;
      case 4:
        bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(pick(bytes.size())));
        break;
      default:
        bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(pick(bytes.size())),
                     static_cast<std::byte>(pick(256)));
        break;
    }
  }

  std::mt19937 random_;
};

constexpr int kRounds = 5000;

TEST(Mutation, AcceptedCommandsReencodeToTheirBytes) {
  Mutator mutator(20261121);
  int accepted = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& vector : command_vectors()) {
      const Bytes damaged = mutator.damage(bytes_of(vector.bytes));
      // In a block of its own size, so that the address sanitizer sees a read past the end.
      const auto decoded = decode_command(Bytes(damaged));
      if (!decoded) continue;
      ++accepted;
      ASSERT_EQ(encode(*decoded), damaged);
    }
  }
  // Flipped numbers and letters are legal: a test that never gets here would test nothing.
  EXPECT_GT(accepted, kRounds);
}

template <class T>
void damage_replies(T (&decode)(ByteView), std::string_view valid) {
  Mutator mutator(4711);
  int accepted = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Bytes damaged = mutator.damage(bytes_of(valid));
    const auto decoded = decode(damaged);
    if (!decoded) continue;
    ++accepted;
    ASSERT_EQ(encode(*decoded), damaged);
  }
  EXPECT_GT(accepted, 50);
}

TEST(Mutation, AcceptedRepliesReencodeToTheirBytes) {
  damage_replies(decode_hello, "53414654 0001 0001 00000003");
  damage_replies(decode_hello_reply, "4c415354 0001 0000");
  damage_replies(decode_file_reply, "46494c45 00000002 'fuse4fs:journal' 00");
  damage_replies(decode_simple_reply, "5245504c 0000000d");
}

TEST(Mutation, DamagedArgumentsNeverYieldMoreThanTheyHold) {
  const auto valid = encode_arguments({"ext4", "/dev/sdb1", "/mnt", "-o", "ro,errors=continue"});
  ASSERT_TRUE(valid);
  Mutator mutator(42);
  int accepted = 0;
  for (int round = 0; round < 4 * kRounds; ++round) {
    const Bytes damaged = mutator.damage(*valid);
    const auto decoded = decode_arguments(damaged);
    if (!decoded) continue;
    ++accepted;
    std::size_t total = 8;
    for (const std::string& argument : *decoded) {
      total += 8 + argument.size() + 1;
      ASSERT_EQ(argument.find('\0'), std::string::npos);
    }
    ASSERT_LE(total, damaged.size());
    // Gaps may be gone after it, the meaning not.
    ASSERT_EQ(decode_arguments(*encode_arguments(*decoded)), decoded);
  }
  EXPECT_GT(accepted, kRounds / 10);
}

}  // namespace
}  // namespace fuse4fs::protocol::testing
