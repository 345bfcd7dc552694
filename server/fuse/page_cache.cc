// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/page_cache.h"

#include <charconv>
#include <utility>

namespace fuse4fs::fuse {
namespace {

using Version = std::pair<unsigned, unsigned>;

constexpr Version kReadsThroughIomap{6, 19};

// "6.12.43+deb13-amd64". Of what is none, nothing is known: the newest.
Version version_of(std::string_view release) {
  Version version{~0U, 0};
  const char* const end = release.data() + release.size();
  const auto [dot, error] = std::from_chars(release.data(), end, version.first);
  if (error == std::errc() && dot != end && *dot == '.') std::from_chars(dot + 1, end, version.second);
  return version;
}

}  // namespace

PageCache page_cache_for(std::string_view kernel_release, std::uint32_t block_size, std::uint32_t page_size) {
  const bool loses_blocks = version_of(kernel_release) >= kReadsThroughIomap && block_size < page_size;
  return loses_blocks ? PageCache::kWriteThrough : PageCache::kWriteBack;
}

}  // namespace fuse4fs::fuse
