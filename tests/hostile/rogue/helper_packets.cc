// SPDX-License-Identifier: GPL-2.0-or-later
// Packets that are none, too many of them, none at all, and in the wrong order.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "tests/hostile/rogue/talk.h"

namespace fuse4fs::rogue {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

Verdict raw(Place& place, std::string_view bytes) { return ask(place, raw_packet(bytes)); }

// A packet of a kind that the encoder makes, and something done to its bytes.
template <class Change>
Verdict changed(Place& place, const protocol::Command& command, Change change) {
  protocol::Bytes packet = protocol::encode(command);
  change(packet);
  return ask(place, packet);
}

constexpr auto kDecoder =
    behind("the helper's decoder: whatever is not exactly a packet ends the conversation");
constexpr auto kCounted = behind("the helper counts");

constexpr Attempt kTable[] = {
    {"packet_unknown", "a packet of an unknown kind", [](Place& place) { return raw(place, "EVILEVIL"); },
     Expected::kEnded, kDecoder},
    {"packet_short", "a packet of three bytes", [](Place& place) { return raw(place, "NAM"); },
     Expected::kEnded, kDecoder},
    {"packet_cut", "a packet that ends in the middle of a field",
     [](Place& place) { return raw(place, "DOIT\0\0"sv); }, Expected::kEnded, kDecoder},
    {"packet_longer", "a packet with bytes behind its end",
     [](Place& place) { return raw(place, "TYPE\0\0\0\1more"sv); }, Expected::kEnded, kDecoder},
    {"packet_at_limit", "a path longer than any path",
     [](Place& place) {
       std::string packet("OPEN\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"sv);
       return raw(place, packet + std::string(60'000, 'a') + '\0');
     },
     Expected::kEnded, kDecoder},
    {"packet_over_limit", "a packet over 64 KiB",
     [](Place& place) { return raw(place, "OPTS" + std::string(70'000, 'a') + '\0'); }, Expected::kEnded,
     kDecoder},
    {"packet_empty", "an empty packet",
     [](Place& place) {
       if (!send_only(place, {})) return by_errno(-1);
       return wait_for_end(place);
     },
     Expected::kEnded, kDecoder},
    {"packet_without_nul", "a string without its NUL",
     [](Place& place) { return raw(place, "NAME/dev/sda"); }, Expected::kEnded, kDecoder},
    {"packet_inner_nul", "a string with a NUL in it: two readings of one name",
     [](Place& place) { return raw(place, "NAME" + place.options->source + "\0/../sda\0"s); },
     Expected::kEnded, kDecoder},
    {"packet_empty_string", "an empty string", [](Place& place) { return raw(place, "NAME\0"sv); },
     Expected::kEnded, kDecoder},
    {"packet_padding", "padding that is not zero",
     [](Place& place) {
       return changed(
           place, protocol::SetMountPoint{place.options->mount_point, protocol::MountPointType::kDirectory},
           [](protocol::Bytes& packet) { packet[7] = std::byte{1}; });
     },
     Expected::kEnded, kDecoder},
    {"packet_mount_point_type", "a mount point of an unknown type",
     [](Place& place) {
       return changed(
           place, protocol::SetMountPoint{place.options->mount_point, protocol::MountPointType::kDirectory},
           [](protocol::Bytes& packet) { packet[4] = std::byte{0xff}; });
     },
     Expected::kEnded, kDecoder},
    {"packet_little_endian", "numbers in the machine's order",
     [](Place& place) { return raw(place, "TYPE\1\0\0\0"sv); }, Expected::kRefused,
     behind("the helper: an unknown flag")},
    {"packet_of_helper", "a packet that only the helper sends (SAFT)",
     [](Place& place) { return raw(place, "SAFT\0\1\0\1\0\0\0\3"sv); }, Expected::kEnded, kDecoder},
    {"packet_answer", "an answer where a question is due (FILE)",
     [](Place& place) { return raw(place, "FILE\0\0\0\0/etc/shadow\0"sv); }, Expected::kEnded, kDecoder},
    {"greeting_twice", "the greeting once more (LAST)",
     [](Place& place) { return raw(place, "LAST\0\1\0\0"sv); }, Expected::kEnded, kDecoder},
    {"flags_unknown", "request flags that do not exist",
     [](Place& place) {
       return changed(place, protocol::OpenFile{.path = "/etc/shadow"},
                      [](protocol::Bytes& packet) { packet[12] = std::byte{0x80}; });
     },
     Expected::kRefused, behind("the helper: an unknown flag")},
    {"flood_unknown_flags", "unknown flags without end",
     [](Place& place) {
       for (int i = 0; i < 100'000; ++i)
         if (const auto verdict = raw(place, "TYPE\x80\0\0\0"sv); verdict.kind != Verdict::Kind::kRefused)
           return verdict;
       return succeeded("100,000 packets");
     },
     Expected::kEnded, kCounted},
    {"flood_commands", "commands without end, which keep the helper busy",
     [](Place& place) {
       for (int i = 0; i < 100'000; ++i)
         if (const auto verdict = ask_open(place, "/etc/shadow", O_RDONLY);
             verdict.kind != Verdict::Kind::kRefused)
           return verdict;
       return succeeded("100,000 commands");
     },
     Expected::kEnded, kCounted},
    {"flood_without_reading", "commands without end, whose answers it does not read",
     [](Place& place) {
       const auto packet = protocol::encode(protocol::Command(
           protocol::OpenFile{.path = "/etc/shadow", .open_flags = O_RDONLY, .quiet = true}));
       for (int i = 0; i < 100'000; ++i)
         if (!send_only(place, packet))
           return errno == EPIPE || errno == ECONNRESET ? conversation_ended() : by_errno(-1);
       return succeeded("100,000 commands");
     },
     Expected::kEnded, behind("the helper's time limit"), "start-timeout=10"},
    {"flood_words", "a flood of words on standard error",
     [](Place& place) {
       const std::string line(4096, '!');
       for (int i = 0; i < 4096; ++i)
         if (::write(STDERR_FILENO, line.data(), line.size()) < 0) return by_errno(-1);
       // The helper still reads its socket.
       return ask_open(place, "/etc/shadow", O_RDONLY);
     },
     Expected::kRefused, behind("the helper shows 64 KiB of it, without control characters")},
    {"silence", "say nothing at all", wait_for_end, Expected::kEnded, behind("the helper's time limit"),
     "start-timeout=10"},
    {"silence_in_mount", "say nothing after half of the mount",
     [](Place& place) {
       if (auto verdict = ask(place, protocol::Command(protocol::SetSource{place.options->source}));
           verdict.kind != Verdict::Kind::kSucceeded)
         return verdict;
       return wait_for_end(place);
     },
     Expected::kEnded, behind("the helper's time limit"), "start-timeout=10"},
    {"goodbye_without_mount", "say that it serves, without a mount",
     [](Place& place) {
       if (!send_only(place, protocol::encode(protocol::Command(protocol::Goodbye{.exit_code = 0}))))
         return by_errno(-1);
       return wait_for_end(place);
     },
     Expected::kEnded, behind("the helper: nothing was mounted, which is a failure")},
    {"goodbye_and_more", "commands behind the goodbye",
     [](Place& place) {
       if (!send_only(place, protocol::encode(protocol::Command(protocol::Goodbye{.exit_code = 1}))))
         return by_errno(-1);
       return ask_open(place, "/etc/shadow", O_RDONLY);
     },
     Expected::kEnded, behind("the helper ends")},
};

}  // namespace

constinit const Theme kHelperPackets{"Packets to the helper", kTable};

}  // namespace fuse4fs::rogue
