// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/ext4/test_volume.h"

#include <fcntl.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "server/cache/descriptor_backend.h"

namespace fuse4fs::ext4 {

CommandOutcome run(const std::string& command) {
  CommandOutcome outcome;
  // The sanitizers' runtime is not for the tools.
  std::FILE* const pipe = ::popen(("{ " + command + "; } 2>&1").c_str(), "r");
  if (pipe == nullptr) return outcome;
  std::array<char, 4096> buffer;
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe))
    outcome.output.append(buffer.data(), got);
  const int status = ::pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

TestVolume::TestVolume(const std::string& mke2fs_options, const std::string& size) {
  char name[] = "/tmp/ext4-unit-XXXXXX";
  directory_ = ::mkdtemp(name);
  image_ = directory_ / "image";
  const auto made = run("mke2fs -q -F " + mke2fs_options + " " + image_.string() + " " + size);
  if (made.status != 0) ADD_FAILURE() << "mke2fs " << mke2fs_options << ": " << made.output;
}

TestVolume::~TestVolume() {
  fs_.reset();
  std::filesystem::remove_all(directory_);
}

Outcome<std::unique_ptr<FileSystem>> TestVolume::try_mount(MountOptions options) {
  const int mode = options.access == cache::Access::kReadWrite ? O_RDWR : O_RDONLY;
  UniqueFd buffered(::open(image_.c_str(), mode | O_CLOEXEC));
  UniqueFd direct(::open(image_.c_str(), mode | O_CLOEXEC | O_DIRECT));
  ASSIGN_OR_RETURN(Backend backend,
                   cache::DescriptorBackend::open(std::move(buffered), std::move(direct), options.access));
  if (wrap_device) backend = wrap_device(std::move(backend));
  return FileSystem::mount(cache::BlockDevice(std::move(backend), options.access), options, events);
}

FileSystem& TestVolume::mount(MountOptions options) {
  auto mounted = try_mount(options);
  if (!mounted) {
    ADD_FAILURE() << mounted.error().message;
    std::abort();
  }
  fs_ = std::move(*mounted);
  return *fs_;
}

void TestVolume::unmount() {
  const auto done = fs_->unmount();
  EXPECT_TRUE(done) << done.error().message();
  fs_.reset();
}

std::string TestVolume::unmount_and_check() {
  unmount();
  return check();
}

std::string TestVolume::check() const {
  const auto outcome = run("e2fsck -fn " + image_.string());
  return outcome.status == 0 ? "" : outcome.output;
}

std::string TestVolume::debugfs(const std::string& command) const {
  return run("debugfs -R '" + command + "' " + image_.string() + " 2>/dev/null").output;
}

std::string TestVolume::image_bytes() const {
  std::string bytes(std::filesystem::file_size(image_), '\0');
  std::ifstream(image_, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

InodeNumber TestVolume::make_file(InodeNumber parent, std::string_view name, mode_t mode) {
  const auto made = fs_->make(parent, name, {.mode = mode});
  EXPECT_TRUE(made) << name << ": " << made.error().message();
  return made ? made->inode : 0;
}

InodeNumber TestVolume::make_directory(InodeNumber parent, std::string_view name) {
  return make_file(parent, name, S_IFDIR | 0755);
}

void TestVolume::write(InodeNumber inode, std::uint64_t offset, std::string_view bytes) {
  const auto done =
      fs_->write(inode, offset, std::as_bytes(std::span(bytes)), AttributeChanges::Privileges::kKeep);
  EXPECT_TRUE(done) << done.error().message();
}

std::string TestVolume::read(InodeNumber inode, std::uint64_t offset, std::size_t length) {
  std::string bytes(length, '?');
  const auto got = fs_->read(inode, offset, std::as_writable_bytes(std::span(bytes)));
  EXPECT_TRUE(got) << got.error().message();
  bytes.resize(got ? *got : 0);
  return bytes;
}

std::vector<std::string> TestVolume::list(InodeNumber directory) {
  std::vector<std::string> names;
  std::uint64_t cookie = 0;
  // A few at a time, so that the cookies are used.
  while (true) {
    std::size_t taken = 0;
    const auto done = fs_->read_directory(directory, cookie, [&](const DirectoryEntry& entry) {
      if (taken == 7) return false;
      ++taken;
      names.emplace_back(entry.name);
      cookie = entry.next;
      return true;
    });
    EXPECT_TRUE(done) << done.error().message();
    if (!done || taken == 0) return names;
  }
}

}  // namespace fuse4fs::ext4
