// SPDX-License-Identifier: GPL-2.0-or-later
// What comes with the start: counted as sd_listen_fds(3) does, and nothing kept but the connection.
#include "server/service/inherited.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace fuse4fs::service {
namespace {

TEST(Inherited, CountsWhatIsForThisProcess) {
  EXPECT_EQ(inherited_count("1", "42", 42), 1);
  EXPECT_EQ(inherited_count("3", "42", 42), 3);
  EXPECT_FALSE(inherited_count("1", "43", 42));
  EXPECT_FALSE(inherited_count("1", nullptr, 42));
  EXPECT_FALSE(inherited_count(nullptr, "42", 42));
  for (const char* count : {"0", "-1", "", "1x", " 1", "1025", "99999999999999999999"})
    EXPECT_FALSE(inherited_count(count, "42", 42)) << count;
}

#define REQUIRE(condition) ((condition) ? static_cast<void>(0) : ::_exit(__LINE__ % 255 + 1))

// In a child, as the descriptors have fixed places.
void in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << "the check in line " << (WIFEXITED(status) ? WEXITSTATUS(status) - 1 : -1) << " (modulo 255)";
}

bool is_open(int descriptor) { return ::fcntl(descriptor, F_GETFD) >= 0; }

void place(int descriptor, int at) { REQUIRE(::dup2(descriptor, at) == at); }

// At 100 and 101, out of the way.
struct Ends {
  Ends() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    place(ends[0], 100);
    place(ends[1], 101);
    const int listening = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;  // the kernel chooses an abstract name
    REQUIRE(::bind(listening, reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t)) == 0);
    REQUIRE(::listen(listening, 1) == 0);
    place(listening, 102);
    REQUIRE(::close_range(3, 99, 0) == 0);
  }
  static constexpr int kConnection = 100, kListening = 102;
};

TEST(Inherited, TakesTheConnection) {
  in_child([] {
    const Ends ends;
    place(Ends::kConnection, 3);
    place(Ends::kConnection, 9);  // nobody's
    auto taken = take_connection(1);
    REQUIRE(taken && taken->get() == 3);
    REQUIRE(!is_open(9));
  });
}

// What a restart of a service with Accept=yes finds.
TEST(Inherited, ClosesASocketThatListens) {
  in_child([] {
    const Ends ends;
    place(Ends::kListening, 3);
    const auto taken = take_connection(1);
    REQUIRE(!taken && taken.error().error == Errno(ENOTCONN));
    REQUIRE(taken.error().message.find("started again") != std::string::npos);
    REQUIRE(!is_open(3));
  });
}

TEST(Inherited, TakesTheConnectionFromAmongOthers) {
  in_child([] {
    const Ends ends;
    place(Ends::kListening, 3);
    place(STDERR_FILENO, 4);
    place(Ends::kConnection, 5);
    place(Ends::kConnection, 6);
    auto taken = take_connection(4);
    REQUIRE(taken && taken->get() == 5);
    for (const int closed : {3, 4, 6}) REQUIRE(!is_open(closed));
  });
}

TEST(Inherited, RefusesWhatIsNoSocket) {
  in_child([] {
    const Ends ends;
    place(STDERR_FILENO, 3);
    const auto taken = take_connection(1);
    REQUIRE(!taken && taken.error().error == Errno(ENOTCONN));
    REQUIRE(!is_open(3));
  });
}

}  // namespace
}  // namespace fuse4fs::service
