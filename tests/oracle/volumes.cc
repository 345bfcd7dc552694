// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/volumes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "tests/oracle/process.h"

namespace fuse4fs::oracle {
namespace fs = std::filesystem;
namespace {

constexpr Kind kKinds[] = {
    {"ext4-4k", "64M", "-t ext4 -b 4096", "as mkfs.ext4 makes it"},
    {"ext4-1k", "32M", "-t ext4 -b 1024", "blocks smaller than pages"},
    {"ext4-2k", "48M", "-t ext4 -b 2048", "blocks smaller than pages"},
    {"ext2", "32M", "-t ext2 -b 1024", "indirect maps, no journal"},
    {"ext3", "64M", "-t ext3 -b 4096", "indirect maps, journal, hashed directories"},
    {"no-csum", "64M", "-t ext4 -b 4096 -O ^metadata_csum", "crc16 group checksums"},
    {"bigalloc", "128M", "-t ext4 -b 4096 -O bigalloc -C 16384", "clusters of four blocks"},
    {"inline_data", "64M", "-t ext4 -b 4096 -O inline_data -I 256", "small files inside the inode"},
    {"no-64bit", "64M", "-t ext4 -b 4096 -O ^64bit", "32-byte group descriptors"},
    {"ea_inode", "64M", "-t ext4 -b 4096 -O ea_inode", "large xattr values in inodes"},
    {"project", "64M", "-t ext4 -b 4096 -O project -I 256", "project ids", "-t ext4 -b 4096 -I 256"},
    {"large_dir", "32M", "-t ext4 -b 1024 -O large_dir", "directories that may grow to three levels"},
    {"many-groups", "32M", "-t ext4 -b 1024 -g 256 -O ^flex_bg,^resize_inode -N 4096", "128 small groups"},
    {"small-inodes", "64M", "-t ext4 -b 4096 -I 128", "seconds only, xattrs in blocks"},
    {"no-journal", "64M", "-t ext4 -b 4096 -O ^has_journal", "ext4 without a journal"},
};

std::runtime_error trouble(const std::string& what) {
  return std::runtime_error(fmt::format("{}: {}", what, ::strerror(errno)));
}

// The build's own, or another build's: a sanitizer's, a colleague's.
std::string helper() {
  const char* other = std::getenv("FUSE4FS_HELPER");
  return other != nullptr ? other : FUSE4FS_HELPER;
}

// The server that serves `point`, by its title.
UniqueFd server_of(const fs::path& point) {
  const std::string about = " on " + point.string();
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string title = contents_of(entry.path() / "cmdline");
    if (title.starts_with("fuse4fs: ") && title.find(about) != std::string::npos)
      return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, std::stoi(name), 0)));
  }
  return {};
}

}  // namespace

std::vector<std::string> words_of(std::string_view text) {
  std::istringstream all{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; all >> word;) words.push_back(word);
  return words;
}

std::span<const Kind> kinds() { return kKinds; }
const Kind* find_kind(std::string_view name) {
  const auto found = std::ranges::find(kKinds, name, &Kind::name);
  return found == std::end(kKinds) ? nullptr : found;
}

void make_image(const Kind& kind, std::string_view arguments, const fs::path& image) {
  // A fixed time, for two images made one after the other.
  std::vector<std::string> command = {"env", "E2FSPROGS_FAKE_TIME=1700000000", "mkfs.ext4", "-q", "-F"};
  for (const std::string& word : words_of(arguments)) command.push_back(word);
  // Known beforehand, so that a run can be repeated.
  for (const char* word :
       {"-U", "f0f4f500-0000-4000-8000-000000000001", "-E", "hash_seed=f0f4f500-0000-4000-8000-000000000002"})
    command.emplace_back(word);
  command.push_back(image);
  command.emplace_back(kind.size);
  fs::remove(image);
  if (const Ran made = run(command); made.status != 0) throw std::runtime_error("mkfs.ext4: " + made.output);
}

std::string_view name_of(Server server) { return server == Server::kOurs ? "fuse4fs" : "kernel"; }

Mounted::Mounted(Server server, fs::path image, fs::path point, Writing writing)
    : server_(server), image_(std::move(image)), point_(std::move(point)) {
  const std::string how = writing == Writing::kAllowed ? "rw" : "ro";
  // Both without access times, so that only explicit ones are to be compared.
  const Ran mounted =
      server_ == Server::kKernel
          ? run({"mount", "-t", "ext4", "-o", "loop,noatime,acl,user_xattr," + how, image_, point_})
          : run({helper(), image_, point_, "-o", "noatime,log=" + point_.string() + ".log," + how});
  if (mounted.status != 0)
    throw std::runtime_error(fmt::format("mounting by {}: {}", name_of(server_), mounted.output));
  mounted_ = true;
  files_.root.reset(::open(point_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!files_.root) throw trouble(point_.string());
  if (server_ == Server::kOurs) process_ = server_of(point_);
}

Mounted::~Mounted() {
  if (!mounted_) return;
  for (UniqueFd& slot : files_.slots) slot.reset();
  files_.root.reset();
  // MNT_FORCE: a server that answers nothing any more is cut off.
  if (::umount2(point_.c_str(), 0) != 0) ::umount2(point_.c_str(), MNT_FORCE | MNT_DETACH);
}

std::string Mounted::unmount() {
  for (UniqueFd& slot : files_.slots) slot.reset();
  files_.root.reset();
  std::string wrong;
  if (::umount2(point_.c_str(), 0) != 0) {
    wrong = fmt::format("umount: {}\n", ::strerror(errno));
    ::umount2(point_.c_str(), MNT_FORCE | MNT_DETACH);
  }
  mounted_ = false;
  if (server_ == Server::kKernel) return wrong;
  // Its last words, a leak report for one, come after the unmount.
  pollfd ended{.fd = process_.get(), .events = POLLIN, .revents = 0};
  if (process_ && ::poll(&ended, 1, 20'000) == 0)
    wrong += "the server is still there 20 s after the unmount\n";
  const std::string log = contents_of(point_.string() + ".log");
  if (log.find("Sanitizer") != std::string::npos || log.find("runtime error") != std::string::npos)
    wrong += "a sanitizer's report in the server's log:\n" + log;
  return wrong;
}

std::string Mounted::log() const {
  const std::string all = contents_of(point_.string() + ".log");
  constexpr std::size_t kTail = 4000;
  return all.size() > kTail ? all.substr(all.size() - kTail) : all;
}

std::string complaints_about(const fs::path& image) {
  const Ran judged = run({"e2fsck", "-fn", image});
  return judged.status == 0 ? "" : judged.output;
}

Scratch::Scratch(const fs::path& parent) {
  std::string name = parent / "fuse4fs-oracle-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw trouble(parent.string());
  path_ = name;
  fs::permissions(path_, fs::perms(0755));  // other users walk through it to the mounts
}
Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path usual_scratch() { return fs::is_directory("/dev/shm") ? "/dev/shm" : "/tmp"; }

void enter_private_namespace() {
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    throw trouble("a private mount namespace (this needs root)");
}

}  // namespace fuse4fs::oracle
