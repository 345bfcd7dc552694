// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_request.h"

#include <algorithm>
#include <array>

namespace fuse4fs::helper {
namespace {

// Version, action, flags, source, target, options: each with a NUL behind it.
constexpr std::string_view kVersion = "fuse4fs-user-1";
constexpr std::size_t kFields = 6;
constexpr char kWords = 'W';
constexpr char kStatus = 'S';

std::string_view text_of(protocol::ByteView packet) {
  return {reinterpret_cast<const char*>(packet.data()), packet.size()};
}

void append(protocol::Bytes& bytes, std::string_view text) {
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
}

}  // namespace

protocol::Bytes encode_user_request(const UserRequest& request) {
  const std::string flags = std::string(request.verbose ? "v" : "") + (request.fake ? "f" : "");
  const std::string_view action = request.action == UserAction::kMount ? "mount" : "stop";
  protocol::Bytes bytes;
  for (const std::string_view field :
       {kVersion, action, std::string_view(flags), std::string_view(request.source),
        std::string_view(request.target), std::string_view(request.options)}) {
    append(bytes, field);
    bytes.push_back(std::byte{0});
  }
  return bytes;
}

Result<UserRequest> decode_user_request(protocol::ByteView packet) {
  if (packet.size() > kMostRequestBytes) return fail(EMSGSIZE);
  std::string_view rest = text_of(packet);
  std::array<std::string_view, kFields> fields;
  for (std::string_view& field : fields) {
    const auto end = rest.find('\0');
    if (end == std::string_view::npos) return fail(EBADMSG);
    field = rest.substr(0, end);
    rest.remove_prefix(end + 1);
  }
  const auto [version, action, flags, source, target, options] = fields;
  if (!rest.empty() || version != kVersion) return fail(EBADMSG);
  UserRequest request;
  if (action != "mount" && action != "stop") return fail(EBADMSG);
  request.action = action == "mount" ? UserAction::kMount : UserAction::kStop;
  for (const char flag : flags) {
    if (flag != 'v' && flag != 'f') return fail(EBADMSG);
    (flag == 'v' ? request.verbose : request.fake) = true;
  }
  if (source.empty() != (request.action == UserAction::kStop) || target.empty()) return fail(EBADMSG);
  // It is printed, compared and opened: what is no text has no business in it.
  const auto is_text = [](std::string_view field) {
    return std::ranges::none_of(field, [](unsigned char c) { return c < ' ' || c == 0x7f; });
  };
  if (!is_text(source) || !is_text(target) || !is_text(options)) return fail(EBADMSG);
  request.source = source;
  request.target = target;
  request.options = options;
  return request;
}

protocol::Bytes encode_user_words(std::string_view words) {
  protocol::Bytes bytes;
  append(bytes, std::string_view(&kWords, 1));
  append(bytes, words.substr(0, kMostReplyBytes - 1));
  return bytes;
}

protocol::Bytes encode_user_status(std::uint8_t status) {
  return {static_cast<std::byte>(kStatus), static_cast<std::byte>(status)};
}

Result<UserReply> decode_user_reply(protocol::ByteView packet) {
  const std::string_view text = text_of(packet);
  if (text.size() < 2 || text.size() > kMostReplyBytes) return fail(EBADMSG);
  if (text.front() == kWords) return UserReply{.words = std::string(text.substr(1)), .status = {}};
  if (text.front() != kStatus || text.size() != 2) return fail(EBADMSG);
  return UserReply{.words = {}, .status = static_cast<std::uint8_t>(text[1])};
}

}  // namespace fuse4fs::helper
