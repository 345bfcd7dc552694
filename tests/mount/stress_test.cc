// SPDX-License-Identifier: GPL-2.0-or-later
// Many threads at everything in one small tree, where they meet all the time. Nothing may be answered that
// such a meeting does not explain, no byte may be read that nobody wrote, and e2fsck judges what is left.
// Sanitizers' reports are in the server's log, which the fixture reads.
#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

constexpr int kThreads = 8;
constexpr std::chrono::seconds kDuration{20};
constexpr std::size_t kLargest = 512 << 10;  // of a file, bytes

// What other threads' work explains: the name has gone, has come, is something else by now.
const std::set<int> kExplained = {ENOENT, EEXIST, ENOTDIR, EISDIR,  ENOTEMPTY,
                                  EINVAL, EXDEV,  EPERM,   ENODATA, ELOOP};

// Operations by name, how often each was done, and how often it went well.
class Tally {
 public:
  void add(const std::string& operation, bool good) {
    const std::lock_guard lock(mutex_);
    auto& [done, went_well] = counts_[operation];
    ++done;
    went_well += good ? 1 : 0;
  }
  void complain(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (complaints_.size() < 10) complaints_.push_back(what);
  }
  [[nodiscard]] std::map<std::string, std::pair<int, int>> counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
  }
  [[nodiscard]] std::vector<std::string> complaints() const {
    const std::lock_guard lock(mutex_);
    return complaints_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::pair<int, int>> counts_;
  std::vector<std::string> complaints_;
};

// One thread's work. Every byte it writes is its own number, 1 to kThreads.
class Worker {
 public:
  Worker(std::filesystem::path root, int number, Tally& tally)
      : root_(std::move(root)), number_(number), tally_(&tally), random_(static_cast<unsigned>(number)) {}

  void run(std::chrono::steady_clock::time_point end) {
    while (std::chrono::steady_clock::now() < end) step();
  }

 private:
  std::size_t below(std::size_t limit) { return random_() % limit; }
  std::string directory() {
    std::string path = root_.string();
    for (std::size_t depth = below(3); depth > 0; --depth) path += "/d" + std::to_string(below(3));
    return path;
  }
  std::string file() { return directory() + "/f" + std::to_string(below(12)); }
  std::string subdirectory() { return directory() + "/d" + std::to_string(below(3)); }

  // Answers whether it went well.
  bool judge(const char* operation, bool good) {
    const int error = good ? 0 : errno;
    tally_->add(operation, good);
    if (error != 0 && !kExplained.contains(error))
      tally_->complain(std::string(operation) + ": " + ::strerrorname_np(error));
    return good;
  }

  void step();
  void write();
  void read();
  void list();
  void change_range();

  const std::filesystem::path root_;
  const int number_;
  Tally* tally_;
  std::mt19937 random_;
};

void Worker::write() {
  const UniqueFd fd(
      ::open(file().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (below(8) == 0 ? O_TRUNC : 0), 0644));
  if (!judge("open for writing", static_cast<bool>(fd))) return;
  const std::string bytes(1 + below(20'000), static_cast<char>(number_));
  const auto offset = static_cast<off_t>(below(kLargest));
  judge("write",
        ::pwrite(fd.get(), bytes.data(), bytes.size(), offset) == static_cast<ssize_t>(bytes.size()));
  if (below(8) == 0) judge("fsync", ::fsync(fd.get()) == 0);
}

void Worker::read() {
  const UniqueFd fd(::open(file().c_str(), O_RDONLY | O_CLOEXEC));
  if (!judge("open for reading", static_cast<bool>(fd))) return;
  std::string bytes(40'000, '\x7f');
  const ssize_t length = ::pread(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(below(kLargest)));
  if (!judge("read", length >= 0)) return;
  bytes.resize(static_cast<std::size_t>(length));
  const auto foreign = std::ranges::find_if(bytes, [](char byte) { return byte < 0 || byte > kThreads; });
  if (foreign != bytes.end()) tally_->complain("a byte that nobody wrote: " + std::to_string(*foreign));
}

void Worker::list() {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory().c_str()), ::closedir);
  if (!judge("opendir", listing != nullptr)) return;
  std::set<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(listing.get())) {
    const std::string name = entry->d_name;
    if (name != "lost+found" && name != "." && name != ".." && name[0] != 'f' && name[0] != 'd' &&
        name[0] != 'l')
      tally_->complain("a name that nobody made: " + name);
    struct stat status{};
    judge("stat of a listed name",
          ::fstatat(::dirfd(listing.get()), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0);
    errno = 0;
  }
  judge("readdir", errno == 0);
}

void Worker::change_range() {
  const UniqueFd fd(::open(file().c_str(), O_WRONLY | O_CLOEXEC));
  if (!judge("open for fallocate", static_cast<bool>(fd))) return;
  const auto offset = static_cast<off_t>(below(kLargest)), length = static_cast<off_t>(1 + below(60'000));
  const int mode = below(2) == 0 ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0;
  judge(mode != 0 ? "punch" : "allocate", ::fallocate(fd.get(), mode, offset, length) == 0);
}

void Worker::step() {
  struct stat status{};
  switch (below(20)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return write();
    case 4:
    case 5:
    case 6:
      return read();
    case 7:
    case 8:
      judge("rename", ::rename(file().c_str(), file().c_str()) == 0);
      return;
    case 9:
      judge("rename of a directory", ::rename(subdirectory().c_str(), subdirectory().c_str()) == 0);
      return;
    case 10:
      judge("exchange",
            ::renameat2(AT_FDCWD, file().c_str(), AT_FDCWD, file().c_str(), RENAME_EXCHANGE) == 0);
      return;
    case 11:
      judge("unlink", ::unlink(file().c_str()) == 0);
      return;
    case 12:
      judge("mkdir", ::mkdir(subdirectory().c_str(), 0755) == 0);
      return;
    case 13:
      judge("rmdir", ::rmdir(subdirectory().c_str()) == 0);
      return;
    case 14:
      return list();
    case 15:
      judge("stat", ::lstat(file().c_str(), &status) == 0);
      return;
    case 16:
      judge("link", ::link(file().c_str(), file().c_str()) == 0);
      return;
    case 17:
      judge("truncate", ::truncate(file().c_str(), static_cast<off_t>(below(kLargest))) == 0);
      return;
    case 18:
      return change_range();
    default:
      if (below(2) == 0) {
        judge("setxattr", ::lsetxattr(file().c_str(), "user.stress", "value", below(6), 0) == 0);
      } else {
        judge("symlink", ::symlink("f1", (directory() + "/l" + std::to_string(below(4))).c_str()) == 0 ||
                             ::unlink((directory() + "/l" + std::to_string(below(4))).c_str()) == 0);
      }
      return;
  }
}

using Stress = MountTest;

TEST_F(Stress, EightThreadsInOneTree) {
  const auto image = make_image("2G");
  mount_or_fail(image);
  Tally tally;
  {
    const auto end = std::chrono::steady_clock::now() + kDuration;
    std::vector<std::jthread> threads;
    for (int number = 1; number <= kThreads; ++number)
      threads.emplace_back([&, number] { Worker(mount_point(), number, tally).run(end); });
  }
  EXPECT_THAT(tally.complaints(), ::testing::IsEmpty());
  std::string summary;
  for (const auto& [operation, count] : tally.counts()) {
    summary += operation + " " + std::to_string(count.second) + "/" + std::to_string(count.first) + ", ";
    EXPECT_GT(count.second, 0) << operation << " never went well";
  }
  std::cout << summary << "\n";
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
