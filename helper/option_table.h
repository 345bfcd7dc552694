// SPDX-License-Identifier: GPL-2.0-or-later
// Every mount option that mount(8), ext4(5) and this project know, with what is done about it and why.
//
// A row never vanishes silently: an option works, is left out for a reason that is said, or is refused by
// name with a reason.
#pragma once

#include <span>
#include <string_view>

namespace fuse4fs::helper {

enum class OptionValue { kNone, kRequired, kOptional };

enum class OptionUse {
  kFlag,     // changes the mount flags (`set`, `clear`)
  kServer,   // handed to the server as it was written
  kSilent,   // asks for what is so anyway, or is for programs above us
  kIgnored,  // only tunes speed, and has nothing to tune here: said with -v
  kRefused,  // promises what is not given
  kKernel,   // set by the helper; tolerated on remount, where mount(8) repeats what is in /proc/mounts
  kRemount,
  kLog,
  kBdi,
  kIomap,  // whether /dev/fuse is blessed; the server hears of it, too
  kTrustedService,
  kService,       // which socket
  kStandalone,    // no socket
  kStartTimeout,  // seconds
  kJournalPath,   // the device of the journal; given to the server as it was opened
  kNoFail,        // a missing source is no failure
  kUser,          // for whom mount(8) mounts
};

struct OptionRow {
  std::string_view name;  // a final '*' stands for any further characters
  OptionValue value;
  OptionUse use;
  // MS_*; those of a kRefused row are what other services than ours may keep.
  unsigned long set;
  unsigned long clear;
  // kServer, kSilent: the allowed values, '|' between them, where the helper checks them; empty: not checked.
  std::string_view values;
  std::string_view reason;
};

std::span<const OptionRow> option_table();

// The first row that fits name and value; a row whose `values` do not hold the value fits only if no later
// row does. Null if the option is unknown.
const OptionRow* find_option(std::string_view name, bool has_value, std::string_view value);

// Whether `value` is one of `values` ("a|b|c").
bool is_one_of(std::string_view value, std::string_view values);

}  // namespace fuse4fs::helper
