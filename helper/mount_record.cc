// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_record.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <memory>
#include <optional>
#include <utility>

#include "helper/command_line.h"
#include "helper/mount_table.h"

namespace fuse4fs::helper {
namespace {

constexpr std::string_view kVersion = "1";
constexpr std::string_view kNewPrefix = ".new-";
constexpr char kClaims[] = ".claims";
constexpr std::size_t kMostBytes = 64 << 10;

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

// Until it goes, no other helper changes the directory.
class DirectoryLock {
 public:
  explicit DirectoryLock(int directory) : directory_(directory) {
    while (::flock(directory_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  ~DirectoryLock() { ::flock(directory_, LOCK_UN); }

 private:
  int directory_;
};

std::string name_of(dev_t device) { return fmt::format("{}:{}", major(device), minor(device)); }

template <class Number>
std::optional<Number> number_in(std::string_view text, int base = 10) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<dev_t> device_in(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto high = number_in<unsigned>(text.substr(0, colon));
  const auto low = number_in<unsigned>(text.substr(colon + 1));
  if (!high || !low) return std::nullopt;
  return makedev(*high, *low);
}

std::string escaped(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    if (c > ' ' && c <= '~' && c != '\\')
      text += c;
    else
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return text;
}

std::optional<std::string> unescaped(std::string_view text) {
  constexpr std::size_t kLength = 4;  // \xNN
  std::string bytes;
  while (!text.empty()) {
    if (text.front() != '\\') {
      bytes += text.front();
      text.remove_prefix(1);
      continue;
    }
    if (text.size() < kLength || text[1] != 'x') return std::nullopt;
    const auto byte = number_in<unsigned char>(text.substr(2, 2), 16);
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
    text.remove_prefix(kLength);
  }
  return bytes;
}

// False if the value does not fit its key.
bool take(std::string_view key, const std::string& value, MountRecord& record) {
  const auto take_number = [&]<class Number>(Number& field) {
    const auto number = number_in<Number>(value);
    field = number.value_or(0);
    return number.has_value();
  };
  if (key == "VERSION") return value == kVersion;
  if (key == "DEVICE") {
    const auto device = device_in(value);
    record.device = device.value_or(0);
    return device.has_value();
  }
  if (key == "MOUNT_ID") return take_number(record.mount_id);
  if (key == "NAMESPACE") return take_number(record.name_space);
  if (key == "PID_NAMESPACE") return take_number(record.pid_name_space);
  if (key == "PID") return take_number(record.server.pid);
  if (key == "START") return take_number(record.server.start);
  if (key == "SOURCE") record.source = value;
  if (key == "ORIGIN") record.origin = value;
  if (key == "MOUNT_POINT") record.mount_point = value;
  if (key == "UNIT") record.unit = value;
  if (key == "USER") record.user = value;
  if (key == "OWNER") return take_number(record.owner);
  return true;
}

std::uint64_t inode_of(const char* path) {
  struct stat status = {};
  return ::stat(path, &status) == 0 ? status.st_ino : 0;
}

Result<void> check(int directory, mode_t forbidden) {
  struct stat status = {};
  if (::fstat(directory, &status) != 0) return fail_last();
  if (status.st_uid != 0 || (status.st_mode & forbidden) != 0) return fail(EPERM);
  return {};
}

Result<UniqueFd> open_directory(int parent, const std::string& name, mode_t mode) {
  const bool made = ::mkdirat(parent, name.c_str(), mode) == 0;
  if (!made && errno != EEXIST) return fail_last();
  UniqueFd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_last();
  // Whatever the caller's umask.
  if (made && ::fchmod(fd.get(), mode) != 0) return fail_last();
  return fd;
}

}  // namespace

std::string encode(const MountRecord& record) {
  std::string text = fmt::format(
      "VERSION={}\nDEVICE={}\nSOURCE={}\nORIGIN={}\nMOUNT_POINT={}\nMOUNT_ID={}\nNAMESPACE={}\nPID={}\nSTART="
      "{}\n",
      kVersion, name_of(record.device), escaped(record.source), escaped(record.origin),
      escaped(record.mount_point), record.mount_id, record.name_space, record.server.pid,
      record.server.start);
  if (!record.unit.empty()) text += fmt::format("UNIT={}\n", escaped(record.unit));
  if (!record.user.empty()) text += fmt::format("USER={}\n", escaped(record.user));
  if (record.pid_name_space != 0) text += fmt::format("PID_NAMESPACE={}\n", record.pid_name_space);
  if (record.owner != 0) text += fmt::format("OWNER={}\n", record.owner);
  return text;
}

Result<MountRecord> decode_record(std::string_view text) {
  MountRecord record;
  bool has_version = false;
  while (!text.empty()) {
    const auto newline = text.find('\n');
    if (newline == std::string_view::npos) return fail(EBADMSG);
    const std::string_view line = text.substr(0, newline);
    text.remove_prefix(newline + 1);
    const auto equals = line.find('=');
    if (equals == std::string_view::npos) return fail(EBADMSG);
    const std::string_view key = line.substr(0, equals);
    const auto value = unescaped(line.substr(equals + 1));
    if (!value || !take(key, *value, record)) return fail(EBADMSG);
    has_version = has_version || key == "VERSION";
  }
  if (!has_version || record.device == 0 || record.mount_point.empty()) return fail(EBADMSG);
  return record;
}

Result<RecordDirectory> RecordDirectory::open(const std::string& path) {
  constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;
  constexpr mode_t kOthers = S_IRWXG | S_IRWXO;
  const auto last = path.rfind('/');
  const auto before = path.rfind('/', last - 1);
  if (last == std::string::npos || before == std::string::npos) return fail(EINVAL);
  const UniqueFd top(
      ::open(path.substr(0, before + 1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOCTTY));
  if (!top) return fail_last();
  ASSIGN_OR_RETURN(const UniqueFd parent,
                   open_directory(top.get(), path.substr(before + 1, last - before - 1), 0755));
  RETURN_IF_ERROR(check(parent.get(), kOthersWrite));
  ASSIGN_OR_RETURN(UniqueFd directory, open_directory(parent.get(), path.substr(last + 1), 0700));
  RETURN_IF_ERROR(check(directory.get(), kOthers));
  return RecordDirectory(std::move(directory));
}

Result<void> RecordDirectory::write(const MountRecord& record) {
  const DirectoryLock lock(directory_.get());
  const std::string name = name_of(record.device);
  const std::string new_name = std::string(kNewPrefix) + name;
  // Left by a helper that was killed at this point.
  (void)::unlinkat(directory_.get(), new_name.c_str(), 0);
  const UniqueFd file(::openat(directory_.get(), new_name.c_str(),
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return fail_last();
  const std::string text = encode(record);
  const bool written = ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (written && ::renameat(directory_.get(), new_name.c_str(), directory_.get(), name.c_str()) == 0)
    return {};
  const Errno error = written ? Errno::last() : Errno(ENOSPC);
  (void)::unlinkat(directory_.get(), new_name.c_str(), 0);
  return fail(error);
}

Result<MountRecord> RecordDirectory::read_file(const std::string& name) const {
  const UniqueFd file(
      ::openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (!file) return fail_last();
  RETURN_IF_ERROR(check(file.get(), S_IWGRP | S_IWOTH));
  std::string text(kMostBytes, '\0');
  const ssize_t length = ::read(file.get(), text.data(), text.size());
  if (length < 0) return fail_last();
  if (static_cast<std::size_t>(length) == kMostBytes) return fail(EBADMSG);
  text.resize(static_cast<std::size_t>(length));
  auto record = decode_record(text);
  if (record && name_of(record->device) != name) return fail(EBADMSG);
  return record;
}

Result<MountRecord> RecordDirectory::read(dev_t device) const { return read_file(name_of(device)); }

std::vector<std::string> RecordDirectory::names() const {
  std::vector<std::string> names;
  UniqueFd again(::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::unique_ptr<DIR, CloseDirectory> directory(again ? ::fdopendir(again.get()) : nullptr);
  if (!directory) return names;
  (void)again.release();  // the stream's now
  while (const dirent* const entry = ::readdir(directory.get())) names.emplace_back(entry->d_name);
  return names;
}

std::vector<MountRecord> RecordDirectory::all() const {
  std::vector<MountRecord> records;
  for (const std::string& name : names()) {
    if (name.starts_with('.')) continue;
    if (auto record = read_file(name)) records.push_back(std::move(*record));
  }
  return records;
}

std::vector<MountRecord> RecordDirectory::living() const {
  std::vector<MountRecord> records = all();
  std::erase_if(records, [](const MountRecord& record) { return !find_running(record.server); });
  return records;
}

Result<UniqueFd> RecordDirectory::open_claims() const {
  UniqueFd file(::openat(directory_.get(), kClaims, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return fail_last();
  return file;
}

void RecordDirectory::remove(const MountRecord& record) {
  const DirectoryLock lock(directory_.get());
  const auto present = read(record.device);
  if (present && present->server == record.server)
    (void)::unlinkat(directory_.get(), name_of(record.device).c_str(), 0);
}

void RecordDirectory::remove_stale() {
  const DirectoryLock lock(directory_.get());
  for (const MountRecord& record : all())
    if (is_stale(record)) (void)::unlinkat(directory_.get(), name_of(record.device).c_str(), 0);
  // Whoever writes one has the lock: these are left by helpers that were killed.
  for (const std::string& name : names())
    if (name.starts_with(kNewPrefix)) (void)::unlinkat(directory_.get(), name.c_str(), 0);
}

bool is_stale(const MountRecord& record) {
  const bool is_here = record.name_space == own_mount_namespace();
  if (record.server.pid == 0 && !is_here) return false;  // nothing is known
  if (record.pid_name_space != 0 && record.pid_name_space != own_pid_namespace()) return false;
  if (record.server.pid != 0 && find_running(record.server)) return false;
  return !is_here || mounts_of(record.device, std::string(kOwnType)).empty();
}

std::uint64_t own_mount_namespace() { return inode_of("/proc/thread-self/ns/mnt"); }

std::uint64_t own_pid_namespace() { return inode_of("/proc/thread-self/ns/pid"); }

}  // namespace fuse4fs::helper
