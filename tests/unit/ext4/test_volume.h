// SPDX-License-Identifier: GPL-2.0-or-later
// An image file with a volume made by mke2fs, mounted through the engine's face, and judged by e2fsck.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

// Runs a shell command; answers its exit status, and what it printed.
struct CommandOutcome {
  int status = -1;
  std::string output;
};
CommandOutcome run(const std::string& command);

// May be told by many threads at once; to be asked when they have ended.
class RecordedEvents final : public Events {
 public:
  void corruption(std::string_view words, const EventSubject&) override {
    const std::lock_guard lock(mutex_);
    corruptions.emplace_back(words);
    // The first one explains what fails after it.
    if (echo && corruptions.size() == 1) ADD_FAILURE() << words;
  }
  bool echo = true;
  void device_error(std::string_view words, const EventSubject&) override {
    const std::lock_guard lock(mutex_);
    device_errors.emplace_back(words);
  }
  void notice(Notice, std::string_view words) override {
    const std::lock_guard lock(mutex_);
    notices.emplace_back(words);
  }
  std::vector<std::string> corruptions, device_errors, notices;

 private:
  std::mutex mutex_;
};

class TestVolume {
 public:
  // `mke2fs_options` as on its command line, without the device.
  explicit TestVolume(const std::string& mke2fs_options = "-t ext4 -b 4096", const std::string& size = "64M");
  ~TestVolume();

  [[nodiscard]] const std::filesystem::path& image() const { return image_; }
  RecordedEvents events;
  // What the device goes through on its way to the engine (tests/devices), if set.
  using Backend = std::unique_ptr<cache::BlockBackend>;
  std::function<Backend(Backend)> wrap_device = {};

  Outcome<std::unique_ptr<FileSystem>> try_mount(MountOptions options = {});
  FileSystem& mount(MountOptions options = {});
  FileSystem& fs() { return *fs_; }
  // Unmounts and lets e2fsck look; its words where it is not content.
  [[nodiscard]] std::string unmount_and_check();
  void unmount();
  // What e2fsck -fn says against the image, empty if nothing.
  [[nodiscard]] std::string check() const;
  [[nodiscard]] std::string debugfs(const std::string& command) const;
  // All of the image: equal before and after where nothing was to be written.
  [[nodiscard]] std::string image_bytes() const;

  InodeNumber make_file(InodeNumber parent, std::string_view name, mode_t mode = S_IFREG | 0644);
  InodeNumber make_directory(InodeNumber parent, std::string_view name);
  void write(InodeNumber inode, std::uint64_t offset, std::string_view bytes);
  std::string read(InodeNumber inode, std::uint64_t offset, std::size_t length);
  std::vector<std::string> list(InodeNumber directory);

 private:
  std::filesystem::path directory_;
  std::filesystem::path image_;
  std::unique_ptr<FileSystem> fs_;
};

}  // namespace fuse4fs::ext4
