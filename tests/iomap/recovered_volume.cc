// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/recovered_volume.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <mutex>
#include <regex>
#include <stdexcept>
#include <utility>

#include "server/ext4/file_system.h"
#include "tests/devices/memory_backend.h"

namespace fuse4fs::iomap_model {
namespace fs = std::filesystem;
namespace {

// How far each file is lengthened.
constexpr std::uint64_t kLonger = 64 << 10;

struct Ran {
  int status = -1;
  std::string output;
};

Ran run(const std::string& command) {
  struct Close {
    void operator()(std::FILE* pipe) const { ::pclose(pipe); }
  };
  Ran ran;
  std::unique_ptr<std::FILE, Close> pipe(::popen((command + " 2>&1").c_str(), "re"));
  if (!pipe) throw std::runtime_error("popen: " + command);
  char part[4096];
  while (const std::size_t got = std::fread(part, 1, sizeof part, pipe.get())) ran.output.append(part, got);
  const int status = ::pclose(pipe.release());
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return ran;
}

void put(const fs::path& image, const std::vector<std::byte>& bytes) {
  std::ofstream(image, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

// Blocks and end of a file lie in two places, and one may have arrived without the other. Then e2fsck sets
// the end behind all blocks. Or it clears an extent behind the end; where that was the leaf's last, it goes
// up in a tree that has no level left, and clears the inode (1.47.0).
Mended mended_by(const std::string& repair) {
  static const std::regex end("Inode ([0-9]+), i_size is [0-9]+, should be [0-9]+\\.  Fix\\? yes");
  static const std::regex lost(
      "Failed to iterate extents in inode ([0-9]+)\\n"
      "\\t\\(op EXT2_EXTENT_UP, blk [0-9]+, lblk [0-9]+\\): No 'up' extent\\n"
      "Clear inode\\? yes");
  using Matches = std::sregex_iterator;
  Mended mended;
  for (auto at = Matches(repair.begin(), repair.end(), end); at != Matches(); ++at)
    mended.ends_moved.insert(std::stoull((*at)[1]));
  for (auto at = Matches(repair.begin(), repair.end(), lost); at != Matches(); ++at)
    if (repair.find(fmt::format("Inode {}, end of extent exceeds allowed value", (*at)[1].str())) !=
        std::string::npos)
      mended.cleared.insert(std::stoull((*at)[1]));
  return mended;
}

std::vector<std::byte> get(const fs::path& image) {
  std::vector<std::byte> bytes(fs::file_size(image));
  std::ifstream(image, std::ios::binary)
      .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

class Lines final : public ext4::Events {
 public:
  explicit Lines(std::vector<std::string>& lines) : lines_(lines) {}
  using Events::corruption;
  using Events::device_error;
  using Events::notice;
  void corruption(std::string_view words, const ext4::EventSubject&) override { add(words); }
  void device_error(std::string_view words, const ext4::EventSubject&) override { add(words); }
  void notice(ext4::Notice, std::string_view) override {}

 private:
  void add(std::string_view words) {
    const std::lock_guard lock(mutex_);
    lines_.push_back("the engine: " + std::string(words));
  }
  std::mutex mutex_;
  std::vector<std::string>& lines_;
};

Result<void> read_files(ext4::FileSystem& engine, FoundFiles& files) {
  std::vector<std::pair<std::string, ext4::InodeNumber>> names;
  RETURN_IF_ERROR(engine.read_directory(ext4::kRootInode, 0, [&](const ext4::DirectoryEntry& entry) {
    names.emplace_back(entry.name, entry.inode);
    return true;
  }));
  for (const auto& [name, inode] : names) {
    ASSIGN_OR_RETURN(const auto attributes, engine.attributes(inode));
    if (!S_ISREG(attributes.mode)) continue;
    FoundFile found{.inode = inode, .bytes = std::vector<std::byte>(attributes.size)};
    ASSIGN_OR_RETURN(const auto got, engine.read(inode, 0, found.bytes));
    if (got != attributes.size) return fail(EIO);
    files.emplace(name, std::move(found));
  }
  return {};
}

Result<void> lengthen(ext4::FileSystem& engine, FoundFiles& files) {
  for (auto& [name, file] : files) {
    const std::uint64_t size = file.bytes.size();
    RETURN_IF_ERROR(
        engine.set_attributes(static_cast<ext4::InodeNumber>(file.inode), {.size = size + kLonger}));
    file.behind.resize(kLonger);
    ASSIGN_OR_RETURN(const auto got,
                     engine.read(static_cast<ext4::InodeNumber>(file.inode), size, file.behind));
    if (got != kLonger) return fail(EIO);
  }
  return {};
}

}  // namespace

ScratchDirectory::ScratchDirectory() {
  std::string pattern = (fs::temp_directory_path() / "cut-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

RecoveredVolume RecoveredVolume::from(const std::vector<std::byte>& image, const ScratchDirectory& scratch) {
  const fs::path file = scratch.path() / "image";
  RecoveredVolume volume;
  auto& lines = volume.complaints;
  put(file, image);
  const Ran repaired = run("e2fsck -fy " + file.string());
  volume.repair = repaired.output;
  volume.mended = mended_by(repaired.output);
  if (repaired.output.find("Signal (6) SIGABRT") != std::string::npos) {
    volume.judgement = Judgement::kNone;
    return volume;
  }
  // 1, 2: mended.
  if ((repaired.status & ~3) != 0) {
    lines.push_back("e2fsck -fy: " + repaired.output);
    return volume;
  }
  Lines events(lines);
  const auto memory = std::make_shared<cache::Memory>(get(file));
  auto engine = ext4::FileSystem::mount(
      cache::BlockDevice(std::make_unique<cache::MemoryBackend>(memory), cache::Access::kReadWrite), {},
      events);
  if (!engine) {
    lines.push_back("it does not mount: " + engine.error().message);
    return volume;
  }
  if (const auto done = read_files(**engine, volume.files); !done)
    lines.push_back("its files cannot be read: " + done.error().message());
  if (const auto done = lengthen(**engine, volume.files); !done)
    lines.push_back("its files cannot be lengthened: " + done.error().message());
  if (const auto done = (*engine)->unmount(); !done)
    lines.push_back("the unmount: " + done.error().message());
  const std::string bytes = memory->read(0, memory->size());
  std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  const Ran judged = run("e2fsck -fn " + file.string());
  if (judged.status != 0) lines.push_back("e2fsck -fn: " + judged.output);
  return volume;
}

}  // namespace fuse4fs::iomap_model
