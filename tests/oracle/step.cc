// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/step.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <span>

namespace fuse4fs::oracle {
namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(Operation::kCount)> kNames = {
    "access",    "check", "chmod",    "chown",      "close",    "copy",       "create",   "drop-caches",
    "fallocate", "fsync", "getflags", "getproject", "getxattr", "link",       "linkslot", "list",
    "listxattr", "mkdir", "mknod",    "open",       "read",     "readlink",   "remount",  "removexattr",
    "rename",    "rmdir", "seek",     "setacl",     "setflags", "setproject", "setxattr", "stat",
    "statfs",    "swap",  "symlink",  "times",      "tmpfile",  "truncate",   "unlink",   "write"};

struct Bit {
  std::string_view name;
  std::uint64_t value;
};
constexpr Bit kOpenBits[] = {{"WRONLY", O_WRONLY},     {"RDWR", O_RDWR},          {"CREAT", O_CREAT},
                             {"EXCL", O_EXCL},         {"TRUNC", O_TRUNC},        {"APPEND", O_APPEND},
                             {"DIRECT", O_DIRECT},     {"SYNC", O_SYNC},          {"DSYNC", O_DSYNC},
                             {"NOFOLLOW", O_NOFOLLOW}, {"DIRECTORY", O_DIRECTORY}};
constexpr Bit kRenameBits[] = {
    {"NOREPLACE", RENAME_NOREPLACE}, {"EXCHANGE", RENAME_EXCHANGE}, {"WHITEOUT", RENAME_WHITEOUT}};
constexpr Bit kFallocateBits[] = {
    {"KEEP_SIZE", FALLOC_FL_KEEP_SIZE},           {"PUNCH_HOLE", FALLOC_FL_PUNCH_HOLE},
    {"COLLAPSE_RANGE", FALLOC_FL_COLLAPSE_RANGE}, {"ZERO_RANGE", FALLOC_FL_ZERO_RANGE},
    {"INSERT_RANGE", FALLOC_FL_INSERT_RANGE},     {"UNSHARE_RANGE", FALLOC_FL_UNSHARE_RANGE}};
constexpr Bit kXattrBits[] = {{"CREATE", XATTR_CREATE}, {"REPLACE", XATTR_REPLACE}};
constexpr Bit kAtBits[] = {
    {"NOFOLLOW", AT_SYMLINK_NOFOLLOW}, {"FOLLOW", AT_SYMLINK_FOLLOW}, {"EACCESS", AT_EACCESS}};
constexpr Bit kSeekBits[] = {{"DATA", SEEK_DATA}, {"HOLE", SEEK_HOLE}};

std::span<const Bit> bits_of(Operation operation) {
  switch (operation) {
    case Operation::kCreate:
    case Operation::kOpen:
    case Operation::kTmpfile:
    case Operation::kRead:
    case Operation::kWrite:
      return kOpenBits;
    case Operation::kRename:
      return kRenameBits;
    case Operation::kFallocate:
      return kFallocateBits;
    case Operation::kSetXattr:
      return kXattrBits;
    case Operation::kSeek:
      return kSeekBits;
    default:
      return kAtBits;
  }
}

// O_SYNC contains O_DSYNC, SEEK_HOLE contains no SEEK_DATA: the widest name that fits wins.
std::string flags_text(std::span<const Bit> bits, std::uint64_t flags) {
  std::string text;
  std::vector<Bit> widest(bits.begin(), bits.end());
  std::ranges::stable_sort(widest, std::greater{}, [](const Bit& bit) { return std::popcount(bit.value); });
  for (const Bit& bit : widest)
    if ((flags & bit.value) == bit.value) {
      text += (text.empty() ? "" : "|") + std::string(bit.name);
      flags &= ~bit.value;
    }
  if (flags != 0) text += fmt::format("{}{:#x}", text.empty() ? "" : "|", flags);
  return text;
}

template <class Number>
bool parse_number(std::string_view text, Number& number) {
  int base = 10;
  if (text.starts_with("0x")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text.starts_with("0")) {
    base = 8;
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse_flags(std::span<const Bit> bits, std::string_view text, std::uint64_t& flags) {
  while (!text.empty()) {
    const auto bar = text.find('|');
    const std::string_view word = text.substr(0, bar);
    text = bar == std::string_view::npos ? "" : text.substr(bar + 1);
    const auto bit = std::ranges::find(bits, word, &Bit::name);
    std::uint64_t value = 0;
    if (bit != bits.end()) {
      value = bit->value;
    } else if (!parse_number(word, value)) {
      return false;
    }
    flags |= value;
  }
  return true;
}

// Letters and the like stay; the rest is %XX, and a long run of one byte {X*N}.
std::string encode(std::string_view text) {
  const auto one = [](char byte) {
    const bool plain = std::isalnum(static_cast<unsigned char>(byte)) != 0 ||
                       std::string_view("._/:,@+-").find(byte) != std::string_view::npos;
    return plain ? std::string(1, byte) : fmt::format("%{:02x}", static_cast<unsigned char>(byte));
  };
  std::string encoded;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_not_of(text[at], at), text.size());
    const std::size_t run = end - at;
    if (run > 7) {
      encoded += fmt::format("{{{}*{}}}", one(text[at]), run);
    } else {
      for (std::size_t i = 0; i < run; ++i) encoded += one(text[at]);
    }
    at = end;
  }
  return encoded;
}

bool decode(std::string_view text, std::string& decoded) {
  const auto one = [&](std::size_t& at, char& byte) {
    if (text[at] != '%') {
      byte = text[at++];
      return true;
    }
    unsigned value = 0;
    if (at + 3 > text.size()) return false;
    const auto [end, error] = std::from_chars(text.data() + at + 1, text.data() + at + 3, value, 16);
    if (error != std::errc() || end != text.data() + at + 3) return false;
    byte = static_cast<char>(value);
    at += 3;
    return true;
  };
  for (std::size_t at = 0; at < text.size();) {
    char byte = 0;
    if (text[at] != '{') {
      if (!one(at, byte)) return false;
      decoded += byte;
      continue;
    }
    std::size_t count = 0;
    if (++at >= text.size() || !one(at, byte) || at >= text.size() || text[at] != '*') return false;
    const auto [end, error] = std::from_chars(text.data() + at + 1, text.data() + text.size(), count);
    if (error != std::errc() || end == text.data() + text.size() || *end != '}' || count > 65536)
      return false;
    decoded.append(count, byte);
    at = static_cast<std::size_t>(end - text.data()) + 1;
  }
  return true;
}

std::string time_text(const timespec& time) {
  if (time.tv_nsec == UTIME_NOW) return "now";
  return fmt::format("{}.{:09}", time.tv_sec, time.tv_nsec);
}

bool parse_time(std::string_view text, timespec& time) {
  if (text == "now") {
    time.tv_nsec = UTIME_NOW;
    return true;
  }
  const auto point = text.find('.');
  if (point == std::string_view::npos) return false;
  const std::string_view fraction = text.substr(point + 1);
  const auto [end, error] =
      std::from_chars(fraction.data(), fraction.data() + fraction.size(), time.tv_nsec, 10);
  const std::string_view seconds = text.substr(0, point);
  const auto [end2, error2] =
      std::from_chars(seconds.data(), seconds.data() + seconds.size(), time.tv_sec, 10);
  return error == std::errc() && error2 == std::errc() && end == fraction.data() + fraction.size() &&
         end2 == seconds.data() + seconds.size();
}

bool set_field(Step& step, std::string_view key, std::string_view text) {
  if (key == "who") return parse_number(text, step.who) && step.who >= 0 && step.who < kActors;
  if (key == "slot") return parse_number(text, step.slot) && step.slot >= 0 && step.slot < kSlots;
  if (key == "path") return decode(text, step.path);
  if (key == "other") return decode(text, step.other);
  if (key == "name") return decode(text, step.name);
  if (key == "value") return decode(text, step.value);
  if (key == "offset") return parse_number(text, step.offset);
  if (key == "length") return parse_number(text, step.length);
  if (key == "flags") return parse_flags(bits_of(step.operation), text, step.flags);
  if (key == "mode") return parse_number(text, step.mode);
  if (key == "seed") return parse_number(text, step.seed);
  if (key == "number") return parse_number(text, step.number);
  if (key == "uid") return parse_number(text, step.uid);
  if (key == "gid") return parse_number(text, step.gid);
  if (key == "accessed") return parse_time(text, step.accessed);
  if (key == "modified") return parse_time(text, step.modified);
  return false;
}

}  // namespace

std::string_view name_of(Operation operation) { return kNames[static_cast<std::size_t>(operation)]; }

std::string to_text(const Step& step) {
  std::string text(name_of(step.operation));
  if (step.who != 0) text += fmt::format(" who={}", step.who);
  if (step.slot >= 0) text += fmt::format(" slot={}", step.slot);
  if (!step.path.empty()) text += " path=" + encode(step.path);
  if (!step.other.empty()) text += " other=" + encode(step.other);
  if (!step.name.empty()) text += " name=" + encode(step.name);
  if (!step.value.empty()) text += " value=" + encode(step.value);
  if (step.offset != 0) text += fmt::format(" offset={}", step.offset);
  if (step.length != 0) text += fmt::format(" length={}", step.length);
  if (step.flags != 0) text += " flags=" + flags_text(bits_of(step.operation), step.flags);
  if (step.mode != 0) text += fmt::format(" mode=0{:o}", step.mode);
  if (step.seed != 0) text += fmt::format(" seed={}", step.seed);
  if (step.number != 0) text += fmt::format(" number={}", step.number);
  if (step.uid != -1) text += fmt::format(" uid={}", step.uid);
  if (step.gid != -1) text += fmt::format(" gid={}", step.gid);
  if (step.accessed.tv_nsec != Step::kOmit) text += " accessed=" + time_text(step.accessed);
  if (step.modified.tv_nsec != Step::kOmit) text += " modified=" + time_text(step.modified);
  return text;
}

std::optional<Step> parse_step(std::string_view line) {
  const auto word = [&line] {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const auto end = std::min(line.find(' '), line.size());
    const std::string_view first = line.substr(0, end);
    line.remove_prefix(end);
    return first;
  };
  const auto name = std::ranges::find(kNames, word());
  if (name == kNames.end()) return std::nullopt;
  Step step{.operation = static_cast<Operation>(name - kNames.begin())};
  for (std::string_view field = word(); !field.empty(); field = word()) {
    const auto equals = field.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    if (!set_field(step, field.substr(0, equals), field.substr(equals + 1))) return std::nullopt;
  }
  return step;
}

std::string bytes_from(std::uint32_t seed, std::size_t length) {
  std::string bytes(length, '\0');
  std::uint64_t state = seed * 0x9e3779b97f4a7c15ULL + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

}  // namespace fuse4fs::oracle
