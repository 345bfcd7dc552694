// SPDX-License-Identifier: GPL-2.0-or-later
// Who does not wait for whom, while the device does not answer.
#include <fmt/format.h>

#include <chrono>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "tests/devices/faulty_backend.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using cache::Fault;

constexpr std::uint64_t kBlock = 4096;

class WaitingTest : public testing::Test {
 protected:
  void SetUp() override {
    volume_.mount();
    for (const std::string name : {"slow", "other"}) {
      const auto directory = volume_.make_directory(kRootInode, name);
      const auto file = volume_.make_file(directory, "file");
      volume_.write(file, 0, "content");
      set_attribute(file, "user.block", in_block(name));
      set_attribute(file, "user.inode", in_inode(name));
    }
    volume_.unmount();
    volume_.wrap_device = [&](TestVolume::Backend device) -> TestVolume::Backend {
      return std::make_unique<cache::FaultyBackend>(std::move(device), faults_);
    };
    volume_.mount();
    slow_ = volume_.fs().lookup(kRootInode, "slow")->inode;
    other_ = volume_.fs().lookup(kRootInode, "other")->inode;
  }
  void TearDown() override {
    EXPECT_EQ(volume_.unmount_and_check(), "");
    EXPECT_TRUE(volume_.events.corruptions.empty());
  }

  // The next read of its first block is held up until let_go().
  void hold_up(const std::string& path) { hold_up_block(std::stoull(volume_.debugfs("blocks " + path))); }
  // Of the block that has this.
  void hold_up_content(const std::string& content) {
    const auto at = volume_.image_bytes().find(content);
    ASSERT_NE(at, std::string::npos);
    hold_up_block(at / kBlock);
  }
  void hold_up_block(std::uint64_t block) {
    faults_->add({.operation = Fault::Operation::kRead,
                  .effect = Fault::Effect::kHold,
                  .offset = block * kBlock,
                  .length = kBlock,
                  .held = [this] {
                    reached_.set_value();
                    released_.get_future().wait();
                  }});
  }
  void wait_until_held_up() { reached_.get_future().wait(); }
  void let_go() { released_.set_value(); }

  // Values that lie in a block of attributes, and in an inode of their own.
  static std::string in_block(const std::string& of) { return "block of " + of + std::string(700, 'b'); }
  static std::string in_inode(const std::string& of) { return "inode of " + of + std::string(9000, 'i'); }
  void set_attribute(InodeNumber inode, std::string_view name, std::string_view value) {
    EXPECT_TRUE(volume_.fs().set_xattr(inode, name, std::as_bytes(std::span(value)),
                                       XattrMode::kCreateOrReplace, SetgidBit::kKeep));
  }
  std::string attribute(InodeNumber inode, std::string_view name) {
    const auto value = volume_.fs().xattr(inode, name);
    return value ? std::string(reinterpret_cast<const char*>(value->data()), value->size())
                 : value.error().message();
  }

  template <class Work>
  static bool ends(Work work) {
    auto running = std::async(std::launch::async, work);
    return running.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  }

  TestVolume volume_{"-t ext4 -b 4096 -O ea_inode"};
  std::shared_ptr<cache::Faults> faults_ = std::make_shared<cache::Faults>();
  std::promise<void> reached_, released_;
  InodeNumber slow_ = 0, other_ = 0;
};

TEST_F(WaitingTest, AReaderDoesNotWaitForAReader) {
  auto& fs = volume_.fs();
  hold_up("/slow");
  auto slow = std::async(std::launch::async, [&] { return fs.lookup(slow_, "file"); });
  wait_until_held_up();
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.attributes(slow_)); }));
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.lookup(kRootInode, "slow")); }));
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.xattr_names(slow_)); }));
  let_go();
  EXPECT_TRUE(slow.get());
}

TEST_F(WaitingTest, OtherDirectoriesGoOnWhileAChangeWaitsForTheDevice) {
  auto& fs = volume_.fs();
  hold_up("/slow");
  auto slow = std::async(std::launch::async, [&] { return fs.make(slow_, "new", {.mode = S_IFREG}); });
  wait_until_held_up();
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.lookup(other_, "file")); }));
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.make(other_, "new", {.mode = S_IFREG})); }));
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.rename(other_, "new", other_, "newer", {})); }));
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.statistics()); }));
  let_go();
  EXPECT_TRUE(slow.get());
}

TEST_F(WaitingTest, AFileIsAskedForWhileItIsRead) {
  auto& fs = volume_.fs();
  const auto file = fs.lookup(slow_, "file")->inode;
  hold_up("/slow/file");
  auto slow = std::async(std::launch::async, [&] { return volume_.read(file, 0, 7); });
  wait_until_held_up();
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.attributes(file)); }));
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.set_attributes(file, {.permissions = 0600})); }));
  EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.unlink(slow_, "file")); }));
  let_go();
  EXPECT_EQ(slow.get(), "content");
}

TEST_F(WaitingTest, ReadersOfAttributesDoNotWaitForEachOther) {
  auto& fs = volume_.fs();
  const auto file = fs.lookup(slow_, "file")->inode;
  const auto other = fs.lookup(other_, "file")->inode;
  for (const auto& [name, content] :
       {std::pair("user.block", in_block("slow")), std::pair("user.inode", in_inode("slow"))}) {
    reached_ = {};
    released_ = {};
    hold_up_content(content);
    auto slow = std::async(std::launch::async, [&] { return attribute(file, name); });
    wait_until_held_up();
    EXPECT_TRUE(ends([&] { EXPECT_EQ(attribute(other, "user.block"), in_block("other")); }));
    EXPECT_TRUE(ends([&] { EXPECT_EQ(attribute(other, "user.inode"), in_inode("other")); }));
    EXPECT_TRUE(ends([&] { EXPECT_TRUE(fs.xattr_names(other)); }));
    let_go();
    EXPECT_EQ(slow.get(), content);
  }
}

TEST_F(WaitingTest, ReadersOfAttributesDoNotWaitForAChange) {
  auto& fs = volume_.fs();
  const auto file = fs.lookup(slow_, "file")->inode;
  const auto other = fs.lookup(other_, "file")->inode;
  hold_up_content(in_block("slow"));
  auto slow = std::async(std::launch::async, [&] { set_attribute(file, "user.block", in_block("new")); });
  wait_until_held_up();
  EXPECT_TRUE(ends([&] { EXPECT_EQ(attribute(other, "user.block"), in_block("other")); }));
  EXPECT_TRUE(ends([&] { EXPECT_EQ(attribute(other, "user.inode"), in_inode("other")); }));
  // What lies in the inode alone is shared with nobody.
  EXPECT_TRUE(ends([&] { set_attribute(other_, "user.short", "value"); }));
  EXPECT_TRUE(ends([&] { EXPECT_EQ(fs.label(), ""); }));
  let_go();
  slow.get();
  EXPECT_EQ(attribute(file, "user.block"), in_block("new"));
}

}  // namespace
}  // namespace fuse4fs::ext4
