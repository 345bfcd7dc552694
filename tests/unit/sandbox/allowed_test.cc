// SPDX-License-Identifier: GPL-2.0-or-later
// What must go on working inside: each test does one thing that the server or its C and C++ libraries do.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/fuse_iomap_abi.h"
#include "child.h"
#include "protocol/descriptor_packet.h"

namespace fuse4fs::sandbox::test {
namespace {

using namespace std::chrono_literals;

// Runs body inside, and expects it to come to its end.
void expect_works(std::vector<int> kept, const std::function<void()>& body) {
  Child child(Start::kOwnNamespaces, [&] {
    enter_or_end({.kept_descriptors = std::move(kept), .start_threads = {}});
    body();
  });
  const int status = child.wait();
  EXPECT_TRUE(was_clean(status)) << describe(status);
}

// Threads that were started on the way in, and do their work when told to inside.
class Workers {
 public:
  explicit Workers(int count, std::function<void()> work) : count_(count), work_(std::move(work)) {}

  std::function<Result<void>()> starter() {
    return [this]() -> Result<void> {
      for (int i = 0; i < count_; ++i) {
        threads_.emplace_back([this] {
          {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return inside_; });
          }
          work_();
        });
      }
      return {};
    };
  }
  void run_inside_and_join() {
    {
      const std::lock_guard lock(mutex_);
      inside_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  int count_;
  std::function<void()> work_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool inside_ = false;
};

void expect_works_in_threads(int count, const std::function<void()>& work) {
  Child child(Start::kOwnNamespaces, [&] {
    Workers workers(count, work);
    enter_or_end({.kept_descriptors = {}, .start_threads = workers.starter()});
    workers.run_inside_and_join();
  });
  const int status = child.wait();
  EXPECT_TRUE(was_clean(status)) << describe(status);
}

struct SandboxOnDevice : testing::Test {
  LoopDevice device;
  int fd = device.fd();
  std::array<char, 4096> block{};
};

TEST_F(SandboxOnDevice, AllowsPreadOnDevice) {
  ASSERT_EQ(::pwrite(fd, "content", 7, 1 << 20), 7);
  expect_works({fd}, [&] {
    REQUIRE(::pread(fd, block.data(), block.size(), 1 << 20) == 4096);
    REQUIRE(std::strncmp(block.data(), "content", 7) == 0);
    iovec pieces[] = {{block.data(), 512}, {block.data() + 512, 512}};
    REQUIRE(::preadv(fd, pieces, 2, 1 << 20) == 1024);
  });
}

TEST_F(SandboxOnDevice, AllowsWritingAndFlushing) {
  expect_works({fd}, [&] {
    block.fill('w');
    REQUIRE(::pwrite(fd, block.data(), block.size(), 8192) == 4096);
    iovec pieces[] = {{block.data(), 512}, {block.data() + 512, 512}};
    REQUIRE(::pwritev(fd, pieces, 2, 0) == 1024);
    REQUIRE(::fdatasync(fd) == 0);
    REQUIRE(::fsync(fd) == 0);
  });
  ASSERT_EQ(::pread(device.backing_file(), block.data(), block.size(), 8192), 4096);
  EXPECT_EQ(block[0], 'w');
}

TEST_F(SandboxOnDevice, AllowsDiscardAndZeroing) {
  ASSERT_EQ(::pwrite(fd, "content", 7, 0), 7);
  ASSERT_EQ(::pwrite(fd, "content", 7, 1 << 20), 7);
  expect_works({fd}, [&] {
    std::uint64_t first[] = {0, 4096};
    REQUIRE(::ioctl(fd, BLKDISCARD, first) == 0);
    std::uint64_t second[] = {1 << 20, 4096};
    REQUIRE(::ioctl(fd, BLKZEROOUT, second) == 0);
  });
  for (const off_t offset : {0, 1 << 20}) {
    ASSERT_EQ(::pread(fd, block.data(), block.size(), offset), 4096);
    EXPECT_EQ(block[0], 0) << offset;
  }
}

// Nothing is mounted: the kernel refuses it, but it ends nobody.
TEST(Sandbox, AllowsIomapWhereItIsWanted) {
  const UniqueFd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse) GTEST_SKIP() << "SKIPPED: no /dev/fuse";
  const auto register_device = [&] {
    iomap_abi::BackingMap map{.fd = fuse.get(), .flags = iomap_abi::kBackingIomap, .padding = 0};
    REQUIRE(::ioctl(fuse.get(), iomap_abi::kIoctlBackingOpen, &map) < 0);
  };
  // Not on /dev/fuse: kernels of v7 fall over one that is not mounted.
  const auto set_no_fs = [] {
    std::uint32_t on = 1;
    REQUIRE(::ioctl(-1, iomap_abi::kIoctlSetNoFs, &on) < 0 && errno == EBADF);
  };
  for (const std::function<void()>& call : {std::function<void()>(register_device), {set_no_fs}}) {
    for (const Iomap iomap : {Iomap::kAllowed, Iomap::kForbidden}) {
      Child child(Start::kOwnNamespaces, [&] {
        enter_or_end({.kept_descriptors = {fuse.get()}, .iomap = iomap, .start_threads = {}});
        call();
      });
      const int status = child.wait();
      EXPECT_EQ(was_clean(status), iomap == Iomap::kAllowed) << describe(status);
    }
  }
}

TEST_F(SandboxOnDevice, AllowsAskingForItsSizeAndKind) {
  expect_works({fd}, [&] {
    std::uint64_t size = 0;
    REQUIRE(::ioctl(fd, BLKGETSIZE64, &size) == 0 && size == LoopDevice::kSize);
    int sector = 0;
    REQUIRE(::ioctl(fd, BLKSSZGET, &sector) == 0 && sector >= 512);
    REQUIRE(::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) == 0);
    REQUIRE(::lseek(fd, 0, SEEK_END) == LoopDevice::kSize);
    struct stat status{};
    REQUIRE(::fstat(fd, &status) == 0 && S_ISBLK(status.st_mode));
    REQUIRE(::syscall(SYS_fstat, fd, &status) == 0);  // as newer C libraries make it
    REQUIRE((::fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    REQUIRE(::close(fd) == 0);
  });
}

TEST(Sandbox, AllowsFuseRequestsAndReplies) {
  // Not mounted, as at the start: the kernel's answer tells that the call has reached it.
  const UniqueFd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(fuse);
  expect_works({fuse.get()}, [&] {
    char byte = 0;
    iovec piece = {&byte, 1};
    REQUIRE(::read(fuse.get(), &byte, 1) < 0 && errno == EPERM);
    REQUIRE(::readv(fuse.get(), &piece, 1) < 0 && errno == EPERM);
    REQUIRE(::write(fuse.get(), &byte, 1) < 0 && errno == EPERM);
    REQUIRE(::writev(fuse.get(), &piece, 1) < 0 && errno == EPERM);
  });
}

TEST(Sandbox, AllowsDescriptorsOverTheKeptSocket) {
  SocketPair sockets;
  LoopDevice device;
  Child child(Start::kOwnNamespaces, [&] {
    const int socket = sockets.child.get();
    enter_or_end({.kept_descriptors = {socket}, .start_threads = {}});
    REQUIRE(::send(socket, "hello", 5, 0) == 5);
    char byte = 0;
    iovec piece = {&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&waiting, 1, 10'000) == 1);
    REQUIRE(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1);
    REQUIRE(CMSG_FIRSTHDR(&message) != nullptr);
    int received = -1;
    std::memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(received));
    // Landlock denies opening a device, and using one that was opened elsewhere goes on working.
    REQUIRE(::pread(received, &byte, 1, 0) == 1);
    std::uint64_t range[] = {0, 4096};
    REQUIRE(::ioctl(received, BLKDISCARD, range) == 0);
    REQUIRE(::send(socket, &byte, 1, MSG_NOSIGNAL | MSG_EOR) == 1);
    REQUIRE(::recv(socket, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
  });
  sockets.child.reset();
  char text[5];
  ASSERT_EQ(::recv(sockets.parent.get(), text, sizeof(text), 0), 5);
  const std::byte packet{'d'};
  const int passed = device.fd();
  ASSERT_EQ(protocol::send_with_descriptors(sockets.parent.get(), {&packet, 1}, {&passed, 1}, 0), 1);
  const int status = child.wait();
  EXPECT_TRUE(was_clean(status)) << describe(status);
}

TEST(Sandbox, AllowsLogToStandardError) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  Child child(Start::kOwnNamespaces, [&] {
    REQUIRE(::dup2(writer.get(), STDERR_FILENO) == STDERR_FILENO);
    enter_or_end({.kept_descriptors = {}, .start_threads = {}});
    std::fprintf(stderr, "a line");
  });
  writer.reset();
  const int status = child.wait();
  EXPECT_TRUE(was_clean(status)) << describe(status);
  char text[16] = {};
  EXPECT_EQ(::read(reader.get(), text, sizeof(text)), 6);
  EXPECT_STREQ(text, "a line");
}

TEST(Sandbox, AllowsStrayOutputToFail) {
  expect_works({}, [] {
    REQUIRE(::write(STDOUT_FILENO, "x", 1) < 0 && errno == EBADF);
    std::printf("stray\n");
    REQUIRE(std::fflush(stdout) != 0);
    char byte = 0;
    REQUIRE(::read(STDIN_FILENO, &byte, 1) < 0 && errno == EBADF);
  });
}

#ifdef FUSE4FS_SANITIZED  // another allocator, and a slow one
constexpr int kStormRounds = 1;
#else
constexpr int kStormRounds = 20;
#endif

// Sizes around each of malloc's thresholds; all freed in the order that lets heaps shrink.
void malloc_storm() {
  for (int round = 0; round < kStormRounds; ++round) {
    std::vector<std::unique_ptr<char[]>> blocks;
    for (std::size_t size : {24U, 1000U, 5000U, 40'000U, 100'000U}) {
      for (int i = 0; i < 40; ++i) {
        blocks.push_back(std::make_unique<char[]>(size));
        blocks.back()[size / 2] = 'x';
      }
    }
    blocks.push_back(std::make_unique<char[]>(3 << 20));
    while (!blocks.empty()) blocks.pop_back();
    void* large = std::malloc(1 << 20);
    REQUIRE(large != nullptr);
    large = std::realloc(large, 9 << 20);
    REQUIRE(large != nullptr);
    std::free(large);
  }
}

TEST(Sandbox, AllowsMallocInTheFirstThread) {
  expect_works({}, [] {
    malloc_storm();
    ::malloc_trim(0);
  });
}

// The trap: a shrinking heap of a second thread reads /proc, unless prepare_c_library() had it do so before.
TEST(Sandbox, AllowsHeapsOfThreadsToShrink) {
  expect_works_in_threads(3, [] {
    std::vector<std::unique_ptr<char[]>> blocks;
    for (int i = 0; i < 300; ++i) blocks.push_back(std::make_unique<char[]>(50'000));
    while (!blocks.empty()) blocks.pop_back();
    ::malloc_trim(0);
  });
}

// The trap: with many threads malloc asks for the number of processors.
TEST(Sandbox, AllowsMallocInManyThreads) { expect_works_in_threads(24, malloc_storm); }

TEST(Sandbox, AllowsWaitsWithTimeouts) {
  expect_works_in_threads(4, [] {
    std::mutex mutex;
    std::condition_variable condition;
    std::unique_lock lock(mutex);
    REQUIRE(condition.wait_for(lock, 5ms) == std::cv_status::timeout);
    REQUIRE(condition.wait_until(lock, std::chrono::system_clock::now() + 5ms) == std::cv_status::timeout);
    std::this_thread::sleep_for(2ms);
    REQUIRE(::usleep(1000) == 0);
    std::this_thread::yield();
  });
}

TEST(Sandbox, AllowsContendedLocks) {
  std::mutex mutex;
  int count = 0;
  expect_works_in_threads(8, [&] {
    for (int i = 0; i < 2000; ++i) {
      const std::lock_guard lock(mutex);
      ++count;
    }
  });
}

// Filter and thread start race: run what a thread does before its first own line as late as possible.
TEST(Sandbox, AllowsThreadsThatHaveNotQuiteStarted) {
  for (int round = 0; round < 20; ++round) {
    Child child(Start::kOwnNamespaces, [] {
      std::vector<std::thread> threads;
      enter_or_end({.kept_descriptors = {}, .start_threads = [&]() -> Result<void> {
                      for (int i = 0; i < 16; ++i) threads.emplace_back([] {});
                      return {};
                    }});
      for (std::thread& thread : threads) thread.join();
    });
    const int status = child.wait();
    ASSERT_TRUE(was_clean(status)) << describe(status);
  }
}

TEST(Sandbox, AllowsThreadsToNameThemselves) {
  expect_works_in_threads(1, [] { REQUIRE(::prctl(PR_SET_NAME, "worker", 0, 0, 0) == 0); });
}

// What libext2fs does before it looks at a variable of the environment, as in ext2fs_open2.
TEST(Sandbox, AllowsToAskForItsOwnRights) {
  expect_works({}, [] {
    REQUIRE(::getuid() == kNobody && ::geteuid() == kNobody && ::getgid() == kNobody &&
            ::getegid() == kNobody);
    REQUIRE(::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
  });
}

TEST(Sandbox, AllowsExceptions) {
  expect_works_in_threads(2, [] {
    try {
      throw std::runtime_error(fmt::format("thrown {}", 1));
    } catch (const std::exception& error) {
      REQUIRE(std::strcmp(error.what(), "thrown 1") == 0);
      return;
    }
    REQUIRE(false);
  });
}

TEST(Sandbox, AllowsTimeAndRandomNumbers) {
  expect_works({}, [] {
    REQUIRE(std::time(nullptr) > 0);
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    REQUIRE(::localtime_r(&now, &parts) != nullptr);
    timespec precise{};
    REQUIRE(::clock_gettime(CLOCK_REALTIME_COARSE, &precise) == 0);
    REQUIRE(::clock_gettime(CLOCK_MONOTONIC, &precise) == 0);
    REQUIRE(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &precise) == 0);  // no vDSO for this one
#ifdef SYS_time
    REQUIRE(::syscall(SYS_time, nullptr) > 0);  // as x86's C library makes it without a vDSO
#endif
    std::uint64_t number = 0;
    REQUIRE(::getrandom(&number, sizeof(number), 0) == sizeof(number));
  });
}

// The trap: above 1 KiB qsort asks how much memory there is, once.
TEST(Sandbox, AllowsQsortOfMuch) {
  expect_works({}, [] {
    std::vector<int> numbers(100'000);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int>(numbers.size() - i);
    std::qsort(numbers.data(), numbers.size(), sizeof(int), [](const void* left, const void* right) {
      return *static_cast<const int*>(left) - *static_cast<const int*>(right);
    });
    REQUIRE(numbers.front() == 1);
    REQUIRE(std::strcmp(std::strerror(EUCLEAN), "Structure needs cleaning") == 0);
  });
}

std::atomic<int> signals_seen;

TEST(Sandbox, AllowsHandlersAndSignalsToItself) {
  Child child(Start::kOwnNamespaces, [] {
    struct sigaction action{};
    action.sa_handler = [](int) { ++signals_seen; };
    REQUIRE(::sigaction(SIGUSR1, &action, nullptr) == 0);
    enter_or_end({.kept_descriptors = {}, .start_threads = {}});
    REQUIRE(::pthread_kill(::pthread_self(), SIGUSR1) == 0);
    REQUIRE(signals_seen == 1);
  });
  const int status = child.wait();
  EXPECT_TRUE(was_clean(status)) << describe(status);
}

// Stop and go on in the middle of a sleep: the kernel then makes the process call restart_syscall.
TEST(Sandbox, AllowsBeingStopped) {
  SocketPair sockets;
  Child child(Start::kNoCapability, [&] {
    enter_or_end({.kept_descriptors = {sockets.child.get()}, .start_threads = {}});
    REQUIRE(::write(sockets.child.get(), "i", 1) == 1);
    REQUIRE(::usleep(200'000) == 0);
  });
  sockets.child.reset();
  char inside = 0;
  ASSERT_EQ(::read(sockets.parent.get(), &inside, 1), 1);
  std::this_thread::sleep_for(50ms);
  ASSERT_EQ(::kill(child.pid(), SIGSTOP), 0);
  std::this_thread::sleep_for(20ms);
  ASSERT_EQ(::kill(child.pid(), SIGCONT), 0);
  const int status = child.wait();
  EXPECT_TRUE(was_clean(status)) << describe(status);
}

TEST(Sandbox, AllowsExitWithItsOwnStatus) {
  Child child(Start::kOwnNamespaces, [] {
    enter_or_end({.kept_descriptors = {}, .start_threads = {}});
    std::quick_exit(42);
  });
  const int status = child.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42) << describe(status);
}

// Not as the first process of a pid namespace, whom the kernel spares from its own signals.
int ends_by(void (*last_deed)()) {
  Child child(Start::kNoCapability, [last_deed] {
    enter_or_end({.kept_descriptors = {}, .start_threads = {}});
    last_deed();
  });
  return child.wait();
}

TEST(Sandbox, AllowsAbort) {
  const int status = ends_by([] { std::abort(); });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << describe(status);
}

TEST(Sandbox, AllowsAbortThoughTheSignalIsIgnored) {
  Child child(Start::kNoCapability, [] {
    ::signal(SIGABRT, SIG_IGN);
    enter_or_end({.kept_descriptors = {}, .start_threads = {}});
    std::abort();
  });
  const int status = child.wait();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << describe(status);
}

#ifndef FUSE4FS_SANITIZED  // The sanitizers have last words and an end of their own for these two.
TEST(Sandbox, AllowsTheLibraryToReportABrokenHeap) {
  testing::internal::CaptureStderr();
  const int status = ends_by([] {
    void* volatile block = std::malloc(100);
    std::free(block);
    std::free(block);
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << describe(status);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("double free"), std::string::npos);
}

TEST(Sandbox, AllowsTheLibraryToReportABrokenStack) {
  testing::internal::CaptureStderr();
  const int status = ends_by([] {
    char buffer[16];
    char* volatile end = buffer;
    for (int i = 0; i < 64; ++i) const_cast<volatile char*>(end)[i] = 'x';
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << describe(status);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("stack smashing"), std::string::npos);
}
#endif

}  // namespace
}  // namespace fuse4fs::sandbox::test
