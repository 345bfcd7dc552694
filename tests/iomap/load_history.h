// SPDX-License-Identifier: GPL-2.0-or-later
// What the applications of a load did to their files and when, and what a power cut may leave of that.
//
// Each change is told before it begins and when it has ended. At a cut a byte of a file may be what a change
// made of it, or the zero that it was at first: nothing else, never what a block held before. Where a sync of
// the file had returned before the cut, nor what another change had replaced before that sync began.
//
// The latter without a journal only of files that were not changed since, but for writes over what was
// written: where blocks come and go, part of that may have arrived, and e2fsck makes some whole of it.
//
// Locking: any thread; broken() with nobody at work. Positions in bytes; a cut is a number of operations of
// the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "server/ext4/file_system.h"

namespace fuse4fs::iomap_model {

using ext4::ByteRange;

struct FileChange {
  enum class Kind {
    kWrite,  // pattern() of `key`
    kZero,   // the size stays
    kZeroAndGrow,
    kGrow,    // to the range's end, if that is behind the file's
    kResize,  // to the range's beginning
    kSync,
    kUnlink
  };
  Kind kind = Kind::kSync;
  ByteRange range{};
  std::uint32_t key = 0;

  [[nodiscard]] bool grows() const {
    return kind == Kind::kWrite || kind == Kind::kZeroAndGrow || kind == Kind::kGrow;
  }
  [[nodiscard]] bool has_content() const {
    return kind != Kind::kGrow && kind != Kind::kSync && kind != Kind::kUnlink;
  }
};

// What is found at a cut.
struct FoundFile {
  std::uint64_t inode = 0;
  std::vector<std::byte> bytes;
  std::vector<std::byte> behind{};  // what comes there when it is lengthened
};
using FoundFiles = std::map<std::string, FoundFile>;

// What putting the volume in order did to files of which a part had arrived, by their inodes.
struct Mended {
  std::set<std::uint64_t> ends_moved;  // to behind all blocks, also the unwritten ones
  std::set<std::uint64_t> cleared;     // its name went with it
};

class LoadHistory {
 public:
  using Moment = std::size_t;
  // kLoose: blocks that are not the file's yet may lie there, without extents: with zeros, or with what was
  // written back. What puts the volume in order moves the end of the file behind them, or not.
  enum class Ends { kExact, kLoose };
  // kNothing: the device refuses data, so that nobody knows what is there.
  enum class Syncs { kPromise, kNothing };
  struct Options {
    Ends ends = Ends::kExact;
    Syncs syncs = Syncs::kPromise;
  };
  LoadHistory(std::function<Moment()> now, const Options& options)
      : now_(std::move(now)), options_(options) {}

  // A file is about to be made; the answer is its number. Names may come again.
  std::size_t making(const std::string& name);
  void made(std::size_t file, std::uint64_t inode);
  // The last one of this name.
  [[nodiscard]] std::size_t latest(const std::string& name) const;
  struct Place {
    std::size_t file = 0, change = 0;
  };
  Place begins(std::size_t file, const FileChange& change);
  // kPerhaps: something of it, or nothing.
  enum class Outcome { kDone, kPerhaps };
  void ended(Place place, Outcome outcome);

  // What is not as it must be, a line each. A file whose content is promised has nothing to be mended: then
  // that does not count.
  [[nodiscard]] std::vector<std::string> broken(Moment cut, const FoundFiles& found,
                                                const Mended& mended = {}) const;
  // Of how many files the content was promised by then.
  [[nodiscard]] std::size_t files_promised_at(Moment cut) const;

 private:
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  struct Change {
    FileChange what;
    // By a clock of all changes, and by the device's operations.
    std::uint64_t begin = 0, end = kNever;
    Moment begin_moment = 0, end_moment = kNever;
    bool is_certain = false;

    [[nodiscard]] bool had_ended(std::uint64_t time) const { return is_certain && end <= time; }
  };
  struct File {
    std::string name;
    std::uint64_t inode = 0;
    Moment made_moment = 0;
    std::vector<Change> changes;
  };
  struct SizeLimits {
    std::uint64_t least = 0, most = 0;
  };

  // What had replaced each byte (the time when it began) before the last sync, if the content is promised.
  using Replaced = std::vector<std::uint64_t>;
  [[nodiscard]] static std::optional<Replaced> promised(const File& file, Moment cut, std::size_t size);
  // The last one that had returned; null if there is none.
  [[nodiscard]] static const Change* last_sync(const File& file, Moment cut);
  [[nodiscard]] static SizeLimits size_limits(const File& file, Moment cut);
  [[nodiscard]] std::optional<std::string> judge(const File& file, Moment cut, const FoundFile& found,
                                                 const Mended& mended) const;
  [[nodiscard]] static std::optional<std::string> judge_bytes(const File& file, Moment cut,
                                                              std::span<const std::byte> bytes,
                                                              const Replaced& replaced);
  // All that was done to a byte.
  [[nodiscard]] static std::string story(const File& file, Moment cut, std::uint64_t at);
  [[nodiscard]] static bool may_be_cleared(const File& file, Moment cut, const Mended& mended);
  void judge_name(const std::string& name, Moment cut, const FoundFiles& found, const Mended& mended,
                  std::vector<std::string>& lines) const;

  const std::function<Moment()> now_;
  const Options options_;
  mutable std::mutex mutex_;
  std::uint64_t clock_ = 0;  // guarded by mutex_, as is files_
  std::vector<File> files_;
};

}  // namespace fuse4fs::iomap_model
