// SPDX-License-Identifier: GPL-2.0-or-later
// Applications that do random things to a few files at once, each from a seed. What they read is judged by
// the model.
//
// Two of them never write one page through a mapping and directly at the same time, since the kernel promises
// nothing then. Else anything beside anything.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "tests/iomap/kernel.h"
#include "tests/iomap/load_history.h"

namespace fuse4fs::iomap_model {

struct LoadOptions {
  std::size_t files = 4;
  std::size_t threads = 4;
  std::size_t operations = 200;            // of each thread
  std::uint64_t largest_file = 256 << 10;  // bytes
  std::uint64_t seed = 1;
  // kFixed: the blocks that are there are all there will be; nothing but reads, overwrites and syncs.
  enum class Blocks { kChange, kFixed };
  Blocks blocks = Blocks::kChange;
  std::size_t largest_write = 64 << 10;  // bytes
  // kShort: clean pages go at any time. A kernel of v7 loses data then to a server whose answers it does not
  // look at again (reclaim_test.cc).
  enum class Memory { kPlenty, kShort };
  Memory memory = Memory::kPlenty;
  // kKept: no file goes and comes again, nor is it evicted.
  enum class Names { kChange, kKept };
  Names names = Names::kChange;
  // kMany: half of what looks at a file syncs it, some writes are as by O_SYNC, all of the volume is synced
  // now and then, and more files go.
  enum class Syncs { kSome, kMany };
  Syncs syncs = Syncs::kSome;
  // So many operations on a file by a thread before it turns to another one; with kMany it syncs some then.
  std::size_t burst = 1;
  // Is told of every change and every sync.
  LoadHistory* history = nullptr;
  // What system calls may answer, since the test makes the device fail or the server go. A thread ends with
  // ENOTCONN or EROFS.
  std::set<int> expected_errors{};
};

class RandomLoad {
 public:
  RandomLoad(Kernel& kernel, const LoadOptions& options) : kernel_(kernel), options_(options) {}

  // Makes the files, or takes those that are there.
  Result<void> prepare();
  // Errors of system calls that nothing explains are counted as failures of the test. May be repeated.
  void run();
  // Syncs, and looks at all of it again with empty caches.
  Result<void> judge();
  Result<void> unlink_all();
  [[nodiscard]] std::uint64_t bytes_moved() const { return bytes_moved_; }

 private:
  struct Target {
    std::string name;
    std::shared_mutex in_use;    // exclusively: it goes, and comes again
    std::shared_mutex mapped;    // shared: direct writes; exclusively: writes through a mapping
    std::shared_ptr<File> file;  // null: it could not be made anew
    std::size_t number = 0;      // of LoadHistory
  };
  using Random = std::mt19937_64;

  void thread(std::size_t number);
  void flusher(const std::atomic<bool>& ends);
  Result<void> one(Random& random, Target& target);
  Result<void> one_write(Random& random, Target& target);
  Result<void> one_read(Random& random, File& file);
  Result<void> one_change(Random& random, Target& target);
  Result<void> one_look(Random& random, Target& target);
  Result<void> sync(Target& target, File::SyncWhat what);
  Result<void> sync_all();
  Result<void> leave(Random& random, Target& target);
  Result<void> replace(Random& random, Target& target);
  Result<void> make(Target& target);
  Result<void> take_or_make(Target& target);
  // `act`, told to the history.
  template <class Act>
  auto noted(const Target& target, const FileChange& change, const Act& act) -> decltype(act());
  [[nodiscard]] bool is_expected(const Result<void>& outcome) const;
  ByteRange range(Random& random, const File& file, std::uint64_t alignment, std::uint64_t most) const;

  Kernel& kernel_;
  const LoadOptions options_;
  std::vector<std::unique_ptr<Target>> targets_;
  std::atomic<std::uint64_t> bytes_moved_ = 0;
  std::uint64_t rounds_ = 0;  // of run(), each with random numbers of its own
};

}  // namespace fuse4fs::iomap_model
