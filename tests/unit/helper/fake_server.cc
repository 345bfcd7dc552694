// SPDX-License-Identifier: GPL-2.0-or-later
// This test program is also, by the name it is called with, the server that the helper starts, and the
// helper: then gtest's main() is never reached.
#include "tests/unit/helper/fake_server.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fuse.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "helper/program.h"
#include "protocol/arguments.h"
#include "protocol/channel.h"
#include "protocol/descriptor_packet.h"

namespace fuse4fs::helper::testing {
namespace {

template <class Body>
void reply(int fuse_device, const fuse_in_header& request, const Body& body) {
  std::array<char, sizeof(fuse_out_header) + sizeof(Body)> bytes{};
  const fuse_out_header header{.len = bytes.size(), .error = 0, .unique = request.unique};
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &body, sizeof body);
  (void)!::write(fuse_device, bytes.data(), bytes.size());
}

void reply_error(int fuse_device, const fuse_in_header& request, int error) {
  const fuse_out_header header{.len = sizeof header, .error = -error, .unique = request.unique};
  (void)!::write(fuse_device, &header, sizeof header);
}

void say(const std::string& text) { (void)!::write(STDERR_FILENO, text.data(), text.size()); }

std::string line_of(const char* file, std::string_view start) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(start)) return line + "\n";
  return fmt::format("{} is missing\n", start);
}

void report_surroundings() {
  say(fmt::format("uid {} {} gid {} {} groups {} pid {} sid {}\n", ::getuid(), ::geteuid(), ::getgid(),
                  ::getegid(), ::getgroups(0, nullptr), ::getpid(), ::getsid(0)));
  say(fmt::format("umask {:o}\n", ::umask(077)));
  std::array<char, 4096> path{};
  if (::getcwd(path.data(), path.size()) != nullptr) say(fmt::format("cwd {}\n", path.data()));
  std::string numbers;
  for (int fd = 0; fd < 1024; ++fd)
    if (::fcntl(fd, F_GETFD) >= 0) numbers += fmt::format(" {}", fd);
  say("descriptors" + numbers + "\n");
  for (char** variable = environ; *variable != nullptr; ++variable)
    if (std::string_view(*variable).find("SAN_OPTIONS") == std::string_view::npos)
      say(fmt::format("variable {}\n", *variable));
  for (const char* const field : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigBlk", "SigIgn"})
    say(line_of("/proc/self/status", field));
  for (const char* const kind : {"user", "mnt", "pid", "net", "ipc", "uts"}) {
    const ssize_t length =
        ::readlink(fmt::format("/proc/self/ns/{}", kind).c_str(), path.data(), path.size());
    say(fmt::format("namespace {}\n",
                    std::string_view(path.data(), length < 0 ? 0 : static_cast<std::size_t>(length))));
  }
}

Behaviour behaviour_from(const protocol::Arguments& arguments) {
  for (const std::string& argument : arguments)
    if (const auto found = argument.find("threads="); found != std::string::npos)
      return static_cast<Behaviour>(std::atoi(argument.c_str() + found + 8));
  return Behaviour::kServe;
}

[[noreturn]] void wait_for_ever() {
  for (;;) ::pause();
}

void send_bytes(int socket, const void* bytes, std::size_t size) {
  (void)!::send(socket, bytes, size, MSG_NOSIGNAL);
}

void push_descriptor(int socket) {
  constexpr std::string_view kGoodbye("BYEE\0\0\0\0", 8);
  const int fd = STDIN_FILENO;
  (void)protocol::send_with_descriptors(socket, std::as_bytes(std::span(kGoodbye)), {&fd, 1}, MSG_NOSIGNAL);
}

// The reading is in step with the asking: a helper that waits for its answers to be read is another test's.
void flood(protocol::ServerEnd& end) {
  while (!end.broken()) {
    [[maybe_unused]] const auto refused = end.open(protocol::OpenFile{.path = "/etc/shadow", .quiet = true});
  }
}

class Attacker {
 public:
  explicit Attacker(protocol::ServerEnd& end) : end_(end) {
    std::array<char, 4096> path{};
    const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
    if (length <= 0) return;
    int attack = 0;
    if (std::ifstream(attack_file({path.data(), static_cast<std::size_t>(length)})) >> attack >> step_)
      attack_ = static_cast<Attack>(attack);
  }

  void before(int step) {
    if (step != step_) return;
    constexpr std::size_t kTooLong = 65537;
    const std::string longest = "OPEN" + std::string(kTooLong, 'x');
    switch (attack_) {
      case Attack::kNone:
        return;
      case Attack::kClose:
        ::_exit(9);
      case Attack::kHang:
        say(fmt::format("at step {}\n", step));
        wait_for_ever();
      case Attack::kGarbage:
        send_bytes(end_.fd(), "EVIL", 4);
        wait_for_ever();
      case Attack::kShort:
        send_bytes(end_.fd(), "OPEN\0\0", 6);
        wait_for_ever();
      case Attack::kLong:
        send_bytes(end_.fd(), longest.data(), longest.size());
        wait_for_ever();
      case Attack::kFlood:
        if (step == 0) ::_exit(9);  // before a greeting there is nothing to ask for
        flood(end_);
        wait_for_ever();
      case Attack::kPush:
        push_descriptor(end_.fd());
        // Refused by the kernel itself, where it can.
        ::_exit(9);
      case Attack::kImpostor:
        if (::fork() != 0) wait_for_ever();
        return;
    }
  }

 private:
  protocol::ServerEnd& end_;
  Attack attack_ = Attack::kNone;
  int step_ = -1;
};

// Returns the exit status.
int serve() {
  auto channel = protocol::Channel::adopt(UniqueFd(3));
  if (!channel) return 100;
  protocol::ServerEnd end(std::move(*channel));
  Attacker attacker(end);
  attacker.before(0);
  auto greeting = end.greet();
  if (!greeting) return 101;
  const auto arguments = protocol::read_arguments(greeting->arguments.get());
  if (!arguments || arguments->size() < 3) return 102;
  const Behaviour behaviour = behaviour_from(*arguments);
  const int fuse_device = greeting->fuse_device.get();
  const auto give_up = [&] {
    [[maybe_unused]] const auto said = end.say_goodbye(3);
    return 3;
  };
  switch (behaviour) {
    case Behaviour::kGiveUpBeforeMount:
      say("the superblock is not one\n");
      return give_up();
    case Behaviour::kHostileWords:
      say("\x1b[2Jevil\x07\r\xc2\x9bword\n");
      for (int i = 0; i < 1024; ++i) say(std::string(1024, 'x'));
      return give_up();
    case Behaviour::kReportSurroundings:
      report_surroundings();
      return give_up();
    case Behaviour::kGarbage:
      (void)!::write(end.fd(), "EVIL", 4);
      wait_for_ever();
    default:
      break;
  }
  attacker.before(1);
  const auto device = end.open(protocol::OpenBlockDevice{.path = (*arguments)[1], .open_flags = O_RDWR});
  if (!device && device.error() != Errno(EROFS)) return 103;
  const protocol::Command way[] = {
      protocol::OpenFsContext{.fuseblk = true}, protocol::SetSource{(*arguments)[1]},
      protocol::SetMountPoint{(*arguments)[2], protocol::MountPointType::kDirectory},
      protocol::SetMountOptions{"default_permissions,allow_other,blksize=4096"}, protocol::Mount{0}};
  for (int step = 2; const auto& command : way) {
    attacker.before(step++);
    if (!end.command(command)) return give_up();
  }
  switch (behaviour) {
    case Behaviour::kGiveUpAfterMount:
      say("the journal is not one\n");
      return give_up();
    case Behaviour::kVanishAfterMount:
      return 9;
    case Behaviour::kCrashAfterMount:
      std::signal(SIGILL, SIG_DFL);
      __builtin_trap();  // process 1 of a pid namespace does not die of its own kill(2)
    case Behaviour::kHangAfterMount:
      wait_for_ever();
    default:
      break;
  }
  attacker.before(7);
  serve_fuse(fuse_device, Until::kInitAnswered);
  attacker.before(8);
  if (!end.open(protocol::OpenFile{.path = std::string(protocol::kCloneName)})) return give_up();
  attacker.before(9);
  if (!end.say_goodbye(0)) return 105;
  if (behaviour == Behaviour::kServeDeaf) wait_for_ever();
  serve_fuse(fuse_device, Until::kEnd);
  return 0;
}

bool is_called(const char* name, const char* wanted) {
  const std::string_view called = name;
  return called.substr(called.rfind('/') + 1) == wanted;
}

// Before main(), since that is gtest's.
struct Impersonation {
  static void decide(int argc, char** argv, char**) {
    if (argc == 1 && is_called(argv[0], "fuse4fs")) ::_exit(serve());
    if (argc > 0 && is_called(argv[0], "mount.fuse4fs")) {
      const int status = run_program(argc, argv);
      std::fflush(nullptr);
      ::_exit(status);
    }
  }
};
// The C library hands these functions main()'s arguments.
[[gnu::used, gnu::section(".init_array")]] void (*const decide)(int, char**, char**) = Impersonation::decide;

}  // namespace

std::string attack_file(const std::string& program) {
  return program.substr(0, program.rfind('/')) + "/attack";
}

void serve_fuse(int fuse_device, Until until) {
  alignas(fuse_in_header) static std::array<char, (1 << 17) + 4096> buffer;
  for (;;) {
    const ssize_t length = ::read(fuse_device, buffer.data(), buffer.size());
    if (length < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
    if (length < static_cast<ssize_t>(sizeof(fuse_in_header))) return;
    const auto& request = *reinterpret_cast<const fuse_in_header*>(buffer.data());
    switch (request.opcode) {
      case FUSE_INIT: {
        fuse_init_out init = {};
        init.major = FUSE_KERNEL_VERSION;
        init.minor = FUSE_KERNEL_MINOR_VERSION;
        init.max_readahead = 131072;
        init.max_write = 131072;
        reply(fuse_device, request, init);
        if (until == Until::kInitAnswered) return;
        break;
      }
      case FUSE_GETATTR: {
        fuse_attr_out attributes = {};
        attributes.attr.ino = 1;
        attributes.attr.mode = S_IFDIR | 0755;
        attributes.attr.nlink = 2;
        reply(fuse_device, request, attributes);
        break;
      }
      case FUSE_STATFS:
        reply(fuse_device, request, fuse_statfs_out{});
        break;
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        break;
      case FUSE_DESTROY:
        reply_error(fuse_device, request, 0);
        return;
      case FUSE_LOOKUP:
        reply_error(fuse_device, request, ENOENT);
        break;
      default:
        reply_error(fuse_device, request, ENOSYS);
    }
  }
}

}  // namespace fuse4fs::helper::testing
