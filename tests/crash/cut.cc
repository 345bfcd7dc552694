// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/crash/cut.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/crash/load.h"
#include "tests/oracle/comparison.h"
#include "tests/oracle/process.h"
#include "tests/oracle/snapshot.h"
#include "tests/oracle/volumes.h"

namespace fuse4fs::crash {
namespace fs = std::filesystem;
namespace {

using oracle::run;
using oracle::Server;
using oracle::Tree;
using oracle::words_of;
using oracle::Writing;
using Words = std::vector<std::string>;

Words operator+(Words one, const Words& two) {
  one.insert(one.end(), two.begin(), two.end());
  return one;
}

std::string need(const Words& command) {
  const auto ran = run(command);
  if (ran.status != 0) throw std::runtime_error(fmt::format("{}: {}", command[0], ran.output));
  return ran.output;
}

class LoopDevice {
 public:
  explicit LoopDevice(const fs::path& image) : path_(need({"losetup", "-f", "--show", image})) {
    while (!path_.empty() && path_.back() == '\n') path_.pop_back();
  }
  ~LoopDevice() { run({"losetup", "-d", path_}); }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// An image, and its journal's where that is one of its own.
struct Images {
  fs::path volume, journal;

  [[nodiscard]] Images copy(const std::string& name) const {
    Images copies{volume.parent_path() / name, {}};
    oracle::copy_image(volume, copies.volume);
    if (!journal.empty())
      oracle::copy_image(journal, copies.journal = volume.parent_path() / (name + ".journal"));
    return copies;
  }
  [[nodiscard]] std::string hash() const {
    std::string sums = need({"sha256sum", volume});
    if (!journal.empty()) sums += need({"sha256sum", journal});
    return sums;
  }
};

struct Side {
  Server server;
  Writing writing;
};

// A mount until it goes out of scope.
class Mount {
 public:
  // `more` are options for the kernel.
  Mount(const Images& images, Side side, const fs::path& point, std::string_view more = {})
      : images_(images), side_(side), point_(point) {
    fs::create_directories(point_);
    std::string options = side.writing == Writing::kAllowed ? "rw,noatime" : "ro,noatime";
    if (!images.journal.empty()) {
      journal_.emplace(images.journal);
      options += ",journal_path=" + journal_->path();
    }
    if (!more.empty()) options += fmt::format(",{}", more);
    const auto mounted = side.server == Server::kKernel
                             ? run({"mount", "-t", "ext4", "-o", "loop," + options, images.volume, point_})
                             : run({FUSE4FS_HELPER, images.volume, point_, "-o",
                                    fmt::format("{},log={}", options, log_path().string())});
    if (mounted.status != 0) {
      trouble_ = mounted.output;
      return;
    }
    mounted_ = true;
  }
  ~Mount() {
    if (mounted_) ::umount2(point_.c_str(), MNT_DETACH);
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] const std::string& trouble() const { return trouble_; }
  [[nodiscard]] const fs::path& point() const { return point_; }
  [[nodiscard]] Tree tree() const {
    const UniqueFd root(::open(point_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return oracle::walk(root.get(), {.depth = oracle::Depth::kWhole});
  }
  // And waits until the image is nobody's any more.
  void unmount() {
    if (::umount2(point_.c_str(), 0) != 0)
      throw std::runtime_error("umount: " + std::string(::strerror(errno)));
    mounted_ = false;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!need({"losetup", "-j", images_.volume}).empty()) {
      if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("the loop device stays");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    journal_.reset();
  }
  [[nodiscard]] std::string log() const { return oracle::contents_of(log_path()); }

 private:
  [[nodiscard]] fs::path log_path() const { return images_.volume.string() + ".log"; }

  const Images images_;
  const Side side_;
  const fs::path point_;
  std::optional<LoopDevice> journal_;
  bool mounted_ = false;
  std::string trouble_;
};

Images make(const Kind& kind, const fs::path& scratch) {
  Images images{scratch / "cut", {}};
  Words command = Words{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0"} + words_of(kind.arguments);
  if (kind.journal.empty()) {
    need(command + Words{images.volume, std::string(kind.size)});
    return images;
  }
  images.journal = scratch / "cut.journal";
  need({"truncate", "-s", "8M", images.journal});
  need({"truncate", "-s", std::string(kind.size), images.volume});
  const LoopDevice journal(images.journal);
  need(Words{"mkfs.ext4", "-q", "-F", "-O", "journal_dev"} + words_of(kind.journal) + Words{journal.path()});
  need(command + Words{"-J", "device=" + journal.path(), images.volume});
  return images;
}

// What it complains of; empty if nothing.
std::string e2fsck(const Images& images) {
  Words command{"e2fsck", "-fn"};
  std::optional<LoopDevice> journal;
  if (!images.journal.empty()) {
    journal.emplace(images.journal);
    command = command + Words{"-j", journal->path()};
  }
  const auto judged = run(command + Words{images.volume});
  return judged.status == 0 ? "" : judged.output;
}

bool is_later(const statx_timestamp& time, time_t than) { return time.tv_sec >= than; }

// What is truncated after a cut gets the time of that: no two recoveries have the same.
void forgive_recovery_times(Tree& one, Tree& two, time_t cut) {
  for (auto& [path, entry] : one) {
    const auto other = two.find(path);
    if (other == two.end()) continue;
    using Status = struct statx;
    for (auto Status::* const field : {&Status::stx_mtime, &Status::stx_ctime}) {
      if (is_later(entry.status.*field, cut) && is_later(other->second.status.*field, cut))
        other->second.status.*field = entry.status.*field;
    }
  }
}

// Who only reads leaves a truncate as the cut left it: the length is the new one, the blocks behind it are
// still there. Who finishes it sets the times.
void forgive_unfinished_truncates(const Tree& finished, Tree& unfinished, time_t cut) {
  for (auto& [path, entry] : unfinished) {
    const auto other = finished.find(path);
    if (other == finished.end()) continue;
    const auto& status = other->second.status;
    if (!is_later(status.stx_mtime, cut) || !is_later(status.stx_ctime, cut)) continue;
    if (entry.status.stx_blocks < status.stx_blocks) continue;
    entry.status.stx_blocks = status.stx_blocks;
    entry.status.stx_mtime = status.stx_mtime;
    entry.status.stx_ctime = status.stx_ctime;
  }
}

// A file that fast commits touch may go through the orphan list of the kernel's replay (6.18), which then
// stamps it with the time of the replay. The live file had no such time, nor has ours: tests/mount compares
// its mtime with that.
void forgive_replay_times(Tree& kernels, const Tree& ours, time_t cut) {
  for (auto& [path, entry] : kernels) {
    const auto other = ours.find(path);
    if (other == ours.end()) continue;
    using Status = struct statx;
    for (auto Status::* const field : {&Status::stx_mtime, &Status::stx_ctime}) {
      if (is_later(entry.status.*field, cut)) entry.status.*field = other->second.status.*field;
    }
  }
}

std::string difference(Tree one, Tree two, time_t cut) {
  forgive_recovery_times(one, two, cut);
  const auto found = oracle::Comparison::exact({}).compare(one, two, oracle::Depth::kWhole);
  return found ? found->text : "";
}

std::string replayed_by(const std::string& log) {
  std::string found;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const auto at = line.find("replayed");
    if (at == std::string::npos) continue;
    const auto colon = line.find(": ", at);
    found += (found.empty() ? "" : "; ") + line.substr(colon == std::string::npos ? at : colon + 2);
  }
  return found;
}

}  // namespace

Outcome cut_and_compare(const Kind& kind, std::uint64_t seed, std::uint64_t operations,
                        const fs::path& scratch) {
  const fs::path point = scratch / "mnt";
  const Side kernel_writes{Server::kKernel, Writing::kAllowed};
  const Side kernel_reads{Server::kKernel, Writing::kForbidden};
  const Images cut = make(kind, scratch);
  {
    const std::string options =
        kind.kernel_options.empty() ? "commit=1" : fmt::format("commit=1,{}", kind.kernel_options);
    Mount mount(cut, kernel_writes, point, options);
    if (!mount.mounted()) throw std::runtime_error("the kernel does not mount it: " + mount.trouble());
    load_and_cut(point, seed, operations, kind.fast_commit ? Mix::kFastCommits : Mix::kEverything);
    mount.unmount();
  }
  // Seconds: what comes after is in a later one.
  const time_t cut_at = ::time(nullptr) + 1;
  while (::time(nullptr) < cut_at) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const Images ours = cut.copy("ours");
  const Images kernels = cut.copy("kernels");

  const auto wrong = [](std::string words) { return Outcome{Verdict::kWrong, std::move(words), {}}; };
  // Ours, reading only.
  const std::string before = cut.hash();
  Tree read_only;
  {
    Mount mount(cut, {Server::kOurs, Writing::kForbidden}, point);
    if (!mount.mounted()) return wrong("our read-only mount: " + mount.trouble());
    read_only = mount.tree();
    mount.unmount();
  }
  if (cut.hash() != before) return wrong("our read-only mount wrote to the image");
  // Ours, writing.
  Outcome outcome;
  {
    Mount mount(ours, {Server::kOurs, Writing::kAllowed}, point);
    if (!mount.mounted()) return wrong("our mount: " + mount.trouble());
    mount.unmount();
    outcome.replayed = replayed_by(mount.log());
  }
  if (const auto complaints = e2fsck(ours); !complaints.empty()) return wrong("ours: " + complaints);
  Tree by_us;
  {
    Mount mount(ours, kernel_reads, point);
    if (!mount.mounted()) return wrong("ours, mounted by the kernel: " + mount.trouble());
    by_us = mount.tree();
    mount.unmount();
  }
  forgive_unfinished_truncates(by_us, read_only, cut_at);
  if (const auto text = difference(by_us, read_only, cut_at); !text.empty())
    return wrong("our two ways (writing / in memory): " + text);
  // The kernel's.
  std::string kernels_trouble;
  {
    Mount mount(kernels, kernel_writes, point);
    if (mount.mounted())
      mount.unmount();
    else
      kernels_trouble = "it does not mount: " + mount.trouble();
  }
  if (kernels_trouble.empty()) kernels_trouble = e2fsck(kernels);
  if (!kernels_trouble.empty()) {
    outcome.verdict = kind.fast_commit ? Verdict::kKernelFailed : Verdict::kWrong;
    outcome.words = "the kernel's: " + kernels_trouble;
    return outcome;
  }
  Mount mount(kernels, kernel_reads, point);
  if (!mount.mounted()) return wrong("the kernel's, mounted again: " + mount.trouble());
  Tree by_kernel = mount.tree();
  if (kind.fast_commit) forgive_replay_times(by_kernel, by_us, cut_at);
  const auto text = difference(std::move(by_kernel), by_us, cut_at);
  mount.unmount();
  if (!text.empty()) return wrong("kernel / ours: " + text);
  outcome.verdict = Verdict::kSame;
  return outcome;
}

}  // namespace fuse4fs::crash
