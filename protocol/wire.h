// SPDX-License-Identifier: GPL-2.0-or-later
// Big-endian fields of a packet, written and read by calls of the same names, so that one description of a
// packet serves both directions (messages.cc).
//
// The reader never reads past its end. The first violation sticks; every later field then reads as zero or
// empty, and finish() gives the error. EBADMSG before EINVAL: an unknown flag counts only in a packet that is
// sound otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "protocol/messages.h"

namespace fuse4fs::protocol::internal {

class Encoder {
 public:
  void u16(std::uint16_t value) { number(value, 2); }
  void u32(std::uint32_t value) { number(value, 4); }
  void error(int value) { u32(static_cast<std::uint32_t>(value)); }
  void constant16(std::uint16_t value) { u16(value); }
  void constant32(std::uint32_t value) { u32(value); }
  // Bit 0 for the first, bit 1 for the second, …
  template <class... Bools>
  void flags(const Bools&... bits) {
    std::uint32_t value = 0;
    unsigned bit = 0;
    ((value |= static_cast<std::uint32_t>(bits) << bit++), ...);
    u32(value);
  }
  // A u16 with two values.
  template <class Enum>
  void one_of(Enum value, Enum /*first*/, Enum /*second*/) {
    u16(std::to_underlying(value));
  }
  void text(const std::string& value, std::size_t /*limit*/) {
    for (const char c : value) bytes_.push_back(static_cast<std::byte>(c));
    bytes_.push_back(std::byte{0});
  }

  Bytes take() { return std::move(bytes_); }

 private:
  void number(std::uint32_t value, unsigned size) {
    while (size-- > 0) bytes_.push_back(static_cast<std::byte>(value >> (8 * size)));
  }
  Bytes bytes_;
};

class Decoder {
 public:
  explicit Decoder(ByteView packet) : rest_(packet) {
    if (packet.size() > kMaxPacket) refuse(EMSGSIZE);
  }

  void u16(std::uint16_t& value) { value = static_cast<std::uint16_t>(number(2)); }
  void u32(std::uint32_t& value) { value = number(4); }
  // Errors of the kernel end at 4095: what is above is not one, and might turn negative.
  void error(int& value) {
    const std::uint32_t raw = number(4);
    if (raw > kLargestErrno) return refuse(EBADMSG);
    value = static_cast<int>(raw);
  }
  void constant16(std::uint16_t value) {
    if (number(2) != value) refuse(EBADMSG);
  }
  void constant32(std::uint32_t value) {
    if (number(4) != value) refuse(EBADMSG);
  }
  template <class... Bools>
  void flags(Bools&... bits) {
    const std::uint32_t value = number(4);
    unsigned bit = 0;
    ((bits = (value >> bit++ & 1) != 0), ...);
    if (value >> bit != 0) unknown_flag_ = true;
  }
  template <class Enum>
  void one_of(Enum& value, Enum first, Enum second) {
    const std::uint32_t raw = number(2);
    if (raw != std::to_underlying(first) && raw != std::to_underlying(second)) return refuse(EBADMSG);
    value = raw == std::to_underlying(first) ? first : second;
  }
  // Always the last field: the rest of the packet, not empty, ending with its only NUL. `limit` includes the
  // NUL.
  void text(std::string& value, std::size_t limit) {
    const ByteView bytes = rest_;
    rest_ = {};
    if (bytes.size() > limit) return refuse(EMSGSIZE);
    if (bytes.size() < 2) return refuse(EBADMSG);
    const std::string_view characters(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (characters.find('\0') != characters.size() - 1) return refuse(EBADMSG);
    value = characters.substr(0, characters.size() - 1);
  }

  // Nothing left over, nothing wrong; EINVAL if the only thing wrong is an unknown flag.
  Result<void> finish() {
    if (!rest_.empty()) refuse(EBADMSG);
    if (error_) return fail(*error_);
    if (unknown_flag_) return fail(EINVAL);
    return {};
  }

 private:
  static constexpr std::uint32_t kLargestErrno = 4095;

  void refuse(int error) {
    if (!error_) error_ = Errno(error);
  }
  std::uint32_t number(unsigned size) {
    if (rest_.size() < size) {
      refuse(EBADMSG);
      rest_ = {};
      return 0;
    }
    std::uint32_t value = 0;
    for (const std::byte byte : rest_.first(size)) value = value << 8 | std::to_integer<std::uint32_t>(byte);
    rest_ = rest_.subspan(size);
    return value;
  }

  ByteView rest_;
  std::optional<Errno> error_;
  bool unknown_flag_ = false;
};

}  // namespace fuse4fs::protocol::internal
