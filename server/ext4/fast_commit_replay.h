// SPDX-License-Identifier: GPL-2.0-or-later
// Applies fast commits to a volume whose log was replayed: what the last full commit says, with what the
// small records changed since.
//
// The records come in the order in which they were written, but say little of what they depend on; so
//  - an inode is put in place when the first record of its commit needs it, though its image may come later;
//  - blocks move between files through a balance (block_balance.h) that must come out even at the end:
//  nothing
//    is freed, or given to anybody else, before;
//  - where blocks of directories and extent trees lie is decided anew: no record says it;
//  - an inode has as many links as it has names, whatever its image says.
// A replay that was cut short while it was written back is gone over once more: inodes without their bitmaps,
// and bitmaps without their inodes, are accepted (whether a block really has two owners is then looked up in
// all inodes). At the end what a fast commit caught half-way is put right: a new inode without a name, and
// one that lost its last name, go to the chain of orphans; written blocks behind the end of a file go.
//
// Names to inodes that are not there, and changes of inodes that are not there, are passed over, as in the
// kernel; `dropped` counts them.
//
// It works in the block cache, and does not flush it. All records are judged before the first
// is applied. On failure the volume is to be dropped without a flush; then nothing was written, unless more
// than the cache's half (32 MiB) of metadata had changed, which it writes early. Locking: before
// anybody else has the volume. It may write, into memory at least: Volume::access() is not asked.
// Errors: EUCLEAN with words, ENOSPC, EIO.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "server/ext4/fast_commit_log.h"
#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

struct FastCommitSummary {
  std::uint64_t records = 0;
  std::uint64_t inodes = 0;   // touched
  std::uint64_t orphans = 0;  // of them without a name at the end
  std::uint64_t dropped = 0;  // records
};

// Called for each step, with how far that part of the work is; how often something is said of it is the
// caller's.
using FastCommitProgress = std::function<void(std::string_view doing, std::uint64_t done, std::uint64_t all)>;

Outcome<FastCommitSummary> replay_fast_commits(Metadata& metadata, std::span<const FastCommitRecord> records,
                                               const FastCommitProgress& progress = {});

}  // namespace fuse4fs::ext4
