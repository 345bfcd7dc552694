// SPDX-License-Identifier: GPL-2.0-or-later
// What an ordinary user's mount.fuse4fs and the users' service say to each other, as packets.
//
// One request, then words for the user's standard error, last the exit status. A request is hostile: it is
// small, all text, and every field is checked by whoever uses it. EBADMSG for everything that is not exactly
// a request; EMSGSIZE for one over the limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/messages.h"

namespace fuse4fs::helper {

inline constexpr char kUserServiceSocket[] = "/run/fuse4fs-mount";
inline constexpr std::size_t kMostRequestBytes = 16384;
inline constexpr std::size_t kMostReplyBytes = 4096;

enum class UserAction { kMount, kStop };

struct UserRequest {
  UserAction action = UserAction::kMount;
  bool verbose = false;  // -v
  bool fake = false;     // -f
  std::string source;    // empty for kStop
  std::string target;
  std::string options;
  friend bool operator==(const UserRequest&, const UserRequest&) = default;
};

// Exactly one of the two.
struct UserReply {
  std::string words;  // not empty: to be shown
  std::optional<std::uint8_t> status;
};

protocol::Bytes encode_user_request(const UserRequest& request);
Result<UserRequest> decode_user_request(protocol::ByteView packet);

protocol::Bytes encode_user_words(std::string_view words);  // kMostReplyBytes - 1 at most
protocol::Bytes encode_user_status(std::uint8_t status);
Result<UserReply> decode_user_reply(protocol::ByteView packet);

}  // namespace fuse4fs::helper
