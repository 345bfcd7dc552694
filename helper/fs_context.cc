// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/fs_context.h"

#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <string_view>

#include "base/quoted.h"

namespace fuse4fs::helper {

FsContext::FsContext(const char* type) : fd_(::fsopen(type, FSOPEN_CLOEXEC)) { note(fd_ ? 0 : -1, type); }

void FsContext::set(const char* key, const std::string& value) {
  if (ok()) note(::fsconfig(fd_.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0), key);
}

void FsContext::set(const char* flag) {
  if (ok()) note(::fsconfig(fd_.get(), FSCONFIG_SET_FLAG, flag, nullptr, 0), flag);
}

void FsContext::create() {
  if (ok()) note(::fsconfig(fd_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "mount");
}

Result<UniqueFd> FsContext::mount(unsigned attributes) {
  UniqueFd fd(::fsmount(fd_.get(), FSMOUNT_CLOEXEC, attributes));
  if (!fd) return fail_last();
  return fd;
}

bool takes_option(const char* type, const char* key, const std::string& value) {
  FsContext context(type);
  context.set(key, value);
  return context.ok();
}

void FsContext::note(int result, const char* step) {
  if (result == 0) return;
  error_ = Errno::last();
  words_ = fmt::format("{}: {}", step, error_.message());
  // Lines like "e fuse: Bad value for 'fd'": level, space, text.
  std::array<char, 512> line{};
  for (ssize_t length = 0; fd_ && (length = ::read(fd_.get(), line.data(), line.size())) > 0;) {
    std::string_view text(line.data(), static_cast<std::size_t>(length));
    if (text.size() > 2) text.remove_prefix(2);
    while (text.ends_with('\n')) text.remove_suffix(1);
    words_ += fmt::format("; kernel: {}", quoted(text));
  }
}

}  // namespace fuse4fs::helper
