// SPDX-License-Identifier: GPL-2.0-or-later
// The ext4 engine on an image of its own, with the model as its kernel.
//
// What the engine complains of (corruption, errors of the device) is a failure of the test. Errors while it
// is put together are exceptions.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "server/ext4/file_system.h"
#include "tests/devices/faulty_backend.h"
#include "tests/iomap/scenario.h"
#include "tests/iomap/test_mount.h"

namespace fuse4fs::iomap_model {

class Complaints final : public ext4::Events {
 public:
  using Events::corruption;
  using Events::device_error;
  using Events::notice;
  void corruption(std::string_view words, const ext4::EventSubject& subject) override;
  void device_error(std::string_view words, const ext4::EventSubject& subject) override;
  void notice(ext4::Notice what, std::string_view words) override;
  // What the device does wrong is the test's doing from now on.
  void expect_device_errors() { device_errors_expected_ = true; }
  // All of it, notices too: a line each, the last twenty.
  [[nodiscard]] std::string words() const;

 private:
  void keep(std::string_view words);

  static constexpr std::size_t kKept = 20;
  mutable std::mutex mutex_;
  std::deque<std::string> kept_;  // guarded by mutex_
  std::atomic<bool> device_errors_expected_ = false;
};

class EngineMount {
 public:
  // kOldData: what no file was written into holds somebody's.
  enum class Fill { kNothing, kOldData };
  // Every byte of it.
  static constexpr std::byte kOldByte = kNeverWritten;
  EngineMount(const std::string& mke2fs_options, const std::string& size, Fill fill);
  // On a copy of an image that is there.
  explicit EngineMount(const std::filesystem::path& image);
  ~EngineMount();
  EngineMount(const EngineMount&) = delete;
  EngineMount& operator=(const EngineMount&) = delete;

  struct Below {
    // What engine and kernel use instead of the image, which gets its content with save().
    std::shared_ptr<cache::BlockBackend> medium{};
    // Of all that the engine does on the device. Its complaints of the device are no failures then.
    std::shared_ptr<cache::Faults> faults{};
    // kTakeNoRoom: what the kernel writes of them leaves the image sparse. Without a medium.
    enum class Zeros { kAreStored, kTakeNoRoom };
    Zeros zeros = Zeros::kAreStored;
  };
  Kernel& mount(const TestMount::Options& options = {}) { return mount(options, {}); }
  Kernel& mount(const TestMount::Options& options, const Below& below);
  Kernel& kernel() { return mount_->kernel(); }
  ext4::FileSystem& server() { return mount_->server(); }
  [[nodiscard]] const std::filesystem::path& image() const { return image_; }
  // What write-back ticks do every few seconds. Meanwhile so much time has passed, for the engine.
  void tick(std::chrono::seconds passed = std::chrono::seconds(5));
  // The engine dies without an unmount; what the kernel asks is answered by ENOTCONN.
  void kill_server() { mount_->kill_server(); }
  // The medium's content becomes the image's.
  void save();
  // e2fsck finds nothing.
  void unmount_and_check();
  // The same of one that was unmounted, whatever the model says of it.
  void check();

 private:
  EngineMount();
  std::unique_ptr<cache::BlockBackend> lower_end();
  std::unique_ptr<ext4::FileSystem> engine();

  std::filesystem::path directory_, image_;
  UniqueFd device_;
  Below below_;
  std::atomic<std::chrono::seconds> passed_{};
  Complaints complaints_;
  std::unique_ptr<TestMount> mount_;
};

}  // namespace fuse4fs::iomap_model
