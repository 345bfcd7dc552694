// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/xattr_store.h"

#include <algorithm>
#include <cstring>

#include "server/ext4/crc32c.h"
#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::string_view kReading = "reading extended attributes";
constexpr std::string_view kWriting = "writing extended attributes";
constexpr std::size_t kHeader = sizeof(ext2_ext_attr_header);
constexpr std::size_t kMark = sizeof(std::uint32_t);  // in front of those in the inode
constexpr std::size_t kLongestName = 255;

Result<void> judge_name(const XattrName& name) {
  if (name.suffix.size() > kLongestName) return fail(ERANGE);
  return {};
}

XattrEntry entry_for(const XattrName& name, std::span<const std::byte> value) {
  XattrEntry entry;
  entry.index = static_cast<std::uint8_t>(name.index);
  entry.name = name.suffix;
  entry.value_size = static_cast<std::uint32_t>(value.size());
  entry.value.assign(value.begin(), value.end());
  return entry;
}

XattrName name_of(const XattrEntry& entry) { return {static_cast<XattrIndex>(entry.index), entry.name}; }

void erase(XattrEntries& entries, const XattrName& name) {
  if (const auto at = find_xattr(entries, name); at != entries.end()) entries.erase(at);
}

}  // namespace

bool XattrStore::has_value_inodes() { return ext2fs_has_feature_ea_inode(volume_.super_pointer()) != 0; }

Result<XattrEntries> XattrStore::parse(const Inode& inode, std::span<const std::byte> area, std::size_t first,
                                       std::uint64_t block) {
  auto entries = parse_xattrs(area, first);
  const bool is_foreign = entries && !has_value_inodes() &&
                          std::ranges::any_of(*entries, [](const auto& e) { return e.value_inode != 0; });
  if (entries && !is_foreign) return std::move(*entries);
  return fail(volume_.corrupted(inode.number, block,
                                block != 0 ? "a block of extended attributes is damaged"
                                           : "extended attributes inside the inode are damaged"));
}

Result<XattrStore::Places> XattrStore::read(const Inode& inode) {
  Places places;
  RETURN_IF_ERROR(read_inode_part(inode, places));
  places.block = inode.xattr_block();
  if (places.block != 0) RETURN_IF_ERROR(read_block(inode, places));
  return places;
}

Result<void> XattrStore::read_inode_part(const Inode& inode, Places& places) {
  const std::size_t size = EXT2_INODE_SIZE(&volume_.super());
  const std::size_t begin = EXT2_GOOD_OLD_INODE_SIZE + inode.raw.i_extra_isize;
  if (size <= EXT2_GOOD_OLD_INODE_SIZE || inode.raw.i_extra_isize == 0 || begin + 2 * kMark > size) return {};
  places.begin = begin;
  places.room = size - begin - kMark;
  std::vector<std::byte> whole(size);
  RETURN_IF_ERROR(volume_.read_inode(inode.number, whole, kReading));
  std::uint32_t mark = 0;
  std::memcpy(&mark, whole.data() + begin, sizeof mark);
  if (mark != EXT2_EXT_ATTR_MAGIC) return {};
  ASSIGN_OR_RETURN(places.in_inode, parse(inode, std::span(whole).subspan(begin + kMark), 0, 0));
  return {};
}

// The checksum of a block does not depend on who has it: inodes share it.
std::uint32_t XattrStore::checksum_of_block(std::uint64_t block, std::span<const std::byte> bytes) {
  constexpr std::size_t kPlace = offsetof(ext2_ext_attr_header, h_checksum);
  constexpr std::uint32_t kNone = 0;
  const std::uint64_t number = block;
  std::uint32_t sum = crc32c(volume_.fs()->csum_seed, &number, sizeof number);
  sum = crc32c(sum, bytes.data(), kPlace);
  sum = crc32c(sum, &kNone, sizeof kNone);
  return crc32c(sum, bytes.data() + kPlace + sizeof kNone, bytes.size() - kPlace - sizeof kNone);
}

std::string_view XattrStore::judge_block(std::uint64_t block, std::span<const std::byte> bytes) {
  ext2_ext_attr_header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.h_magic != EXT2_EXT_ATTR_MAGIC || header.h_blocks != 1 || header.h_refcount == 0)
    return "a block of extended attributes is damaged";
  if (volume_.has_checksums() && header.h_checksum != checksum_of_block(block, bytes))
    return "a block of extended attributes has a wrong checksum";
  return {};
}

Result<cache::Buffer> XattrStore::open_block(const Inode& inode, std::uint64_t block) {
  // Nobody else waits for the device with it.
  const auto loaded = volume_.cache().get(block);
  if (!loaded) return fail(volume_.failed(loaded.error().value(), inode.number, kReading));
  std::string_view words;
  const auto judge = [&](std::span<const std::byte> bytes) -> Result<void> {
    words = judge_block(block, bytes);
    return words.empty() ? Result<void>() : fail(kCorrupted);
  };
  auto buffer = [&] {
    const std::shared_lock still(mutex_of(block));
    return volume_.cache().get(block, {.kind = cache::BlockKind::kXattrs}, judge);
  }();
  if (!words.empty()) return fail(volume_.corrupted(inode.number, block, words));
  if (!buffer) return fail(volume_.failed(buffer.error().value(), inode.number, kReading));
  return buffer;
}

Result<void> XattrStore::read_block(const Inode& inode, Places& places) {
  const std::uint64_t block = places.block;
  if (!volume_.may_be_owned(block, 1))
    return fail(volume_.corrupted(inode.number, block, "extended attributes outside of what a file may own"));
  ASSIGN_OR_RETURN(const auto buffer, open_block(inode, block));
  const std::vector<std::byte> bytes = [&] {
    const std::shared_lock still(mutex_of(block));
    return std::vector(buffer.bytes().begin(), buffer.bytes().end());
  }();
  // Where the bitmap cannot be read, it is told, and this can be read all the same.
  if (const auto in_use = volume_.block_bitmaps().in_use(block); in_use && !*in_use)
    return fail(volume_.corrupted(inode.number, block, "a block of extended attributes is marked free"));
  ASSIGN_OR_RETURN(places.in_block, parse(inode, bytes, kHeader, block));
  std::memcpy(&places.sharers, bytes.data() + offsetof(ext2_ext_attr_header, h_refcount),
              sizeof places.sharers);
  remember_block(places);
  return {};
}

XattrStore::ShareLock XattrStore::share(const Inode& inode) {
  ShareLock lock(share_, std::defer_lock);
  if (inode.xattr_block() != 0) lock.lock();
  return lock;
}

bool XattrStore::is_shared(const Places& places) {
  return !places.in_block.empty() ||
         std::ranges::any_of(places.in_inode, [](const auto& entry) { return entry.value_inode != 0; });
}

Result<std::vector<std::byte>> XattrStore::value_of(const Inode& inode, const XattrEntry& entry) {
  if (entry.value_inode == 0) return entry.value;
  return values_.read(inode, entry);
}

Result<std::optional<std::vector<std::byte>>> XattrStore::get(const Inode& inode, const XattrName& name) {
  RETURN_IF_ERROR(judge_name(name));
  Places places;
  RETURN_IF_ERROR(read_inode_part(inode, places));
  auto found = std::as_const(places.in_inode).begin();
  found = find_xattr(std::as_const(places.in_inode), name);
  if (found == places.in_inode.end()) {
    places.block = inode.xattr_block();
    if (places.block == 0) return std::nullopt;
    RETURN_IF_ERROR(read_block(inode, places));
    found = find_xattr(std::as_const(places.in_block), name);
    if (found == places.in_block.end()) return std::nullopt;
  }
  ASSIGN_OR_RETURN(auto value, value_of(inode, *found));
  return value;
}

Result<XattrEntries> XattrStore::list(const Inode& inode) {
  ASSIGN_OR_RETURN(auto places, read(inode));
  std::ranges::move(places.in_block, std::back_inserter(places.in_inode));
  return std::move(places.in_inode);
}

bool XattrStore::place_in_inode(Places& places, const XattrEntry& entry) {
  const XattrName name = name_of(entry);
  const auto found = find_xattr(places.in_inode, name);
  auto& placed = found != places.in_inode.end() ? *found : places.in_inode.emplace_back();
  placed = entry;
  if (length_of_xattrs(places.in_inode) > places.room) return false;
  erase(places.in_block, name);
  return true;
}

bool XattrStore::place_in_block(Places& places, const XattrEntry& entry) {
  const XattrName name = name_of(entry);
  const auto found = find_xattr(places.in_block, name);
  const std::size_t old_length = found != places.in_block.end() ? found->value_length() : 0;
  if (found != places.in_block.end())
    *found = entry;
  else
    places.in_block.insert(sorted_place(places.in_block, name), entry);
  const std::size_t room = volume_.block_size() - kHeader;
  if (length_of_xattrs(places.in_block) > room) return false;
  if (has_value_inodes() && entry.value_length() != 0 && entry.value_length() != old_length) {
    // Names need room as well: values of a certain size in all had better have inodes.
    const std::size_t kept = std::min<std::size_t>(volume_.block_size() / 8, 1024);
    std::size_t left = volume_.block_size();
    for (const auto& other : places.in_block) left -= other.value_length();
    if (left < kept) return false;
  }
  erase(places.in_inode, name);
  return true;
}

Result<XattrStore::Places> XattrStore::plan(const Places& from, XattrEntry entry) {
  constexpr std::uint32_t kToBe = 1;  // stands for the inode that is not made yet
  // What a block could not hold with a short name.
  const std::size_t large = volume_.block_size() - kHeader - kMark - 20;
  if (has_value_inodes() && padded_value(entry.value_size) > large) entry.value_inode = kToBe;
  while (true) {
    Places to = from;
    entry.hash = 0;
    if (place_in_inode(to, entry)) return to;
    to = from;
    if (entry.value_inode == 0) entry.hash = hash_of_xattr(entry.name, entry.value);
    if (place_in_block(to, entry)) return to;
    if (!has_value_inodes() || entry.value.empty() || entry.value_inode != 0) return fail(ENOSPC);
    entry.value_inode = kToBe;
  }
}

Result<XattrStore::Change> XattrStore::set(Inode& inode, const XattrName& name,
                                           std::span<const std::byte> value, XattrMode mode) {
  RETURN_IF_ERROR(judge_name(name));
  auto lock = share(inode);
  ASSIGN_OR_RETURN(const Places from, read(inode));
  auto found = find_xattr(from.in_inode, name);
  bool exists = found != from.in_inode.end();
  if (!exists) {
    found = find_xattr(from.in_block, name);
    exists = found != from.in_block.end();
  }
  if (exists && mode == XattrMode::kCreate) return fail(EEXIST);
  if (!exists && mode == XattrMode::kReplace) return fail(ENODATA);
  if (exists && found->value_size == value.size()) {
    ASSIGN_OR_RETURN(const auto old, value_of(inode, *found));
    if (std::ranges::equal(old, value)) {
      if (found->value_inode == 0) return Change::kNone;
      // For the kernel's ext4 this is a change: the caller's ctime counts.
      RETURN_IF_ERROR(write_inode(inode, from, from));
      return Change::kDone;
    }
  }
  ASSIGN_OR_RETURN(Places to, plan(from, entry_for(name, value)));
  if (!lock && (is_shared(from) || is_shared(to))) lock.lock();
  auto placed = find_xattr(to.in_inode, name);
  if (placed == to.in_inode.end()) placed = find_xattr(to.in_block, name);
  InodeNumber fresh = 0;
  if (placed->value_inode != 0) {
    ASSIGN_OR_RETURN(const auto stored, values_.store(inode, value));
    fresh = stored.inode;
    placed->value_inode = stored.inode;
    placed->hash = hash_of_xattr(placed->name, stored.checksum);
    placed->value.clear();
  }
  const XattrEntry entry = *placed;
  if (const auto done = change(inode, from, to, fresh); !done) {
    if (fresh != 0) (void)values_.drop_reference(inode, entry);
    return fail(done.error());
  }
  return Change::kDone;
}

Result<XattrStore::Change> XattrStore::remove(Inode& inode, const XattrName& name) {
  RETURN_IF_ERROR(judge_name(name));
  ASSIGN_OR_RETURN(const bool may_be_there, may_have(inode, name));
  if (!may_be_there) return Change::kNone;
  auto lock = share(inode);
  ASSIGN_OR_RETURN(const Places from, read(inode));
  Places to = from;
  auto& entries = find_xattr(to.in_inode, name) != to.in_inode.end() ? to.in_inode : to.in_block;
  erase(entries, name);
  if (to.in_inode.size() + to.in_block.size() == from.in_inode.size() + from.in_block.size())
    return Change::kNone;
  if (!lock && is_shared(from)) lock.lock();
  RETURN_IF_ERROR(change(inode, from, to, 0));
  return Change::kDone;
}

Result<bool> XattrStore::may_have(const Inode& inode, const XattrName& name) {
  if (inode.xattr_block() != 0) return true;
  Places places;
  RETURN_IF_ERROR(read_inode_part(inode, places));
  return find_xattr(places.in_inode, name) != places.in_inode.end();
}

Result<void> XattrStore::set_inline_data(Inode& inode, std::span<const std::byte> value) {
  auto lock = share(inode);
  ASSIGN_OR_RETURN(const Places from, read(inode));
  Places to = from;
  if (!place_in_inode(to, entry_for(kInlineDataXattr, value))) return fail(ENOSPC);
  if (!lock && is_shared(from)) lock.lock();
  return change(inode, from, to, 0);
}

Result<std::size_t> XattrStore::room_for_inline_data(const Inode& inode) {
  ASSIGN_OR_RETURN(Places places, read(inode));
  if (!place_in_inode(places, entry_for(kInlineDataXattr, {}))) return 0;
  return (places.room - length_of_xattrs(places.in_inode)) & ~std::size_t{3};
}

Result<void> XattrStore::release_all(Inode& inode) {
  default_acls_.forget(inode.number);
  auto lock = share(inode);
  ASSIGN_OR_RETURN(const Places from, read(inode));
  if (!lock && is_shared(from)) lock.lock();
  Result<void> outcome = count_blocks(inode, from, {});
  if (const auto dropped = drop_values(inode, from.in_inode, {}); !dropped) outcome = dropped;
  if (from.block == 0) return outcome;
  const auto left = leave_block(inode, from);
  return left ? outcome : left;
}

Result<void> XattrStore::change(Inode& inode, const Places& from, Places& to, InodeNumber fresh) {
  volume_.note_xattrs();
  default_acls_.forget(inode.number);
  RETURN_IF_ERROR(store_block(inode, from, to, fresh));
  RETURN_IF_ERROR(count_blocks(inode, from, to));
  RETURN_IF_ERROR(write_inode(inode, from, to));
  // Nothing refers to the old places any more. What of them cannot be freed is lost until e2fsck finds it.
  Result<void> outcome = drop_values(inode, from.in_inode, to.in_inode);
  if (from.block != 0 && from.block != to.block) {
    if (const auto left = leave_block(inode, from); !left) outcome = left;
  } else if (const auto dropped = drop_values(inode, from.in_block, to.in_block); !dropped) {
    outcome = dropped;
  }
  (void)outcome;  // told already
  return {};
}

Result<void> XattrStore::store_block(Inode& inode, const Places& from, Places& to, InodeNumber fresh) {
  if (to.in_block == from.in_block) return {};
  to.block = 0;
  to.sharers = 0;
  if (to.in_block.empty()) return {};
  if (find_equal_block(inode, to)) {
    RETURN_IF_ERROR(set_sharers(inode, to.block, to.sharers));
    // That block has counted its values' inodes itself.
    const auto twice =
        std::ranges::find_if(to.in_block, [&](const auto& entry) { return entry.value_inode == fresh; });
    if (fresh != 0 && twice != to.in_block.end()) RETURN_IF_ERROR(values_.drop_reference(inode, *twice));
    return {};
  }
  if (from.block == 0 || from.sharers > 1) {
    RETURN_IF_ERROR(take_block(inode, to, fresh));
  } else {
    to.block = from.block;
    to.sharers = 1;
    RETURN_IF_ERROR(write_block(inode, to));
  }
  remember_block(to);
  return {};
}

Result<void> XattrStore::take_block(Inode& inode, Places& to, InodeNumber fresh) {
  ASSIGN_OR_RETURN(const BlockRun run, blocks_.take(inode, extents_.goal_for(inode, 0)));
  RETURN_IF_ERROR(extents_.check_taken(inode, 0, run));
  to.block = run.first;
  to.sharers = 1;
  Result<void> done;
  std::size_t counted = 0;
  const auto is_old = [&](const XattrEntry& entry) {
    return entry.value_inode != 0 && entry.value_inode != fresh;
  };
  for (; done && counted < to.in_block.size(); ++counted) {
    if (is_old(to.in_block[counted])) done = values_.add_reference(inode, to.in_block[counted]);
  }
  if (!done) --counted;
  if (done) done = write_block(inode, to);
  if (done) return {};
  for (std::size_t i = 0; i < counted; ++i) {
    if (is_old(to.in_block[i])) (void)values_.drop_reference(inode, to.in_block[i]);
  }
  (void)blocks_.give_back(run, inode.number);
  return done;
}

Result<void> XattrStore::write_block(const Inode& inode, const Places& places) {
  known_blocks_.forget(places.block);
  std::vector<std::byte> bytes(volume_.block_size());
  ext2_ext_attr_header header{};
  header.h_magic = EXT2_EXT_ATTR_MAGIC;
  header.h_refcount = places.sharers;
  header.h_blocks = 1;
  header.h_hash = hash_of_xattrs(places.in_block);
  std::memcpy(bytes.data(), &header, sizeof header);
  lay_out_xattrs(places.in_block, bytes, kHeader);
  return seal_and_write(inode, places.block, bytes);
}

Result<void> XattrStore::set_sharers(const Inode& inode, std::uint64_t block, std::uint32_t sharers) {
  std::vector<std::byte> bytes(volume_.block_size());
  if (const auto done = volume_.cache().read(block << volume_.block_bits(), bytes); !done)
    return fail(volume_.failed(done.error().value(), inode.number, kWriting));
  std::memcpy(bytes.data() + offsetof(ext2_ext_attr_header, h_refcount), &sharers, sizeof sharers);
  return seal_and_write(inode, block, bytes);
}

Result<void> XattrStore::seal_and_write(const Inode& inode, std::uint64_t block, std::span<std::byte> bytes) {
  if (volume_.has_checksums()) {
    const std::uint32_t sum = checksum_of_block(block, bytes);
    std::memcpy(bytes.data() + offsetof(ext2_ext_attr_header, h_checksum), &sum, sizeof sum);
  }
  const std::lock_guard lock(mutex_of(block));
  if (const auto done = volume_.journal().write(block, 0, bytes, inode.number); !done)
    return fail(volume_.failed(done.error().value(), inode.number, kWriting));
  return {};
}

Result<void> XattrStore::write_inode(Inode& inode, const Places& from, const Places& to) {
  const std::size_t size = EXT2_INODE_SIZE(&volume_.super());
  std::vector<std::byte> whole(std::max(size, sizeof inode.raw));
  RETURN_IF_ERROR(volume_.read_inode(inode.number, whole, kWriting));
  std::memcpy(whole.data(), &inode.raw, sizeof inode.raw);
  if (to.room != 0 && to.in_inode != from.in_inode) {
    const std::uint32_t mark = to.in_inode.empty() ? 0 : EXT2_EXT_ATTR_MAGIC;
    std::memcpy(whole.data() + to.begin, &mark, sizeof mark);
    lay_out_xattrs(to.in_inode, std::span(whole).subspan(to.begin + kMark, to.room), 0);
  }
  RETURN_IF_ERROR(volume_.write_inode(inode.number, whole, kWriting));
  // Of a short inode the room begins inside of what is in memory.
  std::memcpy(&inode.raw, whole.data(), std::min(size, sizeof inode.raw));
  return {};
}

Result<void> XattrStore::leave_block(Inode& inode, const Places& from) {
  if (from.sharers > 1) return set_sharers(inode, from.block, from.sharers - 1);
  known_blocks_.forget(from.block);
  const std::uint64_t cluster = volume_.cluster_blocks();
  const auto freed = blocks_.give_back({from.block & ~(cluster - 1), cluster}, inode.number);
  if (freed) volume_.journal().revoke(from.block, 1);
  const auto dropped = drop_values(inode, from.in_block, {});
  return freed ? dropped : freed;
}

Result<void> XattrStore::drop_values(const Inode& inode, const XattrEntries& from, const XattrEntries& to) {
  Result<void> outcome;
  for (const auto& entry : from) {
    if (entry.value_inode == 0) continue;
    const auto kept = find_xattr(to, name_of(entry));
    if (kept != to.end() && kept->value_inode == entry.value_inode) continue;
    if (const auto dropped = values_.drop_reference(inode, entry); !dropped) outcome = dropped;
  }
  return outcome;
}

Result<void> XattrStore::count_blocks(Inode& inode, const Places& from, const Places& to) {
  // Those of one that are not in the other.
  const auto clusters = [&](const Places& here, const Places& there) {
    std::uint64_t count = here.block != 0 && there.block == 0 ? 1 : 0;
    for (const auto* const entries : {&here.in_inode, &here.in_block}) {
      for (const auto& entry : *entries) {
        if (entry.value_inode == 0) continue;
        const auto is_same = [&](const XattrEntries& others) {
          const auto other = find_xattr(others, name_of(entry));
          return other != others.end() && other->value_inode == entry.value_inode;
        };
        if (!is_same(there.in_inode) && !is_same(there.in_block)) count += values_.clusters(inode, entry);
      }
    }
    return count;
  };
  if (const auto more = clusters(to, from); more != 0) RETURN_IF_ERROR(volume_.count_blocks(inode, more));
  if (const auto less = clusters(from, to); less != 0) volume_.uncount_blocks(inode, less);
  inode.raw.i_file_acl = static_cast<std::uint32_t>(to.block);
  inode.raw.osd2.linux2.l_i_file_acl_high = static_cast<std::uint16_t>(to.block >> 32);
  return {};
}

bool XattrStore::find_equal_block(const Inode& inode, Places& places) {
  for (const std::uint64_t block : known_blocks_.find(hash_of_xattrs(places.in_block))) {
    Places other;
    other.block = block;
    if (!read_block(inode, other)) {
      known_blocks_.forget(block);
      continue;
    }
    if (other.in_block != places.in_block || other.sharers >= EXT2_EXT_ATTR_REFCOUNT_MAX) continue;
    places.block = block;
    places.sharers = other.sharers + 1;
    return true;
  }
  return false;
}

void XattrStore::remember_block(const Places& places) {
  if (const std::uint32_t hash = hash_of_xattrs(places.in_block); hash != 0)
    known_blocks_.add(hash, places.block);
  else
    known_blocks_.forget(places.block);
}

}  // namespace fuse4fs::ext4
