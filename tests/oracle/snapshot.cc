// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/snapshot.h"

#include <dirent.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>
#include <sstream>

#include "base/unique_fd.h"
#include "tests/oracle/differences.h"

namespace fuse4fs::oracle {
namespace {

constexpr std::size_t kMostData = 8 << 20;  // bytes read of one file
constexpr off_t kPage = 4096;
constexpr off_t kUsualSize = 4 << 20;
constexpr std::size_t kMostEdges = 4096;

std::string trouble(const char* call) { return fmt::format("{}: {}\n", call, ::strerrorname_np(errno)); }

// Relative to the working directory, which is the mount's root while a snapshot is made.
void look_at_xattrs(const std::string& path, Entry& entry) {
  std::string names(64 << 10, '\0');
  const ssize_t length = ::llistxattr(path.c_str(), names.data(), names.size());
  if (length < 0) {
    entry.trouble += trouble("listxattr");
    return;
  }
  names.resize(static_cast<std::size_t>(length));
  std::istringstream all(names);
  std::string value(64 << 10, '\0');
  for (std::string name; std::getline(all, name, '\0');) {
    const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (size < 0) {
      entry.trouble += trouble(("getxattr of " + name).c_str());
    } else {
      entry.xattrs[name] = value.substr(0, static_cast<std::size_t>(size));
    }
  }
}

void look_at_flags(int file, Entry& entry) {
  int flags = 0;
  if (::ioctl(file, FS_IOC_GETFLAGS, &flags) == 0) {
    entry.flags = static_cast<std::uint32_t>(flags);
  } else {
    entry.trouble += trouble("FS_IOC_GETFLAGS");
  }
  fsxattr attributes{};
  if (::ioctl(file, FS_IOC_FSGETXATTR, &attributes) == 0) {
    entry.project = attributes.fsx_projid;
  } else {
    entry.trouble += trouble("FS_IOC_FSGETXATTR");
  }
}

// Appends the bytes from `at` to `end`; false at the first trouble.
bool read_range(int file, off_t at, off_t end, Entry& entry) {
  std::vector<char> chunk(256 << 10);
  while (at < end && entry.content.size() < kMostData) {
    const ssize_t read = ::pread(file, chunk.data(),
                                 std::min<std::size_t>(chunk.size(), static_cast<std::size_t>(end - at)), at);
    if (read <= 0) {
      entry.trouble += read < 0 ? trouble("pread") : fmt::format("pread ends at {}\n", at);
      return false;
    }
    entry.content.append(chunk.data(), static_cast<std::size_t>(read));
    at += read;
  }
  return true;
}

// Those that are not all zeros, each behind its offset.
bool read_pages(int file, off_t at, off_t end, Entry& entry) {
  Entry whole;
  if (!read_range(file, at, end, whole)) {
    entry.trouble += whole.trouble;
    return false;
  }
  for (std::size_t begin = 0; begin < whole.content.size(); begin += kPage) {
    const auto page = std::string_view(whole.content).substr(begin, kPage);
    if (page.find_first_not_of('\0') == std::string_view::npos || entry.content.size() >= kMostData) continue;
    entry.content += fmt::format("[{}]", at + static_cast<off_t>(begin));
    entry.content += page;
  }
  return true;
}

void look_at_edges(int file, Entry& entry) {
  const auto size = static_cast<off_t>(entry.status.stx_size);
  for (off_t at = 0; at < size && entry.edges.size() < kMostEdges;) {
    const off_t data = ::lseek(file, at, SEEK_DATA);
    if (data < 0) {
      if (errno != ENXIO) entry.trouble += trouble("SEEK_DATA");
      return;
    }
    const off_t hole = ::lseek(file, data, SEEK_HOLE);
    if (hole <= data) {
      entry.trouble += fmt::format("SEEK_HOLE from {} answers {}\n", data, hole);
      return;
    }
    entry.edges.push_back(data);
    entry.edges.push_back(hole);
    at = hole;
  }
}

// A file of usual size is read from end to end, as the page cache has it. Then the cache is emptied: the
// kernel takes what is cached over an unwritten range for data, what it reads ahead too. Of a large sparse
// file only the data is read, in whole pages: holes in them are not the same everywhere (differences.h), and
// a page of zeros counts as a hole.
void look_at_content(int file, const Look& look, Entry& entry) {
  const auto size = static_cast<off_t>(entry.status.stx_size);
  const bool usual = size <= kUsualSize;
  if (usual && !read_range(file, 0, size, entry)) return;
  if (seek_is_left_out(entry.status.stx_mode, entry.flags.value_or(0))) {
    // All that an inode can hold.
    if (!usual) read_pages(file, 0, kPage, entry);
    return;
  }
  forget_cached(file);
  look_at_edges(file, entry);
  off_t read = 0;  // up to here
  for (std::size_t i = 0; !usual && i + 1 < entry.edges.size(); i += 2) {
    const off_t begin = std::max(entry.edges[i] / kPage * kPage, read);
    const off_t end = std::min((entry.edges[i + 1] + kPage - 1) / kPage * kPage, size);
    if (begin < end && !read_pages(file, begin, end, entry)) return;
    read = std::max(end, read);
  }
  if (!look.edges) entry.edges.clear();
}

std::optional<Entry> look_at_here(const std::string& path, const Look& look) {
  Entry entry;
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &entry.status) !=
      0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP) return std::nullopt;
    entry.trouble = trouble("statx");
    return entry;
  }
  if (look.xattrs) look_at_xattrs(path, entry);
  const mode_t type = entry.status.stx_mode & S_IFMT;
  if (type == S_IFLNK) {
    entry.target.resize(8192);
    const ssize_t length = ::readlink(path.c_str(), entry.target.data(), entry.target.size());
    if (length < 0) entry.trouble += trouble("readlink");
    entry.target.resize(static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  }
  if (look.depth == Depth::kWhole && (type == S_IFREG || type == S_IFDIR)) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file) {
      entry.trouble += trouble("open");
      return entry;
    }
    if (look.flags) look_at_flags(file.get(), entry);
    if (type == S_IFREG) look_at_content(file.get(), look, entry);
  }
  return entry;
}

void walk_here(const std::string& path, const Look& look, Tree& tree) {
  auto entry = look_at_here(path, look);
  if (!entry) return;
  const bool directory = S_ISDIR(entry->status.stx_mode);
  Entry& kept = tree[path] = std::move(*entry);
  if (!directory) return;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(path.c_str()), ::closedir);
  if (listing == nullptr) {
    kept.trouble += trouble("opendir");
    return;
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* child = ::readdir(listing.get())) {
    const std::string name = child->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  if (errno != 0) kept.trouble += trouble("readdir");
  std::ranges::sort(names);
  if (std::ranges::adjacent_find(names) != names.end()) kept.trouble += "readdir gives a name twice\n";
  for (const std::string& name : names) {
    const std::string below = path == "." ? name : path + "/" + name;
    walk_here(below, look, tree);
    if (!tree.contains(below)) kept.trouble += fmt::format("{} is listed but not there\n", name);
  }
}

// Everything below is relative to the working directory.
class Stay {
 public:
  explicit Stay(int root) : inside_(::fchdir(root) == 0) {}
  ~Stay() { std::ignore = ::chdir("/"); }
  Stay(const Stay&) = delete;
  Stay& operator=(const Stay&) = delete;
  explicit operator bool() const { return inside_; }

 private:
  bool inside_;
};

}  // namespace

std::optional<Entry> look_at(int root, const std::string& path, const Look& look) {
  const Stay stay(root);
  return stay ? look_at_here(path, look) : std::nullopt;
}

Tree walk(int root, const Look& look) {
  Tree tree;
  if (const Stay stay(root); stay) walk_here(".", look, tree);
  return tree;
}

std::uint32_t flags_of(int file) {
  int flags = 0;
  return ::ioctl(file, FS_IOC_GETFLAGS, &flags) == 0 ? static_cast<std::uint32_t>(flags) : 0;
}

void forget_cached(int file) {
  ::fsync(file);
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

std::string sorted_names(const std::string& names) {
  std::set<std::string> set;
  std::istringstream all(names);
  for (std::string name; std::getline(all, name, '\0');) set.insert(name);
  std::string text;
  for (const std::string& name : set) text += name + "\n";
  return text;
}

}  // namespace fuse4fs::oracle
