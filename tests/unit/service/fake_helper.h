// SPDX-License-Identifier: GPL-2.0-or-later
// A mount helper in a thread: it answers as told, and writes down what it was asked.
//
// Each command has a name here: its tag, and for BDEV and OPEN what was asked for ("BDEV rw excl", "OPEN
// clone"). Devices are told apart by what stands in for them: plain ones are /dev/null, direct ones
// /dev/zero, and a claim is the write end of a pipe, so that the helper can see when the last copy of it is
// closed.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "protocol/arguments.h"
#include "protocol/channel.h"
#include "tests/unit/protocol/support.h"

namespace fuse4fs::service::testing {

enum class Whose { kOurs, kLibfuses };

class FakeHelper {
 public:
  // What may stand for an errno in Script::answers.
  static constexpr int kHangUp = -1;        // closes the socket instead of an answer
  static constexpr int kHostile = -2;       // success, with a descriptor too many or too few
  static constexpr int kRealFile = -3;      // OPEN: a file of that name, with the flags that were asked for
  static constexpr int kPressureFile = -4;  // OPEN: a regular file

  struct Script {
    Whose whose = Whose::kOurs;
    protocol::Arguments arguments{"ext4", "/dev/fake", "/mnt"};
    protocol::Hello hello{.may_allow_other = true, .may_use_fuseblk = true};
    // By name of the command, the answers in turn; 0 when there are no more.
    std::map<std::string, std::deque<int>> answers{};
  };

  explicit FakeHelper(Script script);
  FakeHelper(const FakeHelper&) = delete;
  FakeHelper& operator=(const FakeHelper&) = delete;
  ~FakeHelper() = default;

  // The server's end of the socket. Once.
  UniqueFd take_socket() { return std::move(pair_.one); }
  // Waits until the conversation is over; then what was asked, in order, values included.
  const std::vector<std::string>& finish();

 private:
  void run();
  int next_answer(const std::string& name);
  // False to hang up.
  bool answer_open(protocol::HelperEnd& end, const std::string& name, const std::string& path,
                   std::uint32_t flags);
  bool answer_simple(protocol::HelperEnd& end, const std::string& name);

  Script script_;
  protocol::testing::SocketPair pair_;
  UniqueFd claim_watch_;  // read end of the pipe whose write end the server holds as its claim
  std::vector<std::string> asked_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace fuse4fs::service::testing
