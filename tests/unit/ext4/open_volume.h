// SPDX-License-Identifier: GPL-2.0-or-later
// A volume with its classes, without the face over it: for what is done between the journal and the first
// request.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include "server/ext4/credits.h"
#include "server/ext4/metadata.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {

class OpenVolume {
 public:
  explicit OpenVolume(TestVolume& of, ErrorPolicy policy = ErrorPolicy::kContinue) {
    UniqueFd file(::open(of.image().c_str(), O_RDWR | O_CLOEXEC));
    auto device = cache::BlockDevice::adopt(std::move(file), {}, cache::Access::kReadWrite);
    auto opened = Volume::open(std::move(*device), {.errors = policy}, of.events);
    if (!opened) {
      ADD_FAILURE() << opened.error().message;
      std::abort();
    }
    volume_ = std::move(*opened);
    metadata_.emplace(*volume_);
  }

  Volume& volume() { return *volume_; }
  Metadata& metadata() { return *metadata_; }
  // To be held around what changes metadata; after the locks of inodes, and not across a write-back or
  // finish().
  [[nodiscard]] journal::Handle change(journal::Credits credits = credits::of_map) {
    return volume_->journal().start(credits);
  }
  // Under one of its own.
  template <class Change>
  auto changing(Change what) {
    const auto handle = change();
    return what();
  }
  // As an unmount; without it nothing is written.
  void finish() {
    metadata_.reset();
    const auto done = volume_->mark_clean();
    EXPECT_TRUE(done) << done.error().message();
    volume_->close();
    volume_.reset();
  }

 private:
  std::unique_ptr<Volume> volume_;
  std::optional<Metadata> metadata_;
};

}  // namespace fuse4fs::ext4
