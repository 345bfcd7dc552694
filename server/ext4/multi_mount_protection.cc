// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/multi_mount_protection.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <span>
#include <thread>

#include "base/quoted.h"
#include "server/ext4/crc32c.h"
#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

using std::chrono::seconds;

static_assert(sizeof(mmp_struct) == 1024);
constexpr std::size_t kPage = 4096;
// As ext4: what a machine that works properly never exceeds, and what one that does not may claim at most.
constexpr seconds kShortestCheck{EXT4_MMP_MIN_CHECK_INTERVAL};
constexpr seconds kLongestCheck{300};
constexpr seconds kGrace{60};
constexpr int kCheckFactor = 2;

seconds judged(seconds check_interval) { return std::clamp(check_interval, kShortestCheck, kLongestCheck); }

template <std::size_t kSize>
void put(std::uint8_t (&field)[kSize], std::string_view text) {
  std::memset(field, 0, kSize);
  std::ranges::copy(text.substr(0, kSize), field);
}

template <std::size_t kSize>
std::string_view get(const std::uint8_t (&field)[kSize]) {
  const auto* const text = reinterpret_cast<const char*>(field);
  return {text, ::strnlen(text, kSize)};
}

// By hand: no function of the C library that might look for a time zone.
std::string date(std::uint64_t time) {
  constexpr std::uint64_t kYear10000 = 253402300800;
  if (time >= kYear10000) return fmt::format("second {}", time);
  const std::chrono::sys_seconds point{seconds(time)};
  const auto day = std::chrono::floor<std::chrono::days>(point);
  const std::chrono::year_month_day calendar(day);
  const std::chrono::hh_mm_ss clock(point - day);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", static_cast<int>(calendar.year()),
                     static_cast<unsigned>(calendar.month()), static_cast<unsigned>(calendar.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::string last_user(const mmp_struct& block) {
  return fmt::format("machine {}, device {}, last heard of at {}", quoted(get(block.mmp_nodename)),
                     quoted(get(block.mmp_bdevname)), date(block.mmp_time));
}

std::uint32_t new_sequence() {
  std::uint32_t value = 0;
  do {
    // Early in the boot of a machine this may fail; the clock must do then.
    if (::getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value)
      value = static_cast<std::uint32_t>(std::chrono::steady_clock::now().time_since_epoch().count()) >> 1;
  } while (value == 0 || value > EXT4_MMP_SEQ_MAX);
  return value;
}

std::unexpected<Failure> taken(const mmp_struct& block) {
  return fail(Errno(EBUSY), fmt::format("the volume is mounted elsewhere already: {}", last_user(block)));
}

}  // namespace

MultiMountProtection::MultiMountProtection(const cache::BlockDevice& device, const MultiMountPlace& place,
                                           const MountOptions& options, Events& events)
    : device_(device),
      place_(place),
      node_(options.node_name),
      device_name_(options.device_name),
      wait_(options.wait),
      events_(events) {}

MultiMountProtection::~MultiMountProtection() { give_back(); }

Outcome<std::unique_ptr<MultiMountProtection>> MultiMountProtection::take(const cache::BlockDevice& device,
                                                                          const MultiMountPlace& place,
                                                                          const MountOptions& options,
                                                                          Events& events) {
  std::unique_ptr<MultiMountProtection> protection(new MultiMountProtection(device, place, options, events));
  RETURN_IF_ERROR(protection->take());
  return protection;
}

Outcome<void> MultiMountProtection::take() {
  ASSIGN_OR_RETURN(const auto before, examine());
  const auto interval = judged(std::max(place_.update_interval, seconds(before.mmp_check_interval)));
  if (before.mmp_seq == EXT4_MMP_SEQ_CLEAN) return prove(before.mmp_seq);
  if (before.mmp_seq == EXT4_MMP_SEQ_FSCK)
    return fail(
        Errno(EBUSY),
        fmt::format("e2fsck is at work on the volume: {}; if it is not: tune2fs -f -E clear_mmp DEVICE",
                    last_user(before)));
  // Long enough for two updates by the other side, if it is alive.
  const auto time = std::min(interval * kCheckFactor + seconds(1), interval + kGrace);
  events_.notice(
      fmt::format("the volume says that it is in use: {}; waiting {} seconds to see whether that is "
                  "still so, and then as long again",
                  last_user(before), time.count()));
  if (!wait(time)) return fail(Errno(ETIMEDOUT), "the mount was given up while waiting");
  ASSIGN_OR_RETURN(const auto after, examine());
  if (after.mmp_seq != before.mmp_seq) return taken(after);
  RETURN_IF_ERROR(prove(before.mmp_seq));
  if (!wait(time)) {
    give_back();
    return fail(Errno(ETIMEDOUT), "the mount was given up while waiting");
  }
  ASSIGN_OR_RETURN(const auto proof, examine());
  if (is_ours(proof)) return {};
  state_ = State::kLost;
  return taken(proof);
}

Outcome<void> MultiMountProtection::prove(std::uint32_t before) {
  // High at first, and less once it is seen that the block is written in time.
  timing_.check_interval = timing_.promised = judged(place_.update_interval * kCheckFactor);
  do {
    sequence_ = attempted_ = new_sequence();
  } while (sequence_ == before);
  if (const auto written = write(signed_block(sequence_)); !written)
    return fail(written.error(), fmt::format("cannot write the block that guards against mounting twice: {}",
                                             written.error().message()));
  ASSIGN_OR_RETURN(const auto proof, examine());
  if (!is_ours(proof)) return taken(proof);
  state_ = State::kOurs;
  timing_.last_beat = timing_.last_success = std::chrono::steady_clock::now();
  return {};
}

Outcome<mmp_struct> MultiMountProtection::examine() const {
  const auto block = read();
  if (!block)
    return fail(block.error(), fmt::format("cannot read the block that guards against mounting twice: {}",
                                           block.error().message()));
  if (!is_sound(*block))
    return fail(kCorrupted, "the block that guards against mounting twice is damaged; run: e2fsck DEVICE");
  return *block;
}

std::optional<std::string> MultiMountProtection::beat(TimePoint now) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kOurs) return std::nullopt;
  const auto found = read();
  if (!found) return failed("read", found.error(), now);
  if (!is_sound(*found)) {
    state_ = State::kLost;
    return "the block that guards against mounting twice was overwritten by something else";
  }
  if (!is_ours(*found)) {
    state_ = State::kLost;
    return fmt::format("the volume was taken over by {}", last_user(*found));
  }
  const auto elapsed = std::chrono::duration_cast<seconds>(now - timing_.last_beat);
  if (elapsed >= place_.update_interval) timing_.check_interval = judged(elapsed * kCheckFactor);
  timing_.last_beat = now;
  attempted_ = sequence_ >= EXT4_MMP_SEQ_MAX ? 1 : sequence_ + 1;
  if (const auto written = write(signed_block(attempted_)); !written) {
    sequence_ = found->mmp_seq;
    return failed("written", written.error(), now);
  }
  sequence_ = attempted_;
  timing_.last_success = now;
  timing_.promised = timing_.check_interval;
  return std::nullopt;
}

std::optional<std::string> MultiMountProtection::failed(std::string_view done, Errno error, TimePoint now) {
  const auto silent = std::chrono::duration_cast<seconds>(now - timing_.last_success);
  const auto words =
      fmt::format("the block that guards against mounting twice could not be {} ({})", done, error.message());
  if (silent <= timing_.promised) {
    events_.device_error(words, {.error = error.value()});
    return std::nullopt;
  }
  // By now others may believe that nobody has it.
  state_ = State::kLost;
  return fmt::format("{}, and for {} seconds others have not heard of this mount", words, silent.count());
}

void MultiMountProtection::keep(const std::function<void(std::string_view)>& lost) {
  std::unique_lock loop(loop_mutex_);
  looping_ = !stopping_;
  while (!stopping_) {
    loop.unlock();
    const auto start = std::chrono::steady_clock::now();
    const auto why = beat(start);
    if (why) lost(*why);
    loop.lock();
    if (why) break;
    loop_changed_.wait_until(loop, start + place_.update_interval, [this] { return stopping_; });
  }
  looping_ = false;
  loop_changed_.notify_all();
}

void MultiMountProtection::give_back() {
  {
    std::unique_lock loop(loop_mutex_);
    stopping_ = true;
    loop_changed_.notify_all();
    loop_changed_.wait(loop, [this] { return !looping_; });
  }
  const std::lock_guard lock(mutex_);
  if (state_ != State::kOurs) return;
  state_ = State::kGivenBack;
  const auto found = read();
  if (!found || !is_sound(*found) || !is_ours(*found)) {
    events_.notice("the block that guards against mounting twice is not as it was left: it stays as it is");
    return;
  }
  if (const auto written = write(signed_block(EXT4_MMP_SEQ_CLEAN)); !written)
    events_.device_error(
        fmt::format("the volume could not be given free for others ({}): the next mount waits",
                    written.error().message()),
        {.error = written.error().value()});
}

Result<mmp_struct> MultiMountProtection::read() const {
  alignas(kPage) std::array<std::byte, kPage> bytes{};
  // Past the cache only whole sectors can be had.
  const std::size_t length = std::clamp(device_.sector(), sizeof(mmp_struct), bytes.size());
  RETURN_IF_ERROR(device_.read_past_cache(place_.offset, std::span(bytes).first(length)));
  mmp_struct block;
  std::memcpy(&block, bytes.data(), sizeof block);
  return block;
}

Result<void> MultiMountProtection::write(mmp_struct block) const {
  if (place_.checksum_seed) block.mmp_checksum = checksum(block);
  // Behind the structure the block is empty.
  alignas(kPage) std::array<std::byte, kPage> bytes{};
  const std::size_t length = std::clamp(device_.sector(), sizeof(mmp_struct), bytes.size());
  std::memcpy(bytes.data(), &block, sizeof block);
  return device_.write_past_cache(place_.offset, std::span(bytes).first(length));
}

bool MultiMountProtection::is_sound(const mmp_struct& block) const {
  return block.mmp_magic == EXT4_MMP_MAGIC &&
         (!place_.checksum_seed || block.mmp_checksum == checksum(block));
}

std::uint32_t MultiMountProtection::checksum(const mmp_struct& block) const {
  return crc32c(place_.checksum_seed.value_or(0), &block, offsetof(mmp_struct, mmp_checksum));
}

bool MultiMountProtection::is_ours(const mmp_struct& block) const {
  const auto mine = signed_block(sequence_);
  return (block.mmp_seq == sequence_ || block.mmp_seq == attempted_) &&
         std::ranges::equal(block.mmp_nodename, mine.mmp_nodename) &&
         std::ranges::equal(block.mmp_bdevname, mine.mmp_bdevname);
}

mmp_struct MultiMountProtection::signed_block(std::uint32_t sequence) const {
  mmp_struct block{};
  block.mmp_magic = EXT4_MMP_MAGIC;
  block.mmp_seq = sequence;
  block.mmp_time = static_cast<std::uint64_t>(std::time(nullptr));
  put(block.mmp_nodename, node_);
  put(block.mmp_bdevname, device_name_);
  block.mmp_check_interval = static_cast<std::uint16_t>(timing_.check_interval.count());
  return block;
}

bool MultiMountProtection::wait(seconds time) const {
  if (wait_) return wait_(time);
  std::this_thread::sleep_for(time);
  return true;
}

}  // namespace fuse4fs::ext4
