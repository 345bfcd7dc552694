// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/service/fake_helper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <array>

namespace fuse4fs::service::testing {
namespace {

using protocol::testing::open_null;

constexpr std::string_view kReservedPrefix = "fuse4fs:";

std::string device_name(std::uint32_t flags) {
  std::string name = (flags & O_ACCMODE) == O_RDWR ? "BDEV rw" : "BDEV ro";
  if ((flags & O_EXCL) != 0) name += " excl";
  if ((flags & O_DIRECT) != 0) name += " direct";
  return name;
}

}  // namespace

FakeHelper::FakeHelper(Script script) : script_(std::move(script)), thread_([this] { run(); }) {}

const std::vector<std::string>& FakeHelper::finish() {
  if (thread_.joinable()) thread_.join();
  return asked_;
}

int FakeHelper::next_answer(const std::string& name) {
  auto& queue = script_.answers[name];
  if (queue.empty()) return 0;
  const int answer = queue.front();
  queue.pop_front();
  return answer;
}

bool FakeHelper::answer_open(protocol::HelperEnd& end, const std::string& name, const std::string& path,
                             std::uint32_t flags) {
  asked_.push_back(name);
  const int answer = next_answer(name);
  if (answer == kHangUp) return false;
  if (answer == kHostile) {
    // Success without a file.
    protocol::testing::send_raw(end.fd(), protocol::encode(protocol::FileReply{.error = 0, .name = path}));
    return true;
  }
  const bool reserved = path.starts_with(kReservedPrefix);
  if (answer > 0 || (answer == 0 && reserved && script_.whose == Whose::kLibfuses)) {
    const int error = answer > 0 ? answer : ENOENT;
    return end.reply(protocol::FileReply{.error = error, .name = path}, std::nullopt).has_value();
  }

  UniqueFd file = open_null();
  if (answer == kPressureFile) {
    file = UniqueFd(::memfd_create("pressure", MFD_CLOEXEC));
  } else if (answer == kRealFile) {
    file = UniqueFd(::open("/dev/null", static_cast<int>(flags)));
  } else if ((flags & O_EXCL) != 0) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    claim_watch_ = UniqueFd(ends[0]);
    file = UniqueFd(ends[1]);
  } else if ((flags & O_DIRECT) != 0) {
    file = UniqueFd(::open("/dev/zero", O_RDWR | O_CLOEXEC));
  }
  return end.reply(protocol::FileReply{.error = 0, .name = path}, file.get()).has_value();
}

bool FakeHelper::answer_simple(protocol::HelperEnd& end, const std::string& name) {
  const int answer = next_answer(name);
  if (answer == kHangUp) return false;
  if (answer == kHostile) {
    const UniqueFd null = open_null();
    protocol::testing::send_raw(end.fd(), protocol::encode(protocol::SimpleReply{}), std::array{null.get()});
    return true;
  }
  return end.reply(protocol::SimpleReply{.error = answer}).has_value();
}

void FakeHelper::run() {
  protocol::HelperEnd end(protocol::testing::channel_of(std::move(pair_.other)));
  {
    if (next_answer("HELLO") == kHangUp) return;
    const auto arguments = protocol::write_arguments(script_.arguments);
    ASSERT_TRUE(arguments);
    const int fuse_answer = next_answer("FUSE");
    const UniqueFd fuse_device =
        fuse_answer == kRealFile ? UniqueFd(::open("/", O_RDONLY | O_CLOEXEC)) : open_null();
    // A server that refuses us is what some tests want.
    if (!end.greet(script_.hello, next_answer("ARGS") == kHostile ? fuse_device.get() : arguments->get(),
                   fuse_device.get(), std::chrono::milliseconds(5000)))
      return;
  }
  for (;;) {
    const auto command = end.next_command();
    if (!command) return;
    bool go_on = true;
    if (const auto* file = std::get_if<protocol::OpenFile>(&*command)) {
      EXPECT_TRUE(file->quiet && file->path.starts_with(kReservedPrefix));
      go_on =
          answer_open(end, "OPEN " + file->path.substr(kReservedPrefix.size()), file->path, file->open_flags);
    } else if (const auto* device = std::get_if<protocol::OpenBlockDevice>(&*command)) {
      EXPECT_EQ(device->path, script_.arguments.at(1));
      EXPECT_EQ(device->block_size, 0U);
      EXPECT_EQ(device->quiet, (device->open_flags & O_DIRECT) != 0);
      go_on = answer_open(end, device_name(device->open_flags), device->path, device->open_flags);
    } else if (const auto* type = std::get_if<protocol::OpenFsContext>(&*command)) {
      asked_.emplace_back(type->fuseblk ? "TYPE fuseblk" : "TYPE fuse");
      go_on = answer_simple(end, "TYPE");
    } else if (const auto* source = std::get_if<protocol::SetSource>(&*command)) {
      asked_.push_back("NAME " + source->source);
      go_on = answer_simple(end, "NAME");
    } else if (const auto* mount_point = std::get_if<protocol::SetMountPoint>(&*command)) {
      EXPECT_EQ(mount_point->expected, protocol::MountPointType::kDirectory);
      asked_.push_back("MNTP " + mount_point->path);
      go_on = answer_simple(end, "MNTP");
    } else if (const auto* options = std::get_if<protocol::SetMountOptions>(&*command)) {
      asked_.push_back("OPTS " + options->options);
      go_on = answer_simple(end, "OPTS");
    } else if (const auto* mount = std::get_if<protocol::Mount>(&*command)) {
      asked_.push_back(fmt::format("DOIT {:#x}", mount->flags));
      if (claim_watch_) {
        pollfd watch{.fd = claim_watch_.get(), .events = 0, .revents = 0};
        asked_.emplace_back(::poll(&watch, 1, 0) == 1 ? "claim dropped" : "claim held");
      }
      go_on = answer_simple(end, "DOIT");
    } else if (const auto* goodbye = std::get_if<protocol::Goodbye>(&*command)) {
      asked_.push_back(fmt::format("BYEE {}", goodbye->exit_code));
      return;
    } else {
      ADD_FAILURE() << "a command that the server has no use for";
      return;
    }
    if (!go_on) return;
  }
}

}  // namespace fuse4fs::service::testing
