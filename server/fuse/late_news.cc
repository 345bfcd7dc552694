// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/late_news.h"

#include "base/log.h"
#include "server/fuse/conversions.h"
#include "server/fuse/notifications.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {
namespace {

// More files than these at once are told of without waiting.
constexpr std::size_t kMostWaiting = 4096;

// Whoever was writing comes back within this time, or learns it from fsync or close. Readers at the file's
// end ask as writers do: they should not be told for ever.
constexpr std::chrono::seconds kWriterComesWithin{2};

}  // namespace

void LateNews::written(std::uint64_t node, const ext4::SectorCounts& sectors) {
  if (sectors.before == sectors.after) return;
  if (sectors.before != 0) {
    const std::lock_guard lock(mutex_);
    device_fd_ = CurrentRequest::device_fd();
    if (grown_.size() < kMostWaiting) {
      grown_.insert(node);
      return;
    }
  }
  invalidate_attributes(node);
}

void LateNews::not_written(std::uint64_t node, Errno error) {
  {
    const std::lock_guard lock(mutex_);
    const bool first = !failures_.contains(node);
    if (first && failures_.size() >= kMostWaiting) return;
    failures_.insert_or_assign(node, Failure{error, Clock::now()});
    if (first)
      log_warning("inode {}: what was written to the file earlier cannot be kept: {}", inode_number(node),
                  error.message());
  }
  invalidate_attributes(node);
}

std::optional<Errno> LateNews::error_for_writer(std::uint64_t node) {
  const std::lock_guard lock(mutex_);
  const auto found = failures_.find(node);
  if (found == failures_.end()) return std::nullopt;
  const Failure failure = found->second;
  failures_.erase(found);
  if (Clock::now() - failure.when > kWriterComesWithin) return std::nullopt;
  return failure.error;
}

void LateNews::tell() {
  std::unordered_set<std::uint64_t> nodes;
  int device_fd = -1;
  {
    const std::lock_guard lock(mutex_);
    nodes.swap(grown_);
    device_fd = device_fd_;
    std::erase_if(failures_, [now = Clock::now()](const auto& entry) {
      return now - entry.second.when > kWriterComesWithin;
    });
  }
  for (const std::uint64_t node : nodes) invalidate_attributes(device_fd, node);
}

}  // namespace fuse4fs::fuse
