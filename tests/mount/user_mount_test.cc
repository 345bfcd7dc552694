// SPDX-License-Identifier: GPL-2.0-or-later
// Mounts for ordinary users: mount(8), mount.fuse4fs and umount(8) as somebody without any power, the users'
// service on its socket in this test's own /run, and polkit's program replaced by one that answers as told.
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <span>
#include <thread>

#include "base/unique_fd.h"
#include "protocol/descriptor_packet.h"
#include "tests/mount/fixture.h"
#include "tests/mount/installed.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kSocket[] = "/run/fuse4fs-mount";
constexpr std::chrono::seconds kPatience{60};

template <class Condition>
bool comes_true(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

// What a systemd socket unit with Accept=yes does, in a process of its own.
class SocketUnit {
 public:
  SocketUnit() {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, kSocket);
    UniqueFd listening(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::chmod(kSocket, 0666), 0);
    EXPECT_EQ(::listen(listening.get(), 16), 0);
    process_ = ::fork();
    if (process_ == 0) serve(listening.get());
  }
  SocketUnit(const SocketUnit&) = delete;
  SocketUnit& operator=(const SocketUnit&) = delete;
  ~SocketUnit() {
    ::kill(process_, SIGTERM);
    ::waitpid(process_, nullptr, 0);
  }
  // How many of its services run.
  [[nodiscard]] int running() const {
    const std::string children =
        contents_of("/proc/" + std::to_string(process_) + "/task/" + std::to_string(process_) + "/children");
    return static_cast<int>(std::ranges::count(children, ' '));
  }

 private:
  [[noreturn]] static void serve(int listening) {
    ::signal(SIGCHLD, SIG_IGN);
    for (;;) {
      const int connection = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) ::_exit(0);
      if (::fork() == 0) {
        ::signal(SIGCHLD, SIG_DFL);
        // Descriptor 3 without close-on-exec, whatever it was before.
        const int high = ::fcntl(connection, F_DUPFD_CLOEXEC, 10);
        ::dup2(high, 3);
        ::execl("/usr/sbin/mount.fuse4fs", "mount.fuse4fs", "--user-service", nullptr);
        ::_exit(127);
      }
      ::close(connection);
    }
  }
  pid_t process_ = -1;
};

class UserMount : public MountTest {
 protected:
  static constexpr uid_t kUser = 65534;
  static constexpr uid_t kOther = 65533;

  void SetUp() override {
    struct stat program = {};
    struct statvfs system = {};
    if (::stat("/usr/bin/mount", &program) != 0 || ::statvfs("/usr/bin/mount", &system) != 0 ||
        (program.st_mode & S_ISUID) == 0 || (system.f_flag & ST_NOSUID) != 0 ||
        ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0)
      GTEST_SKIP() << "SKIPPED: mount(8) is not setuid here, or that has no effect";
    installed_.emplace(scratch());
    // Sockets and utab of this test alone.
    ASSERT_EQ(::mount("tmpfs", "/run", "tmpfs", 0, "mode=755"), 0) << std::strerror(errno);
    fs::create_directory("/run/mount");
    fs::create_directory("/run/lock");
    image_ = make_image();
    fs::permissions(image_, fs::perms(0600));
    fstab_.emplace(scratch());
    unit_.emplace();
  }
  void TearDown() override {
    unit_.reset();
    fstab_.reset();
    ::umount2("/run", MNT_DETACH);
    if (!device_.empty()) {
      EXPECT_EQ(::chown(device_.c_str(), device_status_.st_uid, device_status_.st_gid), 0);
      EXPECT_EQ(run({"losetup", "-d", device_}).status, 0);
    }
  }

  void write_fstab(const std::string& options) {
    write_fstab_line(image_.string(), mount_point().string(), options);
  }
  void write_fstab_line(const std::string& source, const std::string& target, const std::string& options) {
    write_fstab_lines(source + " " + target + " fuse4fs noauto,log=" + (scratch() / "log").string() + "," +
                      options + " 0 0\n");
  }
  void write_fstab_lines(const std::string& lines) { fstab_->write(lines); }
  void make_device() {
    const auto made = run({"losetup", "--show", "-f", image_});
    device_ = made.output.substr(0, made.output.find('\n'));
    ASSERT_EQ(::stat(device_.c_str(), &device_status_), 0) << made.output;
  }
  // /usr/bin/pkcheck, which writes its arguments to `asked()` and then does this.
  void answer_for_polkit(const std::string& script) {
    if (!pkcheck_) pkcheck_.emplace("/usr/bin", scratch());
    fs::remove("/usr/bin/pkcheck");
    write_file("/usr/bin/pkcheck",
               "#!/bin/sh\necho \"$@\" > " + (scratch() / "asked").string() + "\n" + script + "\n");
    fs::permissions("/usr/bin/pkcheck", fs::perms(0755));
  }
  [[nodiscard]] std::string asked() const { return contents_of(scratch() / "asked"); }

  static Finished run_as(uid_t user, Command command) {
    const std::string id = std::to_string(user);
    Command whole{"setpriv", "--reuid", id, "--regid", id, "--clear-groups"};
    whole.insert(whole.end(), command.begin(), command.end());
    return run(whole);
  }
  [[nodiscard]] std::string mount_line() const {
    return run({"findmnt", "-n", "-o", "FSTYPE,OPTIONS", mount_point()}).output;
  }

  fs::path image_;
  std::string device_;
  struct stat device_status_ = {};  // as it was
  std::optional<SocketUnit> unit_;

 private:
  std::optional<Installed> installed_;
  std::optional<Fstab> fstab_;
  std::optional<Overlay> pkcheck_;
};

TEST_F(UserMount, WithTheWordUserByMount8AndUmount8) {
  write_fstab("user,suid,dev");
  const auto mounted = run_as(kUser, {"mount", mount_point()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_EQ(mounted.output, "");
  EXPECT_THAT(mount_line(), AllOf(HasSubstr("fuseblk.fuse4fs"), HasSubstr("nosuid,nodev,noexec"),
                                  HasSubstr("user_id=65534,group_id=65534")));
  // Somebody else may not unmount it, and busy is said.
  EXPECT_NE(run_as(kOther, {"umount", mount_point()}).status, 0);
  EXPECT_THAT(mount_line(), Not(IsEmpty()));
  {
    const UniqueFd busy(::open(mount_point().c_str(), O_RDONLY | O_CLOEXEC));
    const auto refused = run_as(kUser, {"umount", mount_point()});
    EXPECT_EQ(refused.status, 32);
    EXPECT_THAT(refused.output, HasSubstr("busy"));
  }
  const auto unmounted = run_as(kUser, {"umount", mount_point()});
  EXPECT_EQ(unmounted.status, 0) << unmounted.output;
  EXPECT_THAT(mount_line(), IsEmpty());
  EXPECT_TRUE(server_ends(60));
  expect_clean(image_);
}

TEST_F(UserMount, WithTheWordUsersAnybodyUnmounts) {
  write_fstab("users,exec");
  const auto mounted = run_as(kUser, {"mount", "-r", mount_point()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(mount_line(), AllOf(HasSubstr(" ro,nosuid,nodev,relatime"), Not(HasSubstr("noexec"))));
  const auto unmounted = run_as(kOther, {"umount", mount_point()});
  EXPECT_EQ(unmounted.status, 0) << unmounted.output;
}

TEST_F(UserMount, TheOwnerOfADeviceByTheHelperItself) {
  make_device();
  ASSERT_EQ(::chown(device_.c_str(), kUser, 0), 0);
  write_fstab_line(device_, mount_point(), "owner");
  const auto refused = run_as(kOther, {"mount.fuse4fs", device_, mount_point()});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.output, HasSubstr("owner"));
  const auto mounted = run_as(kUser, {"mount.fuse4fs", device_, mount_point(), "-o", "noexec"});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(mount_line(), HasSubstr("nosuid,nodev,noexec"));
  // Where umount(8) is not setuid the service does that, too.
  const Command stop{"mount.fuse4fs", "--stop", mount_point()};
  const auto not_yours = run_as(kOther, stop);
  EXPECT_EQ(not_yours.status, 1);
  EXPECT_THAT(not_yours.output, HasSubstr("not mounted by you"));
  {
    const UniqueFd busy(::open(mount_point().c_str(), O_RDONLY | O_CLOEXEC));
    const auto in_use = run_as(kUser, stop);
    EXPECT_EQ(in_use.status, 32);
    EXPECT_THAT(in_use.output, HasSubstr("busy"));
  }
  const auto stopped = run_as(kUser, stop);
  EXPECT_EQ(stopped.status, 0) << stopped.output;
  EXPECT_THAT(mount_line(), IsEmpty());
  expect_clean(image_);
}

TEST_F(UserMount, WhatNoLineAllowsIsRefusedInWords) {
  answer_for_polkit("exit 1");
  fs::create_directory(scratch() / "elsewhere");
  fs::create_symlink(mount_point(), scratch() / "link");
  const auto other_image = make_image("16M", {}, "other");
  struct Case {
    std::string why;
    std::string source, target, options;  // of the line
    Command command;
    std::string words;
  };
  const std::string image = image_.string();
  const std::string target = mount_point().string();
  const std::vector<Case> cases{
      {"no word", image, target, "rw", {"mount.fuse4fs", image, target}, "neither user nor users"},
      {"another directory",
       image,
       target,
       "user",
       {"mount.fuse4fs", image, scratch() / "elsewhere"},
       "no line for"},
      {"another image", image, target, "user", {"mount.fuse4fs", other_image, target}, "no line for"},
      {"an option of root's",
       image,
       target,
       "user",
       {"mount.fuse4fs", image, target, "-o", "noacl"},
       "noacl"},
      {"a file of root's",
       image,
       target,
       "user",
       {"mount.fuse4fs", image, target, "-o", "log=/etc/passwd"},
       "log="},
      {"a link in the line",
       image,
       scratch() / "link",
       "user",
       {"mount.fuse4fs", image, scratch() / "link"},
       "no line for"},
      {"another namespace", image, target, "user", {"mount.fuse4fs", image, target, "-N", "1"}, "only root"},
      {"another type", image, target, "user", {"mount.fuse4fs", image, target, "-t", "ext4"}, "only root"},
      {"abort", image, target, "user", {"mount.fuse4fs", "--abort", target}, "only root"},
      {"no directory", image, target, "user", {"mount.fuse4fs", image, "/nonexistent"}, "/nonexistent"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.why);
    write_fstab_line(one.source, one.target, one.options);
    const auto refused = run_as(kUser, one.command);
    EXPECT_EQ(refused.status, 1) << refused.output;
    EXPECT_THAT(refused.output, HasSubstr(one.words));
    EXPECT_THAT(mount_line(), IsEmpty());
  }
  EXPECT_EQ(asked(), "");  // none of it was polkit's to decide
  EXPECT_TRUE(comes_true([&] { return unit_->running() == 0; }));
  EXPECT_THAT(loop_devices_of(image_), IsEmpty());
}

TEST_F(UserMount, WithoutALineItIsForPolkitToSay) {
  make_device();
  write_fstab_line(device_, "/nowhere", "user");
  const Command mount{"mount.fuse4fs", device_, mount_point(), "-o", "noatime"};
  // A directory of somebody else's is not even asked about.
  answer_for_polkit("exit 0");
  EXPECT_THAT(run_as(kUser, mount).output, HasSubstr("nor a directory of yours"));
  EXPECT_EQ(asked(), "");
  ASSERT_EQ(::chown(mount_point().c_str(), kUser, kUser), 0);
  for (const auto& [answer, words] :
       {std::pair{"exit 1", "does not allow it"}, std::pair{"exit 2", "nobody to ask"},
        std::pair{"exit 3", "dismissed"}, std::pair{"exit 127", "does not answer"},
        std::pair{"kill $$", "does not answer"}}) {
    answer_for_polkit(answer);
    const auto refused = run_as(kUser, mount);
    EXPECT_EQ(refused.status, 1);
    EXPECT_THAT(refused.output, HasSubstr(words));
    EXPECT_THAT(mount_line(), IsEmpty());
  }
  answer_for_polkit("exit 0");
  const auto mounted = run_as(kUser, mount);
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(asked(),
              AllOf(HasSubstr("--action-id org.fuse4fs.mount"), HasSubstr(",65534 "),
                    HasSubstr("device " + device_), HasSubstr("directory " + mount_point().string())));
  EXPECT_THAT(mount_line(), AllOf(HasSubstr("nosuid,nodev,noatime"), HasSubstr("user_id=65534")));
  // umount(8) needs neither line nor note for it.
  EXPECT_NE(run_as(kOther, {"umount", mount_point()}).status, 0);
  const auto unmounted = run_as(kUser, {"umount", mount_point()});
  EXPECT_EQ(unmounted.status, 0) << unmounted.output;
  expect_clean(image_);
}

TEST_F(UserMount, ASecondMountIsTheSameUsersOnly) {
  make_device();
  const auto second = scratch() / "second";
  fs::create_directory(second);
  const auto line = [&](const fs::path& target) {
    return device_ + " " + target.string() + " fuse4fs noauto,users,log=" + (scratch() / "log").string() +
           " 0 0\n";
  };
  write_fstab_lines(line(mount_point()) + line(second));
  const auto mounted = run_as(kUser, {"mount", mount_point()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  for (const auto& refused : {run_as(kOther, {"mount", second}), run({"mount.fuse4fs", device_, second})}) {
    EXPECT_NE(refused.status, 0);
    EXPECT_THAT(refused.output, HasSubstr("is mounted already, for user 65534"));
  }
  const auto again = run_as(kUser, {"mount", second});
  ASSERT_EQ(again.status, 0) << again.output;
  // Each is unmounted for itself.
  const auto stopped = run_as(kUser, {"mount.fuse4fs", "--stop", second});
  EXPECT_EQ(stopped.status, 0) << stopped.output;
  EXPECT_NE(run({"findmnt", "-n", second}).status, 0);
  EXPECT_THAT(mount_line(), HasSubstr("user_id=65534"));
  EXPECT_EQ(run_as(kUser, {"mount.fuse4fs", "--stop", mount_point()}).status, 0);
  // The same the other way round.
  const auto roots = run({"mount.fuse4fs", device_, mount_point()});
  ASSERT_EQ(roots.status, 0) << roots.output;
  EXPECT_THAT(run_as(kUser, {"mount", second}).output, HasSubstr("is mounted already, for root"));
  unmount_and_check(image_);
}

// All places of one user are taken by mounts that are under way: helper/user_mount_claim.h.
TEST_F(UserMount, MountsUnderWayCount) {
  write_fstab("user");
  fs::create_directories("/run/fuse4fs/mounts");
  fs::permissions("/run/fuse4fs/mounts", fs::perms(0700));
  UniqueFd claims(::open("/run/fuse4fs/mounts/.claims", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  struct flock places = {};
  places.l_type = F_WRLCK;
  places.l_start = 64LL * kUser + 1;
  places.l_len = 32;
  ASSERT_EQ(::fcntl(claims.get(), F_OFD_SETLK, &places), 0) << std::strerror(errno);
  const auto refused = run_as(kUser, {"mount", mount_point()});
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.output, HasSubstr("32 volumes mounted already"));
  claims.reset();
  const auto mounted = run_as(kUser, {"mount", mount_point()});
  EXPECT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_EQ(run_as(kUser, {"umount", mount_point()}).status, 0);
  expect_clean(image_);
}

TEST_F(UserMount, WhoLeavesIsNotMountedFor) {
  make_device();
  ASSERT_EQ(::chown(mount_point().c_str(), kUser, kUser), 0);
  answer_for_polkit("exec sleep 1000");
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string id = std::to_string(kUser);
    ::execlp("setpriv", "setpriv", "--reuid", id.c_str(), "--regid", id.c_str(), "--clear-groups",
             "mount.fuse4fs", device_.c_str(), mount_point().c_str(), nullptr);
    ::_exit(127);
  }
  EXPECT_TRUE(comes_true([&] { return !asked().empty(); }));
  EXPECT_EQ(unit_->running(), 1);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(comes_true([&] { return unit_->running() == 0; }));
  EXPECT_THAT(mount_line(), IsEmpty());
}

TEST_F(UserMount, FromAnotherMountNamespaceNothing) {
  write_fstab("user");
  const std::string id = std::to_string(kUser);
  const auto refused = run({"unshare", "--mount", "setpriv", "--reuid", id, "--regid", id, "--clear-groups",
                            "mount.fuse4fs", image_, mount_point()});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.output, HasSubstr("another mount namespace"));
}

// What a program of the user's own may say to the service, and what it hears: words, then the status as text.
std::string ask_raw(uid_t user, const std::string& packet, int descriptor = -1) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(user, user, user) != 0 ||
        ::setresuid(user, user, user) != 0)
      ::_exit(1);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, kSocket);
    const int socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) ::_exit(2);
    const std::span<const int> descriptors(&descriptor, descriptor >= 0 ? 1 : 0);
    (void)protocol::send_with_descriptors(socket, std::as_bytes(std::span(packet)), descriptors,
                                          MSG_NOSIGNAL);
    std::array<char, 4096> answer{};
    for (ssize_t length; (length = ::recv(socket, answer.data(), answer.size(), 0)) > 0;) {
      if (answer[0] == 'S') answer[1] = static_cast<char>('0' + answer[1]);
      (void)!::write(writing.get(), answer.data(), static_cast<std::size_t>(length));
    }
    ::_exit(0);
  }
  writing.reset();
  std::string heard;
  std::array<char, 4096> chunk{};
  for (ssize_t length; (length = ::read(reading.get(), chunk.data(), chunk.size())) > 0;)
    heard.append(chunk.data(), static_cast<std::size_t>(length));
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return heard;
}

std::string request(const std::string& source, const std::string& target, const std::string& options = "") {
  std::string packet;
  for (const std::string& field :
       {std::string("fuse4fs-user-1"), std::string("mount"), std::string(), source, target, options}) {
    packet += field;
    packet += '\0';
  }
  return packet;
}

// What mount.fuse4fs checks before it asks, the service checks again.
TEST_F(UserMount, TheServiceTakesNobodysWord) {
  answer_for_polkit("exit 0");
  const std::string image = image_.string();
  const std::string target = mount_point().string();
  write_fstab("user");
  for (const std::string& nonsense :
       {std::string("x"), std::string("fuse4fs-user-1\0mount\0\0", 22), std::string(60000, '\0')})
    EXPECT_THAT(ask_raw(kUser, nonsense), AllOf(HasSubstr("no request"), ::testing::EndsWith("S1")));
  EXPECT_THAT(ask_raw(kUser, request(image, target), STDERR_FILENO), HasSubstr("no request"));
  EXPECT_THAT(mount_line(), IsEmpty());

  // A line whose directory is a link, or is reached through one, or is where the user may not go.
  fs::create_directory(scratch() / "real");
  fs::create_directory(scratch() / "real/in");
  fs::create_directory(scratch() / "closed");
  fs::create_directory(scratch() / "closed/in");
  fs::permissions(scratch() / "closed", fs::perms(0700));
  fs::create_symlink(scratch() / "real/in", scratch() / "link");
  fs::create_symlink(scratch() / "real", scratch() / "way");
  for (const auto& [where, words] :
       {std::pair{scratch() / "link", "symbolic link"}, std::pair{scratch() / "way/in", "symbolic link"},
        std::pair{scratch() / "real/../real/in", "Invalid argument"},
        std::pair{scratch() / "closed/in", "Permission denied"}, std::pair{image_, "Not a directory"},
        std::pair{fs::path("mnt"), "Invalid argument"}}) {
    SCOPED_TRACE(where);
    write_fstab_line(image, where, "user");
    EXPECT_THAT(ask_raw(kUser, request(image, where)), AllOf(HasSubstr(words), ::testing::EndsWith("S1")));
    EXPECT_THAT(run({"findmnt", "-n", "-t", "fuseblk.fuse4fs"}).output, Not(HasSubstr(scratch().string())));
  }
  EXPECT_EQ(asked(), "");
  // An image that somebody has put a link in the place of since the line was written.
  fs::create_symlink(image_, scratch() / "stick");
  write_fstab_line(scratch() / "stick", target, "user");
  EXPECT_THAT(ask_raw(kUser, request(scratch() / "stick", target)), HasSubstr("no line for"));
  // Two requests in one connection are one; and what is right works this way, too.
  write_fstab("user");
  EXPECT_EQ(ask_raw(kUser, request(image, target, "rw")), "S0");
  EXPECT_THAT(mount_line(), HasSubstr("nosuid,nodev,noexec"));
  EXPECT_EQ(run_as(kUser, {"umount", target}).status, 0);
  expect_clean(image_);
}

TEST_F(UserMount, WithoutTheServiceItSaysWhatIsMissing) {
  write_fstab("user");
  EXPECT_TRUE(comes_true([&] { return unit_->running() == 0; }));
  unit_.reset();
  const auto alone = run_as(kUser, {"mount.fuse4fs", image_, mount_point()});
  EXPECT_EQ(alone.status, 1);
  EXPECT_THAT(alone.output, HasSubstr("fuse4fs-mount.socket"));
}

}  // namespace
}  // namespace fuse4fs::test
