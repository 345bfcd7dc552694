// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>

#include "tests/oracle/differences.h"
#include "tests/oracle/process.h"

namespace fuse4fs::oracle {
namespace fs = std::filesystem;
namespace {

// Generous: a sanitizer build on a busy machine.
constexpr std::chrono::seconds kPatience{120};

fs::path image_path(const Setup& setup, std::size_t image) {
  return setup.scratch / fmt::format("image{}", image);
}

// A server keeps its mount point, whichever image it serves.
std::unique_ptr<Mounted> mount(const Setup& setup, Server server, std::size_t image) {
  const fs::path point = setup.scratch / (setup.first == Server::kKernel ? fmt::format("mnt{}", image)
                                                                         : std::string(name_of(server)));
  fs::create_directories(point);
  return std::make_unique<Mounted>(server, image_path(setup, image), point);
}

// Everything on the volume, and its figures known. The kernel's FUSE asks for st_blocks again only after a
// close.
void settle(Mounted& side) {
  for (const UniqueFd& slot : side.files().slots)
    if (slot) ::close(::dup(slot.get()));
  ::syncfs(side.root());
}

struct statfs figures_of(const Mounted& side) {
  struct statfs figures{};
  ::fstatfs(side.root(), &figures);
  return figures;
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// Inodes of 128 bytes have no room for nanoseconds and epoch bits.
VolumeRules rules_of(const Kind& kind) {
  VolumeRules rules;
  char enabled = 'N';
  std::ifstream("/sys/module/fuse/parameters/enable_iomap") >> enabled;
  rules.mapped_ahead = enabled == 'Y';
  rules.inline_data = kind.arguments.find("inline_data") != std::string_view::npos;
  constexpr std::string_view kClusters = "-C ";
  if (const auto at = kind.arguments.find(kClusters); at != std::string_view::npos)
    rules.cluster_size = static_cast<std::uint32_t>(
        std::strtoul(std::string(kind.arguments.substr(at + kClusters.size())).c_str(), nullptr, 10));
  if (kind.arguments.find("-I 128") == std::string_view::npos) return rules;
  rules.granularity = 1'000'000'000;
  rules.latest = std::numeric_limits<std::int32_t>::max();
  return rules;
}

}  // namespace

Session::Session(const Setup& setup)
    : setup_(setup),
      servers_{setup.first, Server::kKernel},
      rules_(rules_of(*setup.kind)),
      watchdog_(setup.scratch / name_of(Server::kOurs), kPatience) {
  for (const std::size_t image : {0, 1}) {
    copy_image(setup_.pristine[image], image_path(setup_, image));
    sides_[image] = mount(setup_, servers_[image], image);
  }
  rules_.block_size = static_cast<std::uint32_t>(figures_of(side(1)).f_bsize);
  if (rules_.cluster_size == 0) rules_.cluster_size = rules_.block_size;
}

std::string Session::log() const {
  for (const auto& side : sides_)
    if (side != nullptr && side->server() == Server::kOurs) return side->log();
  return {};
}

std::uint64_t Session::free_percent() const {
  const struct statfs figures = figures_of(*sides_[1]);
  return figures.f_bfree * 100 / figures.f_blocks;
}

std::optional<Failure> Session::signed_by(std::optional<Failure> failure) const {
  if (failure)
    failure->text += fmt::format("   ({} / {}{})", name_of(servers_[0]), name_of(servers_[1]),
                                 watchdog_.bit() ? "; fuse4fs did not answer and was cut off" : "");
  return failure;
}

std::optional<Failure> Session::run(const Step& step) {
  watchdog_.alive(to_text(step));
  const bool whole_machine = step.operation == Operation::kRemount || step.operation == Operation::kSwap;
  if (whole_machine)
    return signed_by(mount_again(step.operation == Operation::kSwap ? Next::kSwapped : Next::kSame));
  if (step.operation == Operation::kCheck) return check_whole();
  if (step.operation == Operation::kDropCaches) {
    for (const auto& side : sides_) settle(*side);
    std::ofstream("/proc/sys/vm/drop_caches") << 2;
    return std::nullopt;
  }
  const Circumstances there = circumstances(step);
  if (is_left_out(step, there)) {
    last_ = {.error = EPERM, .at = "left out"};
    return std::nullopt;
  }
  std::array<Returned, 2> returned;
  for (const int image : {0, 1}) {
    timeline_.begins(image);
    returned[static_cast<std::size_t>(image)] = execute(step, side(static_cast<std::size_t>(image)).files());
    timeline_.ends(image);
  }
  last_ = returned[kernels_image()];
  note_unsure(step);
  auto failure = compare_step(step, there, returned[0], returned[1]);
  if (!failure) failure = check_touched(step, returned[0]);
  return signed_by(std::move(failure));
}

bool Session::is_left_out(const Step& step, const Circumstances& there) {
  if (would_hurt_the_kernel(step)) return true;
  if (!there.locked) return false;
  const bool written_second = step.operation == Operation::kCopy;
  // What open(2) opens is named; the slot is where it goes.
  const bool by_name = written_second || step.operation == Operation::kOpen;
  const auto attributes =
      kernel_attributes(written_second ? step.other : step.path, by_name ? -1 : step.slot);
  return writing_is_left_out(step, attributes) || times_are_left_out(step, attributes, rules_);
}

// The kernel's ext4 (6.18) does not survive truncate(2) and fallocate(2) of a file inside of its inode: what
// is written to it afterwards is lost with the page cache (write "abc", truncate to 2447726, write "XY" at 2,
// umount), and where nobody has opened it for writing since it was read, truncate dereferences NULL
// (jbd2_journal_file_inode, from ext4_convert_inline_data), after which sync(2) hangs for the whole machine.
bool Session::would_hurt_the_kernel(const Step& step) {
  if (!rules_.inline_data) return false;
  if (step.operation != Operation::kTruncate && step.operation != Operation::kFallocate) return false;
  Mounted& kernels = side(kernels_image());
  UniqueFd opened;
  int file = -1;
  struct stat status{};
  if (step.slot >= 0) {
    file = kernels.files().slots[static_cast<std::size_t>(step.slot)].get();
    if (::fstat(file, &status) != 0) return false;
  } else {
    if (::fstatat(kernels.root(), step.path.c_str(), &status, 0) != 0 || !S_ISREG(status.st_mode))
      return false;
    opened = UniqueFd(::openat(kernels.root(), step.path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    file = opened.get();
  }
  if ((flags_of(file) & FS_INLINE_DATA_FL) == 0) return false;
  return step.operation == Operation::kFallocate || static_cast<off_t>(step.length) > status.st_size;
}

void Session::note_unsure(const Step& step) {
  for (const std::size_t image : {0, 1}) {
    if (servers_[image] != Server::kOurs) continue;
    OpenFiles& files = side(image).files();
    const int fd = step.slot >= 0 ? files.slots[static_cast<std::size_t>(step.slot)].get() : files.root.get();
    struct stat status{};
    if (::fstatat(fd, step.slot >= 0 ? "" : step.path.c_str(), &status, step.slot >= 0 ? AT_EMPTY_PATH : 0) ==
            0 &&
        ctime_is_unsure_after(step, status.st_mode))
      unsure_[image].insert(status.st_ino);
  }
}

// STATX_ATTR_* on the kernel's side; 0 if there is nothing. The kernel's FUSE does not show them.
std::uint64_t Session::kernel_attributes(const std::string& path, int slot) {
  Mounted& kernels = side(kernels_image());
  struct statx status{};
  const int fd = slot >= 0 ? kernels.files().slots[static_cast<std::size_t>(slot)].get() : kernels.root();
  if (::statx(fd, slot >= 0 ? "" : path.c_str(), slot >= 0 ? AT_EMPTY_PATH : 0, STATX_BASIC_STATS, &status) !=
      0)
    return 0;
  return status.stx_attributes;
}

Circumstances Session::circumstances(const Step& step) {
  Circumstances there{.rules = rules_};
  std::uint64_t attributes = step.slot >= 0 ? kernel_attributes({}, step.slot) : 0;
  for (const std::string& path : {step.path, step.other})
    if (!path.empty()) attributes |= kernel_attributes(path, -1) | kernel_attributes(parent_of(path), -1);
  there.locked = (attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
  return there;
}

// A repair: the step that needed it is still the last one.
std::optional<Failure> Session::run_all(const std::vector<Step>& steps) {
  const Returned last = last_;
  std::optional<Failure> failure;
  for (const Step& step : steps)
    if (!failure) failure = run(step);
  last_ = last;
  return failure;
}

std::optional<Failure> Session::compare_step(const Step& step, const Circumstances& there,
                                             const Returned& first, const Returned& second) {
  if (first == second) return std::nullopt;
  const bool swapped = servers_[1] == Server::kOurs;
  for (const KnownDifference& known : known_differences()) {
    if (!known.applies(step, there, swapped ? second : first, swapped ? first : second)) continue;
    return run_all(known.repair(step));
  }
  std::string category = fmt::format("return of {}", name_of(step.operation));
  if (first.error != second.error) category += fmt::format(" {}/{}", first.error, second.error);
  return Failure{.category = category, .text = fmt::format("{} / {}", to_text(first), to_text(second))};
}

// Compares one thing that a step touched. A known trace is repaired, and compared again by that.
std::optional<Failure> Session::check_trace(const Step& step, const Returned& returned,
                                            const std::string& path,
                                            const std::array<std::optional<Entry>, 2>& found) {
  const std::string what = path.empty() ? fmt::format("slot {}", step.slot) : path;
  auto failure = comparison().compare(what, found[0], found[1], Depth::kLight);
  // A trace on an inode whose ctime is unsure now must be repaired all the same: it will count again.
  const auto trace =
      failure ? failure : Comparison(timeline_, rules_, {}).compare(what, found[0], found[1], Depth::kLight);
  if (!trace) return std::nullopt;
  if (found[0] && found[1]) {
    const Entry& kernels = *found[kernels_image()];
    const Entry& ours = *found[1 - kernels_image()];
    for (const KnownTrace& known : known_traces()) {
      if (!known.applies(step, returned, trace->category, ours, kernels)) continue;
      return run_all(known.repair(step, path, kernels));
    }
  }
  if (!failure) return std::nullopt;
  failure->category += fmt::format(" after {}", name_of(step.operation));
  return failure;
}

std::optional<Failure> Session::check_touched(const Step& step, const Returned& returned) {
  std::set<std::string> touched;
  for (const std::string& path : {step.path, step.other})
    if (!path.empty()) touched.insert({path, parent_of(path)});
  for (const std::string& path : touched) {
    const auto first = look_at(side(0).root(), path, look(Depth::kLight));
    const auto second = look_at(side(1).root(), path, look(Depth::kLight));
    if (auto failure = check_trace(step, returned, path, {first, second})) return failure;
  }
  if (step.slot < 0) return std::nullopt;
  std::array<std::optional<Entry>, 2> open;
  for (const std::size_t image : {0, 1}) {
    const int fd = side(image).files().slots[static_cast<std::size_t>(step.slot)].get();
    if (fd < 0) return std::nullopt;
    open[image].emplace();
    ::statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &open[image]->status);
  }
  return check_trace(step, returned, {}, open);
}

std::optional<Failure> Session::check_whole() {
  watchdog_.alive("the check of everything");
  for (const auto& side : sides_) settle(*side);
  Tree first = walk(side(0).root(), look(Depth::kWhole));
  Tree second = walk(side(1).root(), look(Depth::kWhole));
  auto failure = comparison().compare(first, second, Depth::kWhole);
  if (!failure) failure = check_free();
  tree_ = std::move(servers_[1] == Server::kKernel ? second : first);
  return signed_by(std::move(failure));
}

// Deleted inodes are freed a moment later (FORGET comes by itself), so this is asked for a while.
std::optional<Failure> Session::check_free() {
  struct statfs first{}, second{};
  for (int tries = 0; tries < 200; ++tries) {
    first = figures_of(side(0));
    second = figures_of(side(1));
    if (first.f_ffree == second.f_ffree) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (first.f_ffree != second.f_ffree)
    return Failure{.category = "free inodes",
                   .text = fmt::format("free inodes: {} / {}", first.f_ffree, second.f_ffree)};
  if (first.f_blocks != second.f_blocks)
    return Failure{.category = "blocks",
                   .text = fmt::format("f_blocks: {} / {}", first.f_blocks, second.f_blocks)};
  return std::nullopt;
}

std::optional<Failure> Session::mount_again(Next next) {
  std::array<Tree, 2> before;
  for (const std::size_t image : {0, 1}) {
    for (UniqueFd& slot : side(image).files().slots) slot.reset();
    settle(side(image));
    before[image] = walk(side(image).root(), look(Depth::kWhole));
  }
  for (const std::size_t image : {0, 1}) {
    const std::string wrong = side(image).unmount();
    sides_[image].reset();
    if (!wrong.empty()) return Failure{.category = "unmount", .text = wrong};
    watchdog_.alive("e2fsck");
    if (const std::string complaints = complaints_about(image_path(setup_, image)); !complaints.empty())
      return Failure{.category = fmt::format("e2fsck of {}'s image", name_of(servers_[image])),
                     .text = complaints};
  }
  if (next == Next::kSwapped && setup_.places == Setup::Places::kKeep) {
    if (auto failure = kernel_reads(before[0])) return failure;
  } else if (next == Next::kSwapped) {
    std::swap(servers_[0], servers_[1]);
  }
  watchdog_.alive("mounting again");
  for (const std::size_t image : {0, 1}) sides_[image] = mount(setup_, servers_[image], image);
  for (const std::size_t image : {0, 1}) {
    const Tree after = walk(side(image).root(), look(Depth::kWhole));
    if (auto failure =
            Comparison::exact(rules_, {unsure_[image]}).compare(before[image], after, Depth::kWhole)) {
      failure->category += " after a new mount";
      failure->text +=
          fmt::format(" (image {}, before / after; now mounted by {})", image, name_of(servers_[image]));
      return failure;
    }
  }
  unsure_ = {};
  return std::nullopt;
}

// Our image, where the kernel may only read it.
std::optional<Failure> Session::kernel_reads(const Tree& ours) {
  const fs::path point = setup_.scratch / "reader";
  fs::create_directories(point);
  const Mounted reader(Server::kKernel, image_path(setup_, 0), point, Writing::kForbidden);
  auto failure = Comparison::exact(rules_, {unsure_[0]})
                     .compare(ours, walk(reader.root(), look(Depth::kWhole)), Depth::kWhole);
  if (failure) failure->category += " as the kernel reads it";
  return failure;
}

std::optional<Failure> Session::delete_everything() {
  for (const auto& side : sides_) {
    const Tree tree = walk(side->root(), look(Depth::kWhole));
    for (const auto& [path, entry] : tree) {
      if ((entry.flags.value_or(0) & (FS_IMMUTABLE_FL | FS_APPEND_FL)) == 0) continue;
      const UniqueFd file(::openat(side->root(), path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
      int flags = static_cast<int>(*entry.flags) & ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
      ::ioctl(file.get(), FS_IOC_SETFLAGS, &flags);
    }
    std::error_code error;
    for (const auto& [path, entry] : tree)
      if (path != "." && path != "lost+found" && path.find('/') == std::string::npos)
        fs::remove_all(side->point() / path, error);
    if (error) return Failure{.category = "deleting", .text = error.message()};
    for (const auto& [name, value] : tree.at(".").xattrs) ::fremovexattr(side->root(), name.c_str());
    ::syncfs(side->root());
  }
  if (auto failure = check_free()) return failure;
  // Directories do not shrink; their sizes may differ (differences.h), the sum may not.
  std::array<std::uint64_t, 2> sectors{};
  for (int tries = 0; tries < 200; ++tries) {
    for (const std::size_t image : {0, 1}) {
      const struct statfs figures = figures_of(side(image));
      sectors[image] = figures.f_bfree * (static_cast<std::uint64_t>(figures.f_bsize) / 512);
      for (const auto& [path, entry] : walk(side(image).root(), look(Depth::kLight)))
        sectors[image] += entry.status.stx_blocks;
    }
    if (sectors[0] == sectors[1]) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return Failure{.category = "free blocks",
                 .text = fmt::format("free and in directories, with everything deleted: {} / {} sectors",
                                     sectors[0], sectors[1])};
}

std::optional<Failure> Session::finish() {
  auto failure = check_whole();
  if (!failure) failure = mount_again(Next::kSwapped);
  if (!failure) failure = delete_everything();
  if (!failure) failure = mount_again(Next::kSame);
  return signed_by(std::move(failure));
}

}  // namespace fuse4fs::oracle
