// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/ext4_image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace fuse4fs::iomap_model {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPiece = 1 << 20, kBetween = 64 << 10;  // bytes

void must(bool done, const char* what) {
  if (!done) throw std::system_error(errno, std::generic_category(), what);
}

struct Finished {
  int status = -1;
  std::string output;
};
Finished run(const std::string& command) {
  Finished finished;
  FILE* const pipe = ::popen((command + " 2>&1").c_str(), "re");
  must(pipe != nullptr, "popen");
  std::array<char, 4096> part;
  while (const std::size_t got = std::fread(part.data(), 1, part.size(), pipe))
    finished.output.append(part.data(), got);
  const int status = ::pclose(pipe);
  finished.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return finished;
}

std::string must_run(const std::string& command) {
  Finished finished = run(command);
  if (finished.status != 0) throw std::runtime_error(command + ": " + finished.output);
  while (!finished.output.empty() && finished.output.back() == '\n') finished.output.pop_back();
  return finished.output;
}

}  // namespace

Ext4Image::Ext4Image(std::uint64_t file_bytes) : file_bytes_(file_bytes) {
  const fs::path memory = "/dev/shm";
  std::string pattern =
      ((fs::exists(memory) ? memory : fs::temp_directory_path()) / "iomap-image-XXXXXX").string();
  must(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  directory_ = pattern;
  fs::create_directory(directory_ / "mnt");
  const fs::path image = directory_ / "image";
  must_run(fmt::format("truncate -s {} {}", file_bytes + file_bytes / 4 + (64 << 20), image.string()));
  must_run(fmt::format("mkfs.ext4 -q -b 4096 {}", image.string()));
  device_path_ = must_run(fmt::format("losetup --find --show {}", image.string()));
  mount(MS_NOATIME);
  fill();
  find_extents();
  unmount();
  device_ = UniqueFd(::open(device_path_.c_str(), O_RDWR | O_CLOEXEC));
  must(static_cast<bool>(device_), device_path_.c_str());
}

Ext4Image::~Ext4Image() {
  device_.reset();
  ::umount2((directory_ / "mnt").c_str(), MNT_DETACH);
  if (!device_path_.empty()) (void)run("losetup -d " + device_path_);
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

void Ext4Image::mount(unsigned long flags) const {
  must(::mount(device_path_.c_str(), (directory_ / "mnt").c_str(), "ext4", flags, nullptr) == 0, "mount");
}

void Ext4Image::unmount() const { must(::umount((directory_ / "mnt").c_str()) == 0, "umount"); }

void Ext4Image::fill() const {
  const auto open = [&](const char* name) {
    UniqueFd file(::open((directory_ / "mnt" / name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    must(static_cast<bool>(file), name);
    return file;
  };
  const UniqueFd file = open(kFileName), other = open("other");
  const std::vector<std::byte> zeros(kPiece);
  for (std::uint64_t at = 0; at < file_bytes_; at += kPiece) {
    must(::pwrite(file.get(), zeros.data(), kPiece, static_cast<off_t>(at)) == static_cast<ssize_t>(kPiece),
         "write");
    // What lies between the pieces. Allocated when it is written back.
    must(::fdatasync(file.get()) == 0, "fdatasync");
    must(::write(other.get(), zeros.data(), kBetween) == static_cast<ssize_t>(kBetween), "write");
    must(::fdatasync(other.get()) == 0, "fdatasync");
  }
}

void Ext4Image::find_extents() {
  const UniqueFd file(::open((directory_ / "mnt" / kFileName).c_str(), O_RDONLY | O_CLOEXEC));
  constexpr std::uint32_t kMost = 4096;
  std::vector<std::byte> room(sizeof(fiemap) + kMost * sizeof(fiemap_extent));
  auto* const map = reinterpret_cast<fiemap*>(room.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_flags = FIEMAP_FLAG_SYNC;
  map->fm_extent_count = kMost;
  must(::ioctl(file.get(), FS_IOC_FIEMAP, map) == 0, "FIEMAP");
  std::uint64_t end = 0;
  for (const fiemap_extent& extent : std::span(map->fm_extents, map->fm_mapped_extents)) {
    if (extent.fe_logical != end || (extent.fe_flags & FIEMAP_EXTENT_UNWRITTEN) != 0)
      throw std::runtime_error("the file has holes");
    extents_.push_back(
        {.offset = extent.fe_logical, .length = extent.fe_length, .address = extent.fe_physical});
    end += extent.fe_length;
  }
  if (end != file_bytes_) throw std::runtime_error("the file is not whole");
}

std::string Ext4Image::check() const {
  const Finished finished = run("e2fsck -fn " + device_path_);
  return finished.status == 0 ? std::string() : finished.output;
}

void Ext4Image::read_back(const Judge& judge) const {
  // Of the loop device's cache only what was written to it is left.
  must(::fsync(device_.get()) == 0, "fsync");
  mount(MS_RDONLY);
  {
    const UniqueFd file(::open((directory_ / "mnt" / kFileName).c_str(), O_RDONLY | O_CLOEXEC));
    must(static_cast<bool>(file), kFileName);
    std::vector<std::byte> bytes(kPiece);
    for (std::uint64_t at = 0; at < file_bytes_; at += kPiece) {
      must(::pread(file.get(), bytes.data(), kPiece, static_cast<off_t>(at)) == static_cast<ssize_t>(kPiece),
           "read");
      judge(at, bytes);
    }
  }
  unmount();
}

}  // namespace fuse4fs::iomap_model
