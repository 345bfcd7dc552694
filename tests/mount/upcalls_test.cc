// SPDX-License-Identifier: GPL-2.0-or-later
// How many requests the kernel sends for what programs do most. docs/upcalls.md explains each figure.
//
// These are exact, whatever the machine: a figure that changes here is a change for every program, and the
// document changes with it.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <sstream>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using Counts = std::map<std::string, long>;

constexpr std::size_t kSmall = 4096;

void write_and_close(const fs::path& path, int flags, std::size_t bytes) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
  const std::string data(bytes, 'b');
  EXPECT_EQ(::write(fd.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
  EXPECT_EQ(::close(fd.release()), 0);
}

struct stat stat_of(const fs::path& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status;
}

class Upcalls : public MountTest {
 protected:
  Upcalls() {
    image_ = make_image("128M");
    mount_or_fail(image_);
    // The kernel asks each of these once, to learn that it need not ask.
    write_file(mount_point() / "first", "x");
    std::ignore = contents_of(mount_point() / "first");
    std::ignore = run({"ls", "-l", mount_point()});
    fs::remove(mount_point() / "first");
  }

  // Through SIGUSR1 and the log, as anybody would ask.
  [[nodiscard]] Counts counts() const {
    const auto lines = [this] {
      std::vector<std::string> found;
      std::istringstream text(log());
      for (std::string line; std::getline(text, line);)
        if (const auto at = line.find("requests: "); at != std::string::npos)
          found.push_back(line.substr(at + 10));
      return found;
    };
    const std::size_t before = lines().size();
    const auto pid = server();
    if (!pid || ::kill(*pid, SIGUSR1) != 0) {
      ADD_FAILURE() << "no server to ask";
      return {};
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (lines().size() == before) {
      if (std::chrono::steady_clock::now() > deadline) {
        ADD_FAILURE() << "no answer to SIGUSR1";
        return {};
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    Counts counts;
    std::istringstream words(lines().back());
    std::string name;
    for (long count; words >> name >> count; words.ignore(1)) counts[name] = count;
    return counts;
  }

  // "MKNOD 1, WRITE 1": what came while `work` ran. The kernel forgets inodes when it likes.
  std::string sent(const std::function<void()>& work) const {
    const Counts before = counts();
    work();
    Counts after = counts();
    for (const char* const others : {"FORGET", "BATCH_FORGET", "SYNCFS"}) after.erase(others);
    std::string text;
    for (const auto& [name, count] : after) {
      const auto old = before.find(name);
      const long more = count - (old == before.end() ? 0 : old->second);
      if (more != 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, more);
    }
    return text;
  }

  // Twice: of what was used just now the kernel only takes the mark the first time.
  static void drop_caches(const char* which) {
    for (int i = 0; i < 2; ++i) write_file("/proc/sys/vm/drop_caches", which);
  }

  // sync(2) of others reaches every mount, and an other's drop_caches empties every cache: the figure is what
  // most attempts find. Each begins with `prepare`, so that a figure of a second time is not met by a third.
  void expect_sent(
      const char* wanted, const std::function<void()>& work,
      const std::function<void()>& prepare = [] {}) const {
    constexpr std::size_t kMajority = 3;
    std::size_t met = 0;
    std::vector<std::string> others;
    while (met < kMajority && others.size() < kMajority) {
      prepare();
      if (std::string got = sent(work); got == wanted) {
        ++met;
      } else {
        others.push_back(std::move(got));
      }
    }
    EXPECT_EQ(met, kMajority) << "wanted \"" << wanted << "\", also found "
                              << ::testing::PrintToString(others);
  }

  [[nodiscard]] fs::path file() const { return mount_point() / "file"; }
  // A file of one page, known to the kernel, in a directory that is.
  void make_known_file() const {
    fs::remove(file());
    write_file(file(), std::string(kSmall, 'a'));
    stat_of(file());
    // Two ticks of any kernel's clock: what changes the file in the tick of its making changes no time of it.
    ::usleep(20'000);
  }
  // No file of that name, in a known directory.
  void make_room() const {
    fs::remove(file());
    stat_of(mount_point());
    drop_caches("2");
    stat_of(mount_point());
  }

  fs::path image_;
};

TEST_F(Upcalls, StatOfAKnownFileTakesNone) {
  expect_sent("", [&] { stat_of(file()); }, [&] { make_known_file(); });
  unmount_and_check(image_);
}

TEST_F(Upcalls, OpenAndCloseOfAKnownFileTakesNone) {
  const auto prepare = [&] { make_known_file(); };
  expect_sent("", [&] { EXPECT_TRUE(UniqueFd(::open(file().c_str(), O_RDONLY))); }, prepare);
  expect_sent("", [&] { EXPECT_TRUE(UniqueFd(::open(file().c_str(), O_RDWR))); }, prepare);
  expect_sent(
      "", [&] { EXPECT_TRUE(UniqueFd(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY))); }, prepare);
  unmount_and_check(image_);
}

TEST_F(Upcalls, ReadingAFileTwiceReadsItOnce) {
  const auto read = [&] { EXPECT_EQ(contents_of(file()).size(), kSmall); };
  const auto prepare = [&] {
    make_known_file();
    drop_caches("3");
  };
  expect_sent("LOOKUP 1, READ 1", read, prepare);
  expect_sent("", read, [&] {
    prepare();
    read();
  });
  unmount_and_check(image_);
}

TEST_F(Upcalls, CreatingWritingAndClosingAFile) {
  const auto create = [&] { write_and_close(file(), O_WRONLY | O_CREAT | O_EXCL, kSmall); };
  expect_sent("GETXATTR 1, LOOKUP 1, MKNOD 1, SETATTR 1, WRITE 1", create, [&] { make_room(); });
  // The directory changed by the file before: its attributes are asked for.
  expect_sent(
      "GETATTR 1, GETXATTR 1, LOOKUP 1, MKNOD 1, SETATTR 1, WRITE 1",
      [&] { write_and_close(mount_point() / "second", O_WRONLY | O_CREAT | O_EXCL, kSmall); },
      [&] {
        fs::remove(mount_point() / "second");
        make_room();
        create();
      });
  unmount_and_check(image_);
}

TEST_F(Upcalls, AppendingToAKnownFile) {
  expect_sent(
      "GETXATTR 1, SETATTR 1, WRITE 1", [&] { write_and_close(file(), O_WRONLY | O_APPEND, kSmall); },
      [&] { make_known_file(); });
  unmount_and_check(image_);
}

TEST_F(Upcalls, UnlinkingAKnownFile) {
  expect_sent(
      "SETATTR 1, UNLINK 1", [&] { EXPECT_EQ(::unlink(file().c_str()), 0); }, [&] { make_known_file(); });
  unmount_and_check(image_);
}

TEST_F(Upcalls, ListingAThousandNamesAndWhatTheyAre) {
  const auto directory = mount_point() / "directory";
  fs::create_directory(directory);
  for (int i = 0; i < 1000; ++i)
    ASSERT_EQ(::mknod((directory / fmt::format("name-{:04}", i)).c_str(), S_IFREG | 0644, 0), 0);
  const auto list = [&] {
    std::size_t names = 0;
    for (const auto& entry : fs::directory_iterator(directory)) {
      struct stat status{};
      EXPECT_EQ(::lstat(entry.path().c_str(), &status), 0);
      ++names;
    }
    EXPECT_EQ(names, 1000U);
  };
  const auto forget = [] { drop_caches("3"); };
  const auto list_once = [&] {
    forget();
    list();
  };
  expect_sent("LOOKUP 1, READDIRPLUS 7", list, forget);
  expect_sent("GETATTR 1", list, list_once);
  expect_sent("", list, [&] {
    list_once();
    list();
  });
  unmount_and_check(image_);
}

// As tar(1) extracts one file: made for the owner alone, filled, then given its times, owner and mode.
TEST_F(Upcalls, ExtractingAFileAsTarDoes) {
  const auto extract = [](const fs::path& path) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600));
    const std::string data(kSmall, 'b');
    EXPECT_EQ(::write(fd.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
    const timespec times[2] = {{0, UTIME_OMIT}, {1'000'000'000, 0}};
    EXPECT_EQ(::futimens(fd.get(), times), 0);
    EXPECT_EQ(::fchown(fd.get(), 1, 1), 0);
    EXPECT_EQ(::fchmod(fd.get(), 0644), 0);
    EXPECT_EQ(::close(fd.release()), 0);
  };
  expect_sent(
      "GETATTR 1, GETXATTR 2, LOOKUP 1, MKNOD 1, SETATTR 4, WRITE 1",
      [&] { extract(mount_point() / "second"); },
      [&] {
        fs::remove(mount_point() / "second");
        make_room();
        extract(file());
      });
  unmount_and_check(image_);
}

}  // namespace
}  // namespace fuse4fs::test
