// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>

#include "tests/oracle/generator.h"

namespace fuse4fs::oracle {

Step Generator::create() {
  constexpr std::array<std::uint64_t, 6> kFlags = {
      O_WRONLY, O_RDWR, O_WRONLY | O_EXCL, O_RDWR | O_TRUNC, O_WRONLY | O_APPEND, O_RDWR | O_EXCL};
  return {.operation = Operation::kCreate,
          .who = somebody(),
          .path = one_in(5) ? some('f') : fresh(),
          .flags = pick(kFlags),
          .mode = static_cast<std::uint32_t>(one_in(3)   ? below(010000)
                                             : one_in(2) ? 0666
                                                         : 0644)};
}

Step Generator::make_directory() {
  return {.operation = Operation::kMkdir,
          .who = somebody(),
          .path = one_in(8) ? some('d') : fresh(),
          .mode = static_cast<std::uint32_t>(one_in(3) ? below(010000) : 0777)};
}

Step Generator::remove_directory() {
  return {.operation = Operation::kRmdir, .who = somebody(), .path = some('d')};
}

Step Generator::unlink_name() {
  return {.operation = Operation::kUnlink, .who = somebody(), .path = some(pick(std::string("ffffls")))};
}

Step Generator::rename_name() {
  constexpr std::array<std::uint64_t, 9> kFlags = {
      0, 0, 0, 0, RENAME_NOREPLACE, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_WHITEOUT};
  const char type = pick(std::string("ffffddls"));
  Step step{.operation = Operation::kRename, .who = somebody(), .path = some(type), .flags = pick(kFlags)};
  const bool existing = (step.flags & RENAME_EXCHANGE) != 0 ? !one_in(6) : one_in(3);
  step.other = existing ? some(one_in(4) ? pick(std::string("fdls")) : type) : fresh();
  if (one_in(60)) step.flags = RENAME_EXCHANGE | (one_in(2) ? RENAME_NOREPLACE : RENAME_WHITEOUT);  // EINVAL
  if (one_in(60)) step.other = step.path + "/" + entry_name();  // below itself
  return step;
}

Step Generator::link_name() {
  Step step{.operation = Operation::kLink, .who = somebody(), .path = some(pick(std::string("ffffflsd")))};
  step.other = one_in(6) ? some('f') : fresh();
  step.flags = one_in(4) ? AT_SYMLINK_FOLLOW : 0;
  return step;
}

Step Generator::make_symlink() {
  // Short ones lie in the inode (up to 59 bytes), long ones in a block.
  constexpr std::array<std::size_t, 8> kLengths = {58, 59, 60, 61, 159, 1023, 2047, 4095};
  Step step{.operation = Operation::kSymlink, .who = somebody(), .path = one_in(8) ? some('l') : fresh()};
  if (one_in(2)) {
    step.value = one_in(2) ? some('f') : entry_name();
  } else {
    const std::size_t length = one_in(2) ? pick(kLengths) : 1 + below(4095);
    step.value = std::string(length - 1, 't') + std::to_string(below(10));
  }
  return step;
}

Step Generator::read_link() {
  return {.operation = Operation::kReadlink, .who = somebody(), .path = some('l')};
}

Step Generator::make_node() {
  constexpr std::array<std::uint32_t, 5> kTypes = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFREG};
  Step step{.operation = Operation::kMknod, .who = somebody(), .path = fresh()};
  step.mode = pick(kTypes) | static_cast<std::uint32_t>(below(01000));
  const mode_t type = step.mode & S_IFMT;
  // Both forms of a device number on the volume: the old of 16 bits and the new of 32.
  if (type == S_IFCHR || type == S_IFBLK)
    step.number = static_cast<std::int64_t>(
        makedev(one_in(2) ? below(256) : below(4096), one_in(2) ? below(256) : below(1 << 20)));
  return step;
}

Step Generator::open_file() {
  constexpr std::array<std::uint64_t, 6> kFlags = {O_RDWR,           O_RDONLY, O_RDWR | O_APPEND,
                                                   O_RDWR | O_CREAT, O_WRONLY, O_RDWR | O_TRUNC};
  return {.operation = Operation::kOpen,
          .who = somebody(),
          .slot = static_cast<int>(below(kSlots)),
          .path = some('f'),
          .flags = pick(kFlags) | (one_in(10) ? static_cast<std::uint64_t>(O_NOFOLLOW) : 0),
          .mode = 0644};
}

Step Generator::close_file() {
  return {.operation = Operation::kClose, .slot = static_cast<int>(below(kSlots))};
}

Step Generator::list() { return {.operation = Operation::kList, .who = somebody(), .path = some('d')}; }

Step Generator::temporary() {
  return {.operation = Operation::kTmpfile,
          .who = somebody(),
          .slot = static_cast<int>(below(kSlots)),
          .path = some('d'),
          .flags = O_RDWR | (one_in(5) ? static_cast<std::uint64_t>(O_EXCL) : 0),
          .mode = static_cast<std::uint32_t>(below(010000))};
}

Step Generator::link_slot() {
  if (known_.open().empty()) return temporary();
  return {.operation = Operation::kLinkSlot, .who = somebody(), .slot = pick(known_.open()), .path = fresh()};
}

Step Generator::remount() { return {.operation = Operation::kRemount}; }
Step Generator::swap() { return {.operation = Operation::kSwap}; }
Step Generator::drop_caches() { return one_in(4) ? Step{.operation = Operation::kDropCaches} : sync_file(); }

}  // namespace fuse4fs::oracle
