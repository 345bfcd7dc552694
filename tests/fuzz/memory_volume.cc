// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/fuzz/memory_volume.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <utility>

namespace fuse4fs::ext4::fuzz {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::array<char, kPage> kZeros{};

}  // namespace

void require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", promise);
  std::abort();
}

MemoryVolume::MemoryVolume(std::string_view bytes)
    : file_(::memfd_create("volume", MFD_CLOEXEC)), size_(bytes.size()) {
  require(::ftruncate(file_.get(), static_cast<off_t>(size_)) == 0, "memory for the volume");
  for (std::size_t at = 0; at < size_; at += kPage) {
    const auto page = bytes.substr(at, kPage);
    if (std::memcmp(page.data(), kZeros.data(), page.size()) == 0) continue;
    require(::pwrite(file_.get(), page.data(), page.size(), static_cast<off_t>(at)) ==
                static_cast<ssize_t>(page.size()),
            "memory for the volume");
  }
}

bool MemoryVolume::still_holds(std::string_view bytes) const {
  std::string held;
  for (off_t at = 0; (at = ::lseek(file_.get(), at, SEEK_DATA)) >= 0;) {
    const off_t end = ::lseek(file_.get(), at, SEEK_HOLE);
    held.resize(static_cast<std::size_t>(end - at));
    require(::pread(file_.get(), held.data(), held.size(), at) == end - at, "reading the memory");
    if (held != bytes.substr(static_cast<std::size_t>(at), held.size())) return false;
    at = end;
  }
  return true;
}

cache::BlockDevice MemoryVolume::device(cache::Access access) const {
  auto device = cache::BlockDevice::adopt(UniqueFd(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0)), {}, access);
  require(device.has_value(), "a device");
  return std::move(*device);
}

std::string MemoryVolume::bytes() const {
  std::string bytes(size_, '\0');
  require(::pread(file_.get(), bytes.data(), size_, 0) == static_cast<ssize_t>(size_), "reading the memory");
  return bytes;
}

std::string make_volume(const std::string& mke2fs_options, const std::string& size,
                        const std::function<void(FileSystem&)>& fill) {
  char name[] = "/tmp/fuzz-volume-XXXXXX";
  require(UniqueFd(::mkstemp(name)).get() >= 0, "a temporary file");
  const std::string command = "mke2fs -q -F -b 1024 " + mke2fs_options + " " + name + " " + size;
  require(std::system(command.c_str()) == 0, "mke2fs");
  std::ifstream in(name, std::ios::binary);
  const std::string empty{std::istreambuf_iterator<char>(in), {}};
  ::unlink(name);
  const MemoryVolume volume(empty);
  QuietEvents events;
  auto fs = FileSystem::mount(volume.device(), {}, events);
  require(fs.has_value(), "mounting a fresh volume");
  fill(**fs);
  require((*fs)->unmount().has_value(), "unmounting a fresh volume");
  return volume.bytes();
}

InodeNumber make_inode(FileSystem& fs, InodeNumber parent, std::string_view name, mode_t mode,
                       std::size_t pieces) {
  const auto made = fs.make(parent, name, {.mode = mode});
  require(made.has_value(), "making an inode");
  const std::string content(kBlockSize, 'x');
  for (std::size_t i = 0; i < pieces; ++i)
    require(fs.write(made->inode, i * 4096, std::as_bytes(std::span(content)),
                     AttributeChanges::Privileges::kKeep)
                .has_value(),
            "writing a file");
  return made->inode;
}

}  // namespace fuse4fs::ext4::fuzz
