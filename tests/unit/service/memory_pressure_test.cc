// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/memory_pressure.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

namespace fuse4fs::service {
namespace {

std::vector<UniqueFd> some_files(std::size_t count) {
  std::vector<UniqueFd> files;
  for (std::size_t i = 0; i < count; ++i) files.emplace_back(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  return files;
}

TEST(MemoryPressure, WithoutAFileThereIsNothingToWaitFor) {
  MemoryPressure pressure;
  auto events = pressure.events();
  for (const pollfd& event : events) EXPECT_EQ(event.fd, -1);
  EXPECT_EQ(::poll(events.data(), events.size(), 0), 0);
  EXPECT_FALSE(pressure.rose(events));
}

TEST(MemoryPressure, OnlyItsOwnEventCounts) {
  MemoryPressure pressure(some_files(1));
  auto events = pressure.events();
  EXPECT_EQ(events[0].fd, pressure.files()[0].get());
  EXPECT_EQ(events[0].events, POLLPRI);
  EXPECT_EQ(events[1].fd, -1);
  EXPECT_FALSE(pressure.rose(events));
  events[0].revents = POLLIN;
  EXPECT_FALSE(pressure.rose(events));
  events[0].revents = POLLPRI;
  EXPECT_TRUE(pressure.rose(events));
  // A descriptor that was closed in the meantime is nobody's any more.
  events[0].fd += 100;
  EXPECT_FALSE(pressure.rose(events));
}

TEST(MemoryPressure, AFileThatFailedIsWaitedForNoMore) {
  MemoryPressure pressure(some_files(2));
  auto events = pressure.events();
  const int gone = events[0].fd;
  const int left = events[1].fd;
  // What the kernel says of a control group that was removed.
  events[0].revents = POLLPRI | POLLERR;
  events[1].revents = POLLPRI;
  EXPECT_TRUE(pressure.rose(events)) << "the other one counts";
  EXPECT_EQ(::fcntl(gone, F_GETFD), -1);
  EXPECT_EQ(pressure.events()[0].fd, left);
  EXPECT_EQ(pressure.events()[1].fd, -1);
}

TEST(MemoryPressure, NoMoreFilesThanItHasRoomFor) {
  const MemoryPressure pressure(some_files(MemoryPressure::kMost + 2));
  EXPECT_EQ(pressure.files().size(), MemoryPressure::kMost);
}

}  // namespace
}  // namespace fuse4fs::service
