// SPDX-License-Identifier: GPL-2.0-or-later
// Where the kernels of series v7 do otherwise than their documents say, or than they would have to. Each can
// be switched on by itself.
#pragma once

#include <initializer_list>
#include <ostream>
#include <set>

namespace fuse4fs::iomap_model {

enum class Quirk {
  kIoendErrorsDropped,             // in write-back: nobody is told that the server refused an IOEND
  kEndNotSent,                     // END that does not come
  kStatMovesDiskSize,              // a stat while a file grows: APPEND is forgotten
  kNewAddressInSectors,            // of IOEND, by 512 bytes
  kFullInvalidationKeepsSequence,  // mappings already picked up outlive it
  kWantEndIneffective,
  kOverwriteDropsMapping,  // a write into written blocks, of whose mapping nothing has changed
  // Whenever the file is written directly, as if a stat beside a truncate had come before: seldom in truth.
  kDirectAppendsUnsaid
};

class Quirks {
 public:
  Quirks() = default;
  Quirks(std::initializer_list<Quirk> quirks) : quirks_(quirks) {}
  // All that a kernel of series v7 usually has. END comes.
  static Quirks v7() {
    return {Quirk::kIoendErrorsDropped,  Quirk::kStatMovesDiskSize,
            Quirk::kNewAddressInSectors, Quirk::kFullInvalidationKeepsSequence,
            Quirk::kWantEndIneffective,  Quirk::kOverwriteDropsMapping};
  }
  [[nodiscard]] Quirks with(Quirk quirk) const {
    Quirks more = *this;
    more.quirks_.insert(quirk);
    return more;
  }
  [[nodiscard]] bool has(Quirk quirk) const { return quirks_.contains(quirk); }
  friend void PrintTo(const Quirks& quirks, std::ostream* out) {
    for (const Quirk quirk : quirks.quirks_) *out << static_cast<int>(quirk) << ' ';
  }

 private:
  std::set<Quirk> quirks_;
};

}  // namespace fuse4fs::iomap_model
