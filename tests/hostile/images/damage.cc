// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/images/damage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace fuse4fs::hostile {
namespace {

using ext4::fuzz::Region;

constexpr std::size_t kHead = 2;
constexpr std::size_t kMutation = 8;
constexpr std::size_t kMostMutations = 64;

enum class What { kByte, kBit, kNumber, kZeroBlock, kCopyBlock, kZeros, kOnes, kSwap };

struct Mutation {
  What what;
  std::size_t kind, index, inside;
  std::uint32_t value;
};

Mutation parse(std::span<const std::byte> bytes) {
  const auto byte = [&](std::size_t i) { return std::to_integer<std::uint32_t>(bytes[i]); };
  return {static_cast<What>(byte(0) & 7), byte(0) >> 3, byte(1) | byte(2) << 8, byte(3) | byte(4) << 8,
          byte(5) | byte(6) << 8 | byte(7) << 16};
}

class Damage {
 public:
  explicit Damage(const PreparedImage& image) : image_(image), bytes_(image.bytes) {}

  void apply(const Mutation& mutation) {
    const auto& kind = image_.kinds[mutation.kind % image_.kinds.size()];
    const Region region = kind[mutation.index % kind.size()];
    const std::size_t place = region.offset + mutation.inside % region.length;
    const std::size_t block = place / image_.block_size * image_.block_size;
    const std::size_t most = std::min<std::size_t>(1 + mutation.value % 64, bytes_.size() - place);
    switch (mutation.what) {
      case What::kByte:
        bytes_[place] = static_cast<char>(mutation.value);
        return;
      case What::kBit:
        bytes_[place] = static_cast<char>(bytes_[place] ^ 1 << mutation.value % 8);
        return;
      case What::kNumber: {
        // Fields have their places; a number that is small may be a block or an inode.
        const std::size_t aligned = place & ~std::size_t{3};
        const std::uint32_t number = mutation.value % (bytes_.size() / image_.block_size + 64);
        std::memcpy(bytes_.data() + aligned, &number, sizeof number);
        return;
      }
      case What::kZeroBlock:
        std::memset(bytes_.data() + block, 0, image_.block_size);
        return;
      case What::kCopyBlock:
      case What::kSwap: {
        const auto& others = image_.kinds[(mutation.value >> 16) % image_.kinds.size()];
        const Region other = others[(mutation.value & 0xffff) % others.size()];
        if (mutation.what == What::kCopyBlock) {
          const std::size_t from = other.offset / image_.block_size * image_.block_size;
          std::memmove(bytes_.data() + block, bytes_.data() + from, image_.block_size);
        } else {
          const std::size_t length = std::min(region.length, other.length);
          const std::string mine = bytes_.substr(region.offset, length);
          std::memmove(bytes_.data() + region.offset, bytes_.data() + other.offset, length);
          std::memcpy(bytes_.data() + other.offset, mine.data(), length);
        }
        return;
      }
      case What::kZeros:
        std::memset(bytes_.data() + place, 0, most);
        return;
      case What::kOnes:
        std::memset(bytes_.data() + place, 0xff, most);
        return;
    }
  }
  void truncate(const Mutation& mutation) {
    const std::size_t size = (std::size_t{mutation.value} << 16 | mutation.index) % bytes_.size();
    bytes_.resize(size / 512 * 512);
  }
  void seal() {
    if (image_.areas) image_.areas->seal(bytes_);
  }
  [[nodiscard]] std::vector<std::byte> take() const {
    const auto bytes = std::as_bytes(std::span(bytes_));
    return {bytes.begin(), bytes.end()};
  }

 private:
  const PreparedImage& image_;
  std::string bytes_;
};

}  // namespace

const PreparedImage& image_of(std::span<const std::byte> program) {
  return prepared_image(program.empty() ? 0 : std::to_integer<std::size_t>(program[0]) % prepared_images());
}

std::vector<std::byte> damaged_image(std::span<const std::byte> program) {
  Damage damage(image_of(program));
  if (program.size() < kHead) return damage.take();
  const auto bits = std::to_integer<unsigned>(program[1]);
  auto rest = program.subspan(kHead);
  for (std::size_t i = 0; i < kMostMutations && rest.size() >= kMutation; ++i) {
    const Mutation mutation = parse(rest.first(kMutation));
    rest = rest.subspan(kMutation);
    const bool is_last = rest.size() < kMutation;
    if (!is_last || (bits & kTruncate) == 0) damage.apply(mutation);
    if (!is_last) continue;
    if ((bits & kSeal) != 0) damage.seal();
    if ((bits & kTruncate) != 0) damage.truncate(mutation);
  }
  return damage.take();
}

Verdict try_image(std::span<const std::byte> program) { return judge_image(damaged_image(program)); }

std::vector<DamageSeed> damage_seeds() {
  std::vector<DamageSeed> seeds;
  for (std::size_t i = 0; i < prepared_images(); ++i) {
    const PreparedImage& image = prepared_image(i);
    const auto add = [&](std::string_view name, unsigned bits, const std::vector<unsigned>& mutation) {
      std::vector<std::byte> program{static_cast<std::byte>(i), static_cast<std::byte>(bits)};
      for (const unsigned byte : mutation) program.push_back(static_cast<std::byte>(byte));
      seeds.push_back({fmt::format("{}-{}", image.name, name), std::move(program)});
    };
    add("good", 0, {});
    add("truncated", kTruncate, {0, 0, 0, 0, 0, 0, 30, 0});
    for (unsigned kind = 0; kind < image.kinds.size(); ++kind) {
      add(fmt::format("zeros-{}", kind), kSeal,
          {kind << 3 | static_cast<unsigned>(What::kZeros), 0, 0, 4, 0, 63, 0, 0});
      add(fmt::format("zero-block-{}", kind), kSeal,
          {kind << 3 | static_cast<unsigned>(What::kZeroBlock), 1, 0, 0, 0, 0, 0, 0});
      add(fmt::format("number-{}", kind), kSeal,
          {kind << 3 | static_cast<unsigned>(What::kNumber), 0, 0, 8, 0, 12, 0, 0});
    }
  }
  // What was found by numbers, and mended: blocks handed out twice, files that a bitmap hid, journals whose
  // inode and its copy say different things.
  for (const std::uint64_t number : {69, 2434, 4642, 8301, 18911, 20516, 27423, 28183, 31489, 41388, 158057})
    seeds.push_back({fmt::format("found-{}", number), damage_of(number)});
  return seeds;
}

std::vector<std::byte> damage_of(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto byte = [&] { return static_cast<std::byte>(random() & 0xff); };
  // One form after the other.
  const std::size_t form = seed % prepared_images();
  const std::size_t kinds = prepared_image(form).kinds.size();
  std::vector<std::byte> program{static_cast<std::byte>(form)};
  unsigned bits = random() % 4 != 0 ? kSeal : 0;
  if (random() % 16 == 0) bits |= kTruncate;
  program.push_back(static_cast<std::byte>(bits));
  for (std::size_t left = 1 + random() % 10; left > 0; --left) {
    // Superblock and descriptors seldom, or most of the images would be refused.
    std::size_t kind = random() % kinds;
    if (kind < 2 && random() % 6 != 0) kind = 2 + random() % (kinds - 2);
    program.push_back(static_cast<std::byte>(kind << 3 | random() % 8));
    for (std::size_t i = 1; i < kMutation; ++i) program.push_back(byte());
  }
  return program;
}

}  // namespace fuse4fs::hostile
