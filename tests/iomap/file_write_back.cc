// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "tests/iomap/file.h"

namespace fuse4fs::iomap_model {

// What became of one, for IOEND.
struct File::Completion {
  Mapper::Completed what;
  std::vector<std::shared_ptr<Folio>> folios;

  // The kernel makes one of neighbours that are there when it comes to them.
  [[nodiscard]] bool takes(const Completion& next) const {
    return what.range.offset + what.range.length == next.what.range.offset &&
           what.address + what.range.length == next.what.address && what.device == next.what.device &&
           what.flags == next.what.flags && what.error == next.what.error;
  }
};

// A stretch of the file that goes to one stretch of the device in one piece.
struct File::Ioend {
  abi::Mapping mapping{};
  std::uint64_t position = 0;
  std::vector<std::byte> bytes;  // whole blocks
  std::uint64_t length = 0;      // up to the end of the file
  std::vector<std::shared_ptr<Folio>> folios;

  [[nodiscard]] std::uint64_t address() const { return mapping.address + (position - mapping.offset); }
  [[nodiscard]] bool takes(const abi::Mapping& next, std::uint64_t at) const {
    // Of a bio.
    constexpr std::size_t kMostFolios = 256;
    const std::uint64_t next_address = next.address + (at - next.offset);
    return position + bytes.size() == at && address() + bytes.size() == next_address &&
           mapping.type == next.type && mapping.device == next.device &&
           (mapping.flags & abi::kShared) == (next.flags & abi::kShared) &&
           ((next.flags & abi::kBoundary) == 0 || next.offset != at) && folios.size() < kMostFolios;
  }
  // `error`: an errno.
  [[nodiscard]] Completion completed(int error) {
    Completion completion{.what = {.flags = abi::kIoendWriteback,
                                   .error = error,
                                   .range = {.offset = position, .length = length},
                                   .address = address(),
                                   .device = mapping.device},
                          .folios = std::move(folios)};
    if (mapping.type == abi::kUnwritten) completion.what.flags |= abi::kIoendUnwritten;
    if ((mapping.flags & abi::kShared) != 0) completion.what.flags |= abi::kIoendShared;
    return completion;
  }
  // Of a locked folio, up to `size` of the file.
  void add(const LockedFolio& folio, ByteRange range, std::uint64_t size) {
    const auto more = folio->bytes(range);
    bytes.insert(bytes.end(), more.begin(), more.end());
    length = std::max(std::min(position + bytes.size(), size), position) - position;
    if (!folios.empty() && folios.back() == folio.folio) return;
    folios.push_back(folio.folio);
    ++folio->in_writeback;
  }
};

// One pass over the dirty pages. Keeps its mapping from folio to folio while it is good.
struct File::WriteBack {
  std::optional<Mapper::Answer> answer;
  Ioend ioend;
  std::vector<Completion> completed;
  std::optional<Errno> error;
  // The first of a folio that could not be sent off.
  std::optional<Errno> unsent;

  void note(const Result<void>& outcome) {
    if (!outcome && !error) error = outcome.error();
  }
};

void File::remember_error(Errno error) {
  int none = 0;
  write_back_error_.compare_exchange_strong(none, error.value());
}

// To the device. Who was to be told of it is told later, of several at once.
void File::submit(WriteBack& state) {
  Ioend ioend = std::exchange(state.ioend, {});
  if (ioend.bytes.empty()) return;
  const auto written = write_device(ioend.mapping, ioend.position, ioend.bytes);
  state.completed.push_back(ioend.completed(written ? 0 : written.error().value()));
  if (state.completed.size() >= core_.completions_at_once) complete_all(state);
}

void File::complete_all(WriteBack& state) {
  auto completed = std::exchange(state.completed, {});
  for (std::size_t at = 0; at < completed.size();) {
    Completion& first = completed[at];
    for (++at; at < completed.size() && first.takes(completed[at]); ++at) {
      first.what.range.length += completed[at].what.range.length;
      std::ranges::move(completed[at].folios, std::back_inserter(first.folios));
    }
    state.note(complete(first));
  }
}

Result<void> File::complete(const Completion& completion) {
  const auto& what = completion.what;
  const auto told = mapper_.ioend(what);
  attributes_.expire();
  if (!told) ledger_.device_refused(what.range);
  // Kernels of v7 finish the pages with what the device said, whatever the server did.
  Result<void> outcome = what.error == 0 ? Result<void>() : fail(what.error);
  if (outcome && !core_.quirks.has(Quirk::kIoendErrorsDropped)) outcome = told;
  if (!outcome) remember_error(outcome.error());
  for (const auto& folio : completion.folios) {
    --folio->in_writeback;
    folio->in_writeback.notify_all();
  }
  return outcome;
}

void File::discard(const LockedFolio& folio, std::uint64_t position, Errno error) {
  for (std::uint64_t at = position; at < folio->end(); at += block_)
    if (folio->dirty[(at - folio->offset) / block_]) ledger_.device_refused({.offset = at, .length = block_});
  remember_error(error);
  (void)mapper_.ioend(
      {.flags = 0, .error = error.value(), .range = {.offset = position, .length = folio->end() - position}});
}

Result<void> File::write_back_run(WriteBack& state, LockedFolio& folio, ByteRange run) {
  const std::uint64_t end = run.offset + run.length;
  const std::uint64_t size = size_;
  for (std::uint64_t at = run.offset; at < end;) {
    auto& answer = state.answer;
    if (!answer || at < answer->mapping.offset || at >= answer->end() || !mapper_.is_current(*answer)) {
      const auto found = mapper_.begin(abi::kOpWriteback, at, end - at, size);
      if (!found) {
        state.answer.reset();
        discard(folio, at, found.error());
        return fail(found.error());
      }
      answer = *found;
    }
    const std::uint64_t stop = std::min(end, answer->end());
    // It may be longer than what was asked for when it was judged.
    mapper_.reuse(*answer, {.offset = at, .length = round_up(stop) - at});
    if (!state.ioend.takes(answer->mapping, at)) {
      submit(state);
      state.ioend.mapping = answer->mapping;
      state.ioend.position = at;
    }
    state.ioend.add(folio, {.offset = at, .length = round_up(stop) - at}, size);
    at = stop;
  }
  return {};
}

Result<void> File::write_back_folio(WriteBack& state, LockedFolio& folio) {
  const std::uint64_t size = size_;
  const std::uint64_t end = std::min(folio->end(), size);
  if (folio->offset >= size) {
    std::fill(folio->dirty.begin(), folio->dirty.end(), false);
    return {};
  }
  // What lies behind the end is zeros on the device.
  if (end < folio->end()) {
    const auto behind = folio->bytes({.offset = end, .length = folio->end() - end});
    std::ranges::fill(behind, std::byte{0});
  }
  Result<void> outcome;
  for (std::uint64_t at = folio->offset; at < end && outcome;) {
    const auto is_dirty = [&](std::uint64_t block) { return folio->dirty[(block - folio->offset) / block_]; };
    if (!is_dirty(at)) {
      at += block_;
      continue;
    }
    std::uint64_t stop = at + block_;
    while (stop < end && is_dirty(stop)) stop += block_;
    outcome = write_back_run(state, folio, {.offset = at, .length = std::min(stop, end) - at});
    at = stop;
  }
  std::fill(folio->dirty.begin(), folio->dirty.end(), false);
  return outcome;
}

void File::write_back_one(WriteBack& state, const std::shared_ptr<Folio>& folio) {
  LockedFolio locked{.folio = folio, .lock = std::unique_lock(folio->lock)};
  locked->wait_for_writeback();
  if (locked->removed || !locked->any_dirty()) return;
  const auto sent = write_back_folio(state, locked);
  state.note(sent);
  if (!sent && !state.unsent) state.unsent = sent.error();
}

// What is not on its way yet never is, though it has nothing to do with the failure.
void File::cancel(WriteBack& state) {
  Ioend ioend = std::exchange(state.ioend, {});
  if (ioend.bytes.empty()) return;
  ledger_.device_refused({.offset = ioend.position, .length = ioend.bytes.size()});
  state.completed.push_back(ioend.completed(state.unsent->value()));
}

Result<void> File::finish_write_back(WriteBack& state) {
  state.unsent ? cancel(state) : submit(state);
  complete_all(state);
  if (state.error) return fail(*state.error);
  return {};
}

Result<void> File::write_back(ByteRange range) {
  WriteBack state;
  // Marked at the beginning: a page that takes the place of one of them is not of this pass.
  for (const auto& folio : pages_.dirty_within(range)) write_back_one(state, folio);
  return finish_write_back(state);
}

Result<void> File::flush_in_background(const BeforeFolio& before_folio) {
  WriteBack state;
  for (auto folio = pages_.first_from(0); folio; folio = pages_.first_from(folio->end())) {
    if (before_folio) {
      before_folio(folio->offset);
      // What is there now.
      folio = pages_.first_from(folio->offset);
      if (!folio) break;
    }
    write_back_one(state, folio);
    if (state.unsent) break;
  }
  return finish_write_back(state);
}

Result<void> File::flush_times() {
  if (!times_changed_.exchange(false)) return {};
  fuse_setattr_in in{};
  in.valid = FATTR_MTIME | FATTR_CTIME | FATTR_ATIME;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  in.atime = in.mtime = in.ctime = static_cast<std::uint64_t>(now.tv_sec);
  in.atimensec = in.mtimensec = in.ctimensec = static_cast<std::uint32_t>(now.tv_nsec);
  ASSIGN_OR_RETURN(const auto out, core_.connection.ask<fuse_attr_out>(FUSE_SETATTR, id_.node, in));
  attributes_.keep(out);
  mapper_.set_disk_size(out.attr.size);
  return {};
}

Result<void> File::sync(SyncWhat what) {
  const std::uint64_t size = size_;
  (void)write_back();
  const int error = write_back_error_.exchange(0);
  RETURN_IF_ERROR(flush_times());
  const std::uint64_t last_write = last_write_;
  const bool refused = mapper_.take_refusal();
  fuse_fsync_in in{};
  in.fsync_flags = what == SyncWhat::kDataOnly ? FUSE_FSYNC_FDATASYNC : 0;
  const auto synced = core_.connection.tell(FUSE_FSYNC, id_.node, in);
  if (!synced && synced.error() != Errno(ENOSYS)) return synced;
  if (refused) core_.breaches.add(Rule::kIoendErrorForgotten, fmt::format("node {}", id_.node));
  const Device* const device = core_.devices.find(last_device_);
  if (core_.watch == Core::Watch::kServerTells && device && !device->is_flushed(last_write))
    core_.breaches.add(Rule::kNotFlushed, fmt::format("node {}", id_.node));
  if (error != 0) return fail(error);
  synced_size_ = size;
  return {};
}

Result<void> File::close() {
  const auto written = write_back();
  RETURN_IF_ERROR(flush_times());
  const auto flushed = core_.connection.tell(FUSE_FLUSH, id_.node, fuse_flush_in{});
  if (!flushed && flushed.error() != Errno(ENOSYS)) return flushed;
  return written;
}

}  // namespace fuse4fs::iomap_model
