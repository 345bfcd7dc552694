// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/engine_mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "server/cache/descriptor_backend.h"
#include "server/cache/direct_backend.h"
#include "tests/devices/shared_backend.h"
#include "tests/devices/sparse_backend.h"

namespace fuse4fs::iomap_model {
namespace {

void run(const std::string& command) { EXPECT_EQ(std::system(command.c_str()), 0) << command; }

}  // namespace

void Complaints::corruption(std::string_view words, const ext4::EventSubject& /*subject*/) {
  keep(words);
  ADD_FAILURE() << words;
}

void Complaints::device_error(std::string_view words, const ext4::EventSubject& /*subject*/) {
  keep(words);
  if (!device_errors_expected_) ADD_FAILURE() << words;
}

void Complaints::notice(ext4::Notice /*what*/, std::string_view words) { keep(words); }

void Complaints::keep(std::string_view words) {
  const std::lock_guard lock(mutex_);
  kept_.emplace_back(words);
  if (kept_.size() > kKept) kept_.pop_front();
}

std::string Complaints::words() const {
  const std::lock_guard lock(mutex_);
  std::string all;
  for (const auto& words : kept_) all += fmt::format("the engine says: {}\n", words);
  return all;
}

EngineMount::EngineMount() {
  std::string pattern = (std::filesystem::temp_directory_path() / "engine-under-model-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) std::abort();
  directory_ = pattern;
  image_ = directory_ / "image";
}

EngineMount::EngineMount(const std::filesystem::path& image) : EngineMount() {
  run(fmt::format("cp --sparse=always {} {}", image.string(), image_.string()));
  device_ = UniqueFd(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
}

EngineMount::EngineMount(const std::string& mke2fs_options, const std::string& size, Fill fill)
    : EngineMount() {
  if (fill == Fill::kOldData)
    run(fmt::format("head -c {} /dev/zero | tr '\\0' '\\{:o}' >{}", size, std::to_integer<int>(kOldByte),
                    image_.string()));
  run(fmt::format("mke2fs -q -F -E nodiscard {} {} {} 2>&1", mke2fs_options, image_.string(), size));
  device_ = UniqueFd(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
}

EngineMount::~EngineMount() {
  mount_.reset();
  std::filesystem::remove_all(directory_);
}

Kernel& EngineMount::mount(const TestMount::Options& options, const Below& below) {
  mount_.reset();
  below_ = below;
  if (below.faults) complaints_.expect_device_errors();
  TestMount::Options above = options;
  above.kernel.medium = below.medium;
  if (below.zeros == Below::Zeros::kTakeNoRoom)
    above.kernel.medium = std::make_shared<cache::SparseBackend>(lower_end());
  mount_ = std::make_unique<TestMount>(device_.get(), [this](Kernel&) { return engine(); }, above);
  kernel().breaches().explain_by([this] { return complaints_.words(); });
  EXPECT_TRUE(kernel().mount());
  return kernel();
}

void EngineMount::tick(std::chrono::seconds passed) {
  passed_ = passed_.load() + passed;
  EXPECT_TRUE(server().write_back());
}

void EngineMount::save() {
  if (!below_.medium) return;
  std::vector<std::byte> bytes(below_.medium->geometry().size);
  const iovec all = cache::piece_of(std::span<std::byte>(bytes));
  EXPECT_TRUE(below_.medium->read(cache::IoPath::kPageCache, 0, std::span(&all, 1)));
  std::ofstream(image_, std::ios::binary | std::ios::in | std::ios::out)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void EngineMount::unmount_and_check() {
  EXPECT_TRUE(kernel().breaches().empty()) << kernel().breaches().words();
  EXPECT_TRUE(kernel().unmount());
  EXPECT_TRUE(kernel().breaches().empty()) << kernel().breaches().words();
  check();
}

void EngineMount::check() {
  mount_.reset();
  save();
  run(fmt::format("e2fsck -fn {0} >{0}.said 2>&1 || {{ cat {0}.said; exit 1; }}", image_.string()));
}

std::unique_ptr<cache::BlockBackend> EngineMount::lower_end() {
  if (below_.medium) return std::make_unique<cache::SharedBackend>(below_.medium);
  auto backend = cache::DescriptorBackend::open(
      UniqueFd(::open(image_.c_str(), O_RDWR | O_CLOEXEC)),
      UniqueFd(::open(image_.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT)), cache::Access::kReadWrite);
  if (!backend) throw std::runtime_error(backend.error().message);
  return std::move(*backend);
}

std::unique_ptr<ext4::FileSystem> EngineMount::engine() {
  auto backend = lower_end();
  if (below_.faults) backend = std::make_unique<cache::FaultyBackend>(std::move(backend), below_.faults);
  cache::BlockDevice device(std::make_unique<cache::DirectBackend>(std::move(backend)),
                            cache::Access::kReadWrite);
  auto engine = ext4::FileSystem::mount(
      std::move(device),
      {.clock = [this] { return std::chrono::steady_clock::time_point(passed_.load()); },
       .content_times = ext4::MountOptions::ContentTimes::kCallers},
      complaints_);
  if (!engine) throw std::runtime_error(engine.error().message);
  return std::move(*engine);
}

}  // namespace fuse4fs::iomap_model
