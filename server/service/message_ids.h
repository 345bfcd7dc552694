// SPDX-License-Identifier: GPL-2.0-or-later
// The MESSAGE_IDs of the server's records in the journal (systemd.journal-fields(7)): for programs that wait
// for them, and for `journalctl -x`, which shows the text that units/fuse4fs.catalog has for each.
#pragma once

#include <string_view>

namespace fuse4fs::service {

inline constexpr std::string_view kMounted = "5444c21f930b42f6bdf8114af1af5867";
inline constexpr std::string_view kUnmounted = "7afe5d2925d04114942e330dd57e7fb0";
// Unmounted, but not everything could be written.
inline constexpr std::string_view kNotAllWritten = "2b548940c85248ae8ff4c55367ad0c82";
// A signal ended it while it was mounted.
inline constexpr std::string_view kStopped = "afa5f683d7da4ac99def95538d7e6a7b";
inline constexpr std::string_view kCorruption = "2877b15bde024719b158a63af6a5144b";
inline constexpr std::string_view kDeviceError = "225abcc088274c09a4bf5be53f10acfc";
inline constexpr std::string_view kReadOnly = "546f3df6b0da4df2b8ae0274d7b5859b";
inline constexpr std::string_view kShutDown = "3c53221ea8964a55898a2bedb4412c0d";
inline constexpr std::string_view kRecovered = "d47bba94c9934d10867cf0f919f5ee97";
// Requests do not move: the watchdog is told nothing any more.
inline constexpr std::string_view kHung = "fd21d04c90e84abb840d01e4a4d884b3";

inline constexpr std::string_view kMessageIds[] = {kMounted,    kUnmounted,   kNotAllWritten, kStopped,
                                                   kCorruption, kDeviceError, kReadOnly,      kShutDown,
                                                   kRecovered,  kHung};

}  // namespace fuse4fs::service
