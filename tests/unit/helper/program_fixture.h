// SPDX-License-Identifier: GPL-2.0-or-later
// The whole helper as a process, with the fake server as another: real namespaces, real loop devices, real
// mounts.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "helper/mount_record.h"
#include "helper/mount_table.h"
#include "tests/unit/helper/fake_server.h"
#include "tests/unit/helper/support.h"

namespace fuse4fs::helper::testing {

std::string text_of_file(const std::string& path);

// Processes whose program is this file.
std::vector<pid_t> processes_of(const std::string& program);

// Waits for it, a minute at most.
bool soon(const std::function<bool()>& condition);

class ProgramTest : public ::testing::Test {
 protected:
  struct Ended {
    int status = -1;
    std::string words;
  };

  void SetUp() override;
  void TearDown() override;

  // No mount at mount_point_, no loop device of image_, no server.
  void expect_nothing_left();
  // The same after a failed mount, which leaves no record either.
  void expect_no_trace();

  // `standard_error`: -1 for the file that wait() reads.
  pid_t start(std::vector<std::string> arguments, int standard_error = -1);
  Ended wait(pid_t pid);
  Ended run(std::vector<std::string> arguments) { return wait(start(std::move(arguments))); }
  Ended mount(Behaviour behaviour, const std::string& options = "rw");
  // What servers that are started from now on do, and before which step (fake_server.h).
  void plan_attack(Attack attack, int step);

  // Nothing in it if nothing is mounted.
  MountEntry mounted() { return find_mount(mount_point_).value_or(MountEntry{}); }
  // Of the mount of image_.
  [[nodiscard]] std::optional<MountRecord> record() const;

  TemporaryDirectory directory_;
  std::string image_;
  std::string mount_point_;
  std::string helper_;
  std::string server_;
};

}  // namespace fuse4fs::helper::testing
