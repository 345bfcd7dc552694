// SPDX-License-Identifier: GPL-2.0-or-later
// The server's side of the start: from the connected socket to the descriptors and the options, and on to the
// mount.
//
// One thread. Order: accept(), open_log(), open_notify(), open_pressure(), open_device(); then the sandbox
// and the volume, which are main's; then mount(), open_clone() as often as wanted, say_goodbye(). Errors
// carry words that name the step and the thing. A Session that is destroyed without say_goodbye() closes the
// socket: the helper then reports a failed mount.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/channel.h"
#include "server/service/options.h"

namespace fuse4fs::service {

struct DeviceDescriptors {
  UniqueFd buffered;       // plain
  UniqueFd direct;         // O_DIRECT; empty if the device cannot
  bool read_only = false;  // asked for by the user, or the device refuses writing
  // Empty unless the user asked for writing and the device refused it: why.
  std::optional<Errno> write_refusal;
};

// How long a claim on a device waits for whoever has it (udev and blkid look at new devices for a moment).
struct ClaimPatience {
  std::chrono::milliseconds interval{100};
  std::chrono::milliseconds limit{15000};
};

class Session {
 public:
  // Takes the connected socket (inherited.h). Reads and checks arguments and
  // options.
  static Outcome<Session> accept(UniqueFd socket);

  [[nodiscard]] const Options& options() const { return options_; }
  // /dev/fuse, not mounted yet. Once.
  UniqueFd take_fuse_device() { return std::move(fuse_device_); }

  // Where the log goes for good: a file or /dev/kmsg, one write per line, or a socket of systemd's journal.
  // Empty if the helper has nothing to give: then standard error it is. Also finds out whose helper it is, so
  // it comes before open_device().
  UniqueFd open_log();
  // A datagram socket that is connected to systemd's, for notifier.h; empty if the helper has none to give.
  // After open_log().
  UniqueFd open_notify();
  // Pressure files with a trigger, for memory_pressure.h; none if the helper has none to give. After
  // open_log().
  std::vector<UniqueFd> open_pressure();
  // Read-write unless the options say ro; falls back to read-only media, and the mount is then read-only too.
  // Under libfuse's helper it makes its own exclusive claim, which mount() drops.
  Outcome<DeviceDescriptors> open_device(ClaimPatience patience = {});
  // The device that options().journal_path names, with the same access as the volume's: our helper's claim on
  // it, which lives as long as the descriptor. After open_device().
  Outcome<UniqueFd> open_journal();
  // The same device, without the right to write, in place of what open_device() gave: the volume demands it.
  // As make_read_only(), which it calls. Before mount().
  Outcome<DeviceDescriptors> reopen_device_read_only();
  // A further /dev/fuse that the helper bound to the mounted one; empty if it cannot. After mount() only.
  UniqueFd open_clone();

  // The mount will be read-only, whatever was asked for: the volume demands it. Before mount().
  // options().read_only stays what the user said.
  void make_read_only();
  // TYPE, NAME, MNTP, OPTS, DOIT. When it returns the kernel has queued INIT on the FUSE device; a helper
  // that sets SYNC_INIT would have it answered while this waits. Nothing may be written to the device
  // meanwhile.
  Outcome<void> mount(std::uint32_t block_size);
  // Ends the conversation and closes the socket; 0: the mount serves.
  void say_goodbye(std::uint32_t exit_code);

  // -1 after say_goodbye().
  [[nodiscard]] int fd() const { return connection_.fd(); }
  // The exclusive claim under libfuse's helper, which the sandbox must leave open; -1 if there is none.
  [[nodiscard]] int claim_fd() const { return exclusive_claim_.get(); }
  // The helper is this project's own: it holds the exclusive claim and knows the reserved names.
  [[nodiscard]] bool helper_knows_us() const { return helper_knows_us_; }

 private:
  Session(protocol::ServerEnd connection, UniqueFd fuse_device, Options options)
      : connection_(std::move(connection)),
        fuse_device_(std::move(fuse_device)),
        options_(std::move(options)) {}

  // ENOENT if the helper does not know the reserved names.
  Result<UniqueFd> open_reserved(std::string_view name);
  Result<UniqueFd> open_source(int flags);
  Result<UniqueFd> claim_source(int flags, ClaimPatience patience);
  // Words for what went wrong with `step`, as the helper's answer or as a broken connection.
  Failure failure(Errno error, std::string_view step) const;

  protocol::ServerEnd connection_;
  UniqueFd fuse_device_;
  Options options_;
  UniqueFd exclusive_claim_;  // only under libfuse's helper
  bool helper_knows_us_ = false;
};

}  // namespace fuse4fs::service
