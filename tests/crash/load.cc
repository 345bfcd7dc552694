// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/crash/load.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/unique_fd.h"

namespace fuse4fs::crash {
namespace fs = std::filesystem;
namespace {

constexpr unsigned kWriters = 4;
constexpr unsigned kNames = 40;   // in each directory
constexpr unsigned kPlaces = 12;  // directories of all writers
constexpr unsigned long kShutdown = _IOR('X', 125, std::uint32_t);
constexpr std::uint32_t kNoLogFlush = 2;
constexpr std::size_t kMostHeld = 5;  // files without a name, by writer

// One writer. The working directory is the volume's root. Most calls may fail: names come and go.
class Writer {
 public:
  Writer(std::uint64_t seed, unsigned number, Mix mix) : random_(seed * kWriters + number), mix_(mix) {}

  // False once the volume answers EIO or is read-only.
  bool step() {
    errno = 0;
    act();
    return errno != EIO && errno != EROFS;
  }

 private:
  std::uint64_t pick(std::uint64_t below) { return random_() % below; }
  std::string place() { return fmt::format("p{}", pick(kPlaces)); }
  // A quarter of them with long names, so that directories grow.
  std::string name() {
    const auto number = pick(kNames);
    return number % 4 == 0 ? fmt::format("{}/{}{:0120}", place(), "long", number)
                           : fmt::format("{}/n{}", place(), number);
  }
  std::string bytes(std::size_t length) {
    std::string text(length, '\0');
    const char letter = static_cast<char>('a' + pick(26));
    for (std::size_t i = 0; i < length; ++i)
      text[i] = static_cast<char>(letter + static_cast<char>(i / 512 % 4));
    // What the journal must escape: blocks that begin with its magic.
    if (pick(4) == 0)
      for (std::size_t at = 0; at + 4 <= length; at += 1024)
        std::memcpy(text.data() + at, "\xC0\x3B\x39\x98", 4);
    return text;
  }
  UniqueFd open(int flags) { return UniqueFd(::open(name().c_str(), flags | O_CLOEXEC, 0600 + pick(0200))); }

  void write() {
    const UniqueFd file = open(O_RDWR | O_CREAT);
    if (!file) return;
    const std::string text = bytes(pick(8) == 0 ? pick(300'000) : pick(9'000));
    const auto offset = static_cast<off_t>(pick(3) == 0 ? pick(2'000'000) : pick(20'000));
    if (::pwrite(file.get(), text.data(), text.size(), offset) < 0) return;
    if (pick(mix_ == Mix::kFastCommits ? 2 : 4) == 0) std::ignore = ::fsync(file.get());
  }
  void cut_or_punch() {
    const UniqueFd file = open(O_RDWR);
    if (!file) return;
    switch (pick(4)) {
      case 0:
        std::ignore = ::ftruncate(file.get(), static_cast<off_t>(pick(100'000)));
        break;
      case 1:
        ::fallocate(file.get(), 0, static_cast<off_t>(pick(50'000)), static_cast<off_t>(1 + pick(100'000)));
        break;
      case 2:
        ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(pick(50'000)),
                    static_cast<off_t>(1 + pick(100'000)));
        break;
      default:
        std::ignore = ::ftruncate(file.get(), 0);
    }
  }
  void xattr() {
    const std::string path = name();
    const std::string key = fmt::format("user.k{}", pick(4));
    if (pick(4) == 0) {
      ::removexattr(path.c_str(), key.c_str());
    } else {
      const std::string value = bytes(pick(3) == 0 ? pick(700) : pick(60));
      ::setxattr(path.c_str(), key.c_str(), value.data(), value.size(), 0);
    }
  }
  // Open without a name, until it is cut: an orphan.
  void hold() {
    UniqueFd file = open(O_RDWR | O_CREAT);
    if (!file) return;
    const std::string text = bytes(pick(40'000));
    if (::write(file.get(), text.data(), text.size()) < 0) return;
    const std::string self = fmt::format("/proc/self/fd/{}", file.get());
    std::array<char, 4096> path{};
    if (::readlink(self.c_str(), path.data(), path.size() - 1) > 0) ::unlink(path.data());
    if (held_.size() >= kMostHeld)
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(pick(held_.size())));
    held_.push_back(std::move(file));
  }
  void times() {
    const std::array<timespec, 2> at{{{static_cast<time_t>(pick(1'600'000'000)), 5},
                                      {static_cast<time_t>(pick(1'600'000'000)), 123'456'789}}};
    ::utimensat(AT_FDCWD, name().c_str(), at.data(), AT_SYMLINK_NOFOLLOW);
  }
  void sync() {
    const UniqueFd file =
        pick(3) == 0 ? UniqueFd(::open(place().c_str(), O_RDONLY | O_CLOEXEC)) : open(O_RDONLY);
    if (!file) return;
    if (pick(8) == 0)
      std::ignore = ::syncfs(file.get());
    else
      std::ignore = ::fsync(file.get());
  }

  void act_fast() {
    switch (pick(12)) {
      case 0:
        return cut_or_punch();
      case 1:
      case 2:
        ::unlink(name().c_str());
        return;
      case 3:
        std::ignore = ::link(name().c_str(), name().c_str());
        return;
      case 4:
        ::mkdir(name().c_str(), 0700);
        return;
      case 5:
        ::chmod(name().c_str(), static_cast<mode_t>(pick(01000)));
        return;
      default:
        return write();
    }
  }

  void act() {
    if (mix_ == Mix::kFastCommits) return act_fast();
    switch (pick(24)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        return write();
      case 6:
      case 7:
        return cut_or_punch();
      case 8:
      case 9:
      case 10:
        ::unlink(name().c_str());
        return;
      case 11:
      case 12:
        ::rename(name().c_str(), name().c_str());
        return;
      case 13:
        std::ignore = ::link(name().c_str(), name().c_str());
        return;
      case 14:
        ::mkdir(place().c_str(), 0755);
        ::mkdir(name().c_str(), 0700);
        return;
      case 15:
        ::rmdir(pick(4) == 0 ? place().c_str() : name().c_str());
        return;
      case 16:
        std::ignore = ::symlink(pick(2) == 0 ? "short" : std::string(200, 's').c_str(), name().c_str());
        return;
      case 17:
      case 18:
        return xattr();
      case 19:
        return hold();
      case 20:
        ::chmod(name().c_str(), static_cast<mode_t>(pick(01000)));
        return;
      case 21:
        return times();
      case 22:
        ::mknod(name().c_str(), S_IFCHR | 0600, makedev(pick(300), pick(300)));
        return;
      default:
        return sync();
    }
  }

  std::mt19937_64 random_;
  const Mix mix_;
  std::vector<UniqueFd> held_;
};

// Written by the writers, read by who cuts.
struct Shared {
  std::atomic<std::uint64_t> done{0};
  std::atomic<unsigned> ended{0};
};

}  // namespace

void load_and_cut(const fs::path& root, std::uint64_t seed, std::uint64_t operations, Mix mix) {
  void* const memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no shared memory");
  auto* const shared = new (memory) Shared;
  const UniqueFd top(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (unsigned i = 0; i < kPlaces; ++i) ::mkdir((root / fmt::format("p{}", i)).c_str(), 0755);

  std::array<pid_t, kWriters> writers{};
  for (unsigned i = 0; i < kWriters; ++i) {
    writers[i] = ::fork();
    if (writers[i] != 0) continue;
    if (::fchdir(top.get()) != 0) ::_exit(1);
    Writer writer(seed, i, mix);
    while (writer.step()) ++shared->done;
    ++shared->ended;
    // What it holds stays open until it is killed, after the cut.
    for (;;) ::pause();
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (shared->done < operations && shared->ended < kWriters && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::uint32_t how = kNoLogFlush;
  const bool cut = ::ioctl(top.get(), kShutdown, &how) == 0;
  const int error = errno;
  for (const pid_t writer : writers) ::kill(writer, SIGKILL);
  for (const pid_t writer : writers) ::waitpid(writer, nullptr, 0);
  ::munmap(memory, sizeof(Shared));
  if (!cut) throw std::runtime_error(fmt::format("FS_IOC_SHUTDOWN: {}", ::strerror(error)));
}

}  // namespace fuse4fs::crash
