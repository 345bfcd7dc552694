// SPDX-License-Identifier: GPL-2.0-or-later
// The server as systemd starts it: through a socket, by a user without rights in a tree that is not its own,
// with sockets for signs of life and for the journal. This process plays systemd and journald, on a /run of
// its own.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Of server/service/message_ids.h, written out: programs rely on them.
constexpr char kMounted[] = "MESSAGE_ID=5444c21f930b42f6bdf8114af1af5867\n";
constexpr char kUnmounted[] = "MESSAGE_ID=7afe5d2925d04114942e330dd57e7fb0\n";
constexpr char kCorruption[] = "MESSAGE_ID=2877b15bde024719b158a63af6a5144b\n";
constexpr char kHung[] = "MESSAGE_ID=fd21d04c90e84abb840d01e4a4d884b3\n";
constexpr auto kPatience = 120s;

UniqueFd bound_socket(int type, const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0) << path;
  return socket;
}

UniqueFd listening_socket(const std::string& path) {
  UniqueFd socket = bound_socket(SOCK_SEQPACKET, path);
  EXPECT_EQ(::listen(socket.get(), 5), 0) << path;
  return socket;
}

bool has_caller(const UniqueFd& listening, int milliseconds) {
  pollfd waiting{.fd = listening.get(), .events = POLLIN, .revents = 0};
  return ::poll(&waiting, 1, milliseconds) > 0;
}

// Collects what comes in on a datagram socket, so that nobody finds it full.
class Listener {
 public:
  explicit Listener(const std::string& path)
      : socket_(bound_socket(SOCK_DGRAM, path)),
        thread_([this](const std::stop_token& stop) { listen(stop); }) {}

  // The first message from `from` on that has `part`, or nothing after a long time; `from` is then behind it.
  std::string next_with(std::string_view part, std::size_t& from, std::chrono::seconds patience = kPatience) {
    std::unique_lock lock(mutex_);
    const auto found = [&] {
      while (from < messages_.size())
        if (const auto& message = messages_[from++]; message.find(part) != std::string::npos) return true;
      return false;
    };
    return changed_.wait_for(lock, patience, found) ? messages_[from - 1] : "";
  }
  std::string first_with(std::string_view part) {
    std::size_t from = 0;
    return next_with(part, from);
  }
  std::size_t count() {
    const std::lock_guard lock(mutex_);
    return messages_.size();
  }

 private:
  void listen(const std::stop_token& stop) {
    std::array<char, 65536> bytes{};
    while (!stop.stop_requested()) {
      pollfd waiting{.fd = socket_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, 100) <= 0) continue;
      const auto size = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
      if (size < 0) continue;
      const std::lock_guard lock(mutex_);
      messages_.emplace_back(bytes.data(), static_cast<std::size_t>(size));
      changed_.notify_all();
    }
  }

  UniqueFd socket_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> messages_;  // guarded by mutex_
  std::jthread thread_;
};

// In the child: as a unit with DynamicUser=, an empty CapabilityBoundingSet= and NoNewPrivileges= leaves it.
// Descriptor `given` becomes 3.
[[noreturn]] void become_service(int program, int given, const char* watchdog) {
  constexpr unsigned kNobody = 65534;
  const auto require = [](bool done) {
    if (!done) ::_exit(120);
  };
  require(::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0);
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability)
    ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  require(::syscall(SYS_setgroups, 0, nullptr) == 0);
  require(::syscall(SYS_setresgid, kNobody, kNobody, kNobody) == 0);
  require(::syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0);
  require(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  const int null = ::open("/dev/null", O_RDWR);
  require(::dup2(null, 0) == 0 && ::dup2(null, 1) == 1);
  require(given == 3 ? ::fcntl(3, F_SETFD, 0) == 0 : ::dup2(given, 3) == 3);
  std::array<char, 32> listen_pid{"LISTEN_PID="};
  std::array<char, 32> watchdog_pid{"WATCHDOG_PID="};
  std::to_chars(listen_pid.data() + 11, listen_pid.end(), ::getpid());
  std::to_chars(watchdog_pid.data() + 13, watchdog_pid.end(), ::getpid());
  char fds[] = "LISTEN_FDS=1";
  char name[] = "fuse4fs";
  std::array<char, 600> room{"TITLE_ROOM="};
  std::memset(room.data() + 11, '.', room.size() - 12);
  char* const environment[] = {
      fds, listen_pid.data(), const_cast<char*>(watchdog), watchdog_pid.data(), room.data(), nullptr};
  char* const arguments[] = {name, nullptr};
  ::syscall(SYS_execveat, program, "", arguments, environment, AT_EMPTY_PATH);
  ::_exit(121);
}

class ServiceTest : public MountTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(::mount("run", "/run", "tmpfs", 0, "mode=755"), 0);
    for (const char* directory : {"/run/systemd/journal", "/run/filesystems"})
      fs::create_directories(directory);
    // Out of the way of the descriptors that the server is to find.
    const UniqueFd program(::open(FUSE4FS_SERVER, O_PATH | O_CLOEXEC));
    program_ = UniqueFd(::fcntl(program.get(), F_DUPFD_CLOEXEC, 100));
    ASSERT_TRUE(program_);
    systemd_.emplace("/run/systemd/notify");
    journal_.emplace("/run/systemd/journal/socket");
    listening_ = listening_socket("/run/filesystems/fuse4fs");
  }
  void TearDown() override {
    ::umount2(mount_point().c_str(), MNT_DETACH);
    if (server_ > 0) std::ignore = end_of_server();
  }

  pid_t start_server(int given, const char* watchdog, int standard_error = -1) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (standard_error >= 0) ::dup2(standard_error, STDERR_FILENO);
      become_service(program_.get(), given, watchdog);
    }
    return child;
  }

  void mount_service(const fs::path& image, const char* watchdog) {
    mount_service(image, watchdog, listening_, {});
  }
  // By what comes in at `listening`.
  void mount_service(const fs::path& image, const char* watchdog, const UniqueFd& listening,
                     const Command& options) {
    std::jthread accepting([&] {
      if (!has_caller(listening, 60'000)) return;
      const UniqueFd connection(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
      server_ = start_server(connection.get(), watchdog);
    });
    Command command{FUSE4FS_HELPER, image, mount_point()};
    command.insert(command.end(), options.begin(), options.end());
    const auto mounted = run(command);
    accepting.join();
    ASSERT_EQ(mounted.status, 0) << mounted.output;
    ASSERT_GT(server_, 0);
    const auto loops = loop_devices_of(image);
    ASSERT_EQ(loops.size(), 1U);
    device_ = loops.front();
  }

  int end_of_server() {
    int status = 0;
    if (::waitpid(server_, &status, 0) != server_) return -1;
    server_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  UniqueFd program_, listening_;
  std::optional<Listener> systemd_, journal_;
  std::string device_;
  pid_t server_ = -1;
};

TEST_F(ServiceTest, SystemdAndTheJournalHearOfIt) {
  const auto image = make_image();
  ASSERT_NO_FATAL_FAILURE(mount_service(image, "WATCHDOG_USEC=20000000"));
  const auto about = fmt::format("{} on {}", device_, mount_point().string());

  EXPECT_THAT(systemd_->first_with("READY=1"),
              AllOf(HasSubstr("\nSTATUS=" + about + ": "), HasSubstr(" free, no errors")));
  EXPECT_EQ(systemd_->first_with("WATCHDOG=1"), "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=20000000");
  EXPECT_THAT(journal_->first_with(kMounted),
              AllOf(HasSubstr("MESSAGE=" + about + ": mounted "), HasSubstr("PRIORITY=6\n"),
                    HasSubstr("SYSLOG_IDENTIFIER=fuse4fs\n"), HasSubstr("FUSE4FS_DEVICE=" + device_ + "\n"),
                    HasSubstr("FUSE4FS_MOUNT_POINT=" + mount_point().string() + "\n")));

  // What changes is told; once, as the next test of the text would find it the same.
  std::size_t heard = systemd_->count();
  write_file(mount_point() / "file", std::string(20 << 20, 'x'));
  ASSERT_EQ(run({"sync", "-f", mount_point() / "file"}).status, 0);
  EXPECT_THAT(systemd_->next_with("STATUS=", heard), HasSubstr(about));

#ifndef __SANITIZE_THREAD__  // whose own thread starts before main, with what the process had then
  for (const auto& task : fs::directory_iterator(fmt::format("/proc/{}/task", server_))) {
    const auto status = contents_of(task.path() / "status");
    EXPECT_THAT(status, AllOf(HasSubstr("CapPrm:\t0000000000000000"), HasSubstr("CapBnd:\t0000000000000000"),
                              HasSubstr("NoNewPrivs:\t1"), HasSubstr("Seccomp:\t2"),
                              HasSubstr("Uid:\t65534\t65534")));
  }
#endif
  int sockets = 0;
  for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", server_)))
    if (fs::read_symlink(entry.path()).string().starts_with("socket:")) ++sockets;
  EXPECT_EQ(sockets, 2);

  ASSERT_EQ(unmount().status, 0);
  EXPECT_EQ(systemd_->first_with("STOPPING=1"), "STOPPING=1\nSTATUS=unmounting");
  EXPECT_THAT(journal_->first_with(kUnmounted), HasSubstr(": unmounted\n"));
  EXPECT_EQ(end_of_server(), 0);
  expect_clean(image);
}

TEST_F(ServiceTest, TheOneBehindTheSocketOfOptionServiceServes) {
  const auto image = make_image();
  const std::string path = scratch() / "other";
  const UniqueFd other = listening_socket(path);
  ASSERT_NO_FATAL_FAILURE(mount_service(image, "WATCHDOG_USEC=20000000", other, {"-o", "service=" + path}));
  EXPECT_EQ(server(), server_);
  EXPECT_FALSE(has_caller(listening_, 0)) << "the usual socket was asked as well";
  write_file(mount_point() / "file", "content");
  EXPECT_EQ(contents_of(mount_point() / "file"), "content");
  ASSERT_EQ(unmount().status, 0);
  EXPECT_EQ(end_of_server(), 0);
  expect_clean(image);
}

// Neither the usual socket nor a server of the helper's own takes its place.
TEST_F(ServiceTest, WithoutTheSocketOfOptionServiceThereIsNoMount) {
  const auto image = make_image();
  const std::string absent = scratch() / "absent";
  const std::string deaf = scratch() / "deaf";
  const UniqueFd not_listening = bound_socket(SOCK_SEQPACKET, deaf);
  for (const auto& [path, why] :
       {std::pair(absent, "No such file or directory"), std::pair(deaf, "Connection refused")}) {
    const auto mounted = run({FUSE4FS_HELPER, "-v", image, mount_point(), "-o", "service=" + path});
    EXPECT_EQ(mounted.status, 32) << mounted.output;
    EXPECT_THAT(mounted.output,
                AllOf(HasSubstr(fmt::format("the service \"{}\" cannot be reached: {}", path, why)),
                      Not(HasSubstr("started "))));
    EXPECT_FALSE(has_caller(listening_, 0));
    EXPECT_EQ(server(), std::nullopt);
    EXPECT_TRUE(is_free(image));
    EXPECT_NE(::umount2(mount_point().c_str(), UMOUNT_NOFOLLOW), 0) << "it is mounted";
  }
}

TEST_F(ServiceTest, ARecordOfCorruptionNamesTheInode) {
  const auto image = make_image();
  ASSERT_EQ(run({"debugfs", "-w", "-R", "mkdir broken", image}).status, 0);
  const auto inode = run({"debugfs", "-R", "ncheck 12", image});
  ASSERT_THAT(inode.output, HasSubstr("/broken"));
  // The magic number of its extents.
  ASSERT_EQ(run({"debugfs", "-w", "-R", "set_inode_field <12> block[0] 0x1234", image}).status, 0);
  ASSERT_NO_FATAL_FAILURE(mount_service(image, "WATCHDOG_USEC=20000000"));

  EXPECT_THAT(run({"ls", mount_point() / "broken"}).output, HasSubstr("Structure needs cleaning"));
  EXPECT_THAT(journal_->first_with(kCorruption),
              AllOf(HasSubstr("PRIORITY=3\n"), HasSubstr("FUSE4FS_INODE=12\n"), HasSubstr("ERRNO=117\n"),
                    HasSubstr("FUSE4FS_DEVICE=" + device_ + "\n")));
  EXPECT_THAT(systemd_->first_with(", see the journal"), HasSubstr("STATUS=" + device_));
  ASSERT_EQ(unmount().status, 0);
}

// Freezes the file system that the image lies on, so that the device answers nothing.
class Freeze {
 public:
  explicit Freeze(const fs::path& place) : place_(::open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    frozen_ = ::ioctl(place_.get(), FIFREEZE, 0) == 0;
    EXPECT_TRUE(frozen_) << std::strerror(errno);
  }
  ~Freeze() { thaw(); }
  Freeze(const Freeze&) = delete;
  Freeze& operator=(const Freeze&) = delete;
  void thaw() {
    if (frozen_) ::ioctl(place_.get(), FITHAW, 0);
    frozen_ = false;
  }

 private:
  UniqueFd place_;
  bool frozen_ = false;
};

TEST_F(ServiceTest, TheWatchdogHearsNothingWhileTheDeviceHangs) {
  const auto outer = make_image("128M", {}, "outer");
  const auto backing = scratch() / "backing";
  fs::create_directory(backing);
  ASSERT_EQ(run({"mount", "-t", "ext4", "-o", "loop", outer, backing}).status, 0);
  const auto image = backing / "image";
  ASSERT_EQ(run({"mkfs.ext4", "-q", "-F", image, "32M"}).status, 0);
  // Everything is there already, so that only what follows waits.
  ASSERT_EQ(run({"dd", "if=/dev/zero", "of=" + image.string(), "bs=1M", "seek=32", "count=1", "conv=notrunc"})
                .status,
            0);
  ASSERT_EQ(run({"sync", "-f", image}).status, 0);
  ASSERT_NO_FATAL_FAILURE(mount_service(image, "WATCHDOG_USEC=2000000"));
  ASSERT_NE(systemd_->first_with("WATCHDOG=1"), "");

  {
    Freeze freeze(backing);
    std::jthread writer([&] {
      const UniqueFd file(::open((mount_point() / "file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
      (void)!::write(file.get(), "content", 7);
      ::fsync(file.get());
    });
    // A slow machine may look hung for a while before the device does hang: then it is said once more.
    bool silent = false;
    for (std::size_t said = 0; !silent && !journal_->next_with(kHung, said).empty();) {
      std::size_t heard = systemd_->count();
      silent = systemd_->next_with("WATCHDOG=1", heard, 3s).empty();
    }
    EXPECT_TRUE(silent) << "it never fell silent";
    std::size_t heard = systemd_->count();
    freeze.thaw();
    EXPECT_NE(systemd_->next_with("WATCHDOG=1", heard), "") << "it moves again, and nobody hears";
  }
  ASSERT_EQ(unmount().status, 0);
  EXPECT_EQ(end_of_server(), 0);
  expect_clean(image);
  ASSERT_EQ(::umount2(backing.c_str(), MNT_DETACH), 0);
}

// What a restart of a service with Accept=yes finds.
TEST_F(ServiceTest, ARestartWithTheListeningSocketEnds) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  server_ = start_server(listening_.get(), "WATCHDOG_USEC=20000000", writing.get());
  writing.reset();
  std::string words;
  std::array<char, 1024> bytes{};
  for (ssize_t size; (size = ::read(reading.get(), bytes.data(), bytes.size())) > 0;)
    words.append(bytes.data(), static_cast<std::size_t>(size));
  EXPECT_EQ(end_of_server(), 32);
  EXPECT_THAT(words, HasSubstr("started again without the connection of a mount"));
}

}  // namespace
}  // namespace fuse4fs::test
