// SPDX-License-Identifier: GPL-2.0-or-later
// What shall be mounted, where and how: another device, another place, more rights than the user gave.
#include <sys/mount.h>

#include "tests/hostile/rogue/talk.h"

namespace fuse4fs::rogue {
namespace {

namespace message = protocol;

Verdict source(Place& place, std::string name) {
  return ask(place, message::Command(message::SetSource{std::move(name)}));
}
Verdict target(Place& place, std::string path) {
  return ask(place,
             message::Command(message::SetMountPoint{std::move(path), message::MountPointType::kDirectory}));
}
Verdict options(Place& place, std::string list) {
  return ask(place, message::Command(message::SetMountOptions{std::move(list)}));
}
template <unsigned long kFlag>
Verdict with_flag(Place& place) {
  return mount_it(place, {.flags = static_cast<std::uint32_t>(kFlag)});
}
Verdict iomap(Place& place, message::IomapNeed need) {
  return ask(place, message::Command(message::RequestIomap{need}));
}
// `again` after `first` was accepted.
Verdict twice(Place& place, const message::Command& first, const message::Command& again) {
  if (auto verdict = ask(place, first); verdict.kind != Verdict::Kind::kSucceeded) return verdict;
  return ask(place, again);
}

constexpr auto kCommandLine = behind("the helper: its own command line counts");
constexpr auto kBlessing =
    behind("the helper: given or withheld before the server is heard, and CAP_SYS_RAWIO with it");
constexpr auto kListed = behind("the helper: options from a list, each of which takes something away");

constexpr Attempt kTable[] = {
    {"name_other_disk", "NAME of another disk", [](Place& place) { return source(place, "/dev/sda"); },
     Expected::kRefused, kCommandLine},
    {"name_file", "NAME of a file", [](Place& place) { return source(place, "/etc/passwd"); },
     Expected::kRefused, kCommandLine},
    {"name_same_device_otherwise", "NAME of the device by another path",
     [](Place& place) { return source(place, "/dev/../dev/" + place.options->source.substr(5)); },
     Expected::kRefused, kCommandLine},
    {"name_twice", "NAME twice",
     [](Place& place) {
       return twice(place, message::SetSource{place.options->source},
                    message::SetSource{place.options->source});
     },
     Expected::kRefused, kCommandLine},
    {"mount_on_etc", "MNTP /etc", [](Place& place) { return target(place, "/etc"); }, Expected::kRefused,
     kCommandLine},
    {"mount_on_root", "MNTP /", [](Place& place) { return target(place, "/"); }, Expected::kRefused,
     kCommandLine},
    {"mount_above", "MNTP with /.. behind the mount point",
     [](Place& place) { return target(place, place.options->mount_point + "/.."); }, Expected::kRefused,
     kCommandLine},
    {"mount_relative", "MNTP of a relative path", [](Place& place) { return target(place, "."); },
     Expected::kRefused, kCommandLine},
    {"mount_on_file", "MNTP as a regular file",
     [](Place& place) {
       return ask(place, message::Command(message::SetMountPoint{place.options->mount_point,
                                                                 message::MountPointType::kRegularFile}));
     },
     Expected::kRefused, kCommandLine},
    {"mount_point_twice", "MNTP twice",
     [](Place& place) {
       const message::SetMountPoint here{place.options->mount_point, message::MountPointType::kDirectory};
       return twice(place, here, here);
     },
     Expected::kRefused, kCommandLine},
    {"type_plain_fuse", "TYPE fuse, which no umount flushes and no device claims",
     [](Place& place) { return ask(place, message::Command(message::OpenFsContext{.fuseblk = false})); },
     Expected::kRefused, behind("the helper: fuseblk or nothing")},
    {"type_twice", "TYPE twice",
     [](Place& place) {
       return twice(place, message::OpenFsContext{.fuseblk = true}, message::OpenFsContext{.fuseblk = true});
     },
     Expected::kRefused, kCommandLine},
    {"options_suid", "OPTS suid", [](Place& place) { return options(place, "suid"); }, Expected::kRefused,
     kListed, "nosuid,nodev"},
    {"options_dev", "OPTS dev", [](Place& place) { return options(place, "dev"); }, Expected::kRefused,
     kListed, "nosuid,nodev"},
    {"options_exec", "OPTS exec", [](Place& place) { return options(place, "exec"); }, Expected::kRefused,
     kListed, "noexec"},
    {"options_descriptor", "OPTS with another descriptor (fd=0)",
     [](Place& place) { return options(place, "fd=0"); }, Expected::kRefused, kListed},
    {"options_owner", "OPTS user_id=1000,group_id=1000",
     [](Place& place) { return options(place, "user_id=1000,group_id=1000"); }, Expected::kRefused, kListed},
    {"options_root_mode", "OPTS rootmode=100000: the root is a file",
     [](Place& place) { return options(place, "rootmode=100000"); }, Expected::kRefused, kListed},
    {"options_source", "OPTS source=/dev/sda", [](Place& place) { return options(place, "source=/dev/sda"); },
     Expected::kRefused, kListed},
    {"options_subtype", "OPTS subtype=ext4", [](Place& place) { return options(place, "subtype=ext4"); },
     Expected::kRefused, kListed},
    {"options_context", "OPTS with a security label",
     [](Place& place) { return options(place, "context=system_u:object_r:bin_t:s0"); }, Expected::kRefused,
     kListed},
    {"options_allow_root", "OPTS allow_root", [](Place& place) { return options(place, "allow_root"); },
     Expected::kRefused, kListed},
    {"options_behind_comma", "OPTS blksize=4096,suid",
     [](Place& place) { return options(place, "blksize=4096,suid"); }, Expected::kRefused, kListed},
    {"options_in_quotes", "OPTS \"blksize=4096,suid\" in quotes",
     [](Place& place) { return options(place, "\"blksize=4096,suid\""); }, Expected::kRefused, kListed},
    {"options_escaped_comma", "OPTS with an escaped comma",
     [](Place& place) { return options(place, "blksize=4096\\,dev"); }, Expected::kRefused, kListed},
    {"options_value_on_flag", "OPTS allow_other=1",
     [](Place& place) { return options(place, "allow_other=1"); }, Expected::kRefused, kListed},
    {"options_newline", "OPTS with a line break", [](Place& place) { return options(place, "ro\ndev"); },
     Expected::kRefused, kListed},
    {"options_block_size_odd", "OPTS blksize=3", [](Place& place) { return options(place, "blksize=3"); },
     Expected::kRefused, kListed},
    {"options_block_size_negative", "OPTS blksize=-1",
     [](Place& place) { return options(place, "blksize=-1"); }, Expected::kRefused, kListed},
    {"options_block_size_overflow", "OPTS blksize=4294971392 (4096 above 32 bits)",
     [](Place& place) { return options(place, "blksize=4294971392"); }, Expected::kRefused, kListed},
    {"options_max_read_zero", "OPTS max_read=0", [](Place& place) { return options(place, "max_read=0"); },
     Expected::kRefused, kListed},
    {"options_twice", "OPTS twice",
     [](Place& place) {
       return twice(place, message::SetMountOptions{"blksize=4096"}, message::SetMountOptions{"blksize=512"});
     },
     Expected::kRefused, kCommandLine},
    {"options_root_node", "OPTS root_nodeid=2: another inode as the root",
     [](Place& place) { return options(place, "root_nodeid=2"); }, Expected::kRefused, kListed},
    {"iomap_mandatory", "IOMA, mandatory",
     [](Place& place) { return iomap(place, message::IomapNeed::kMandatory); }, Expected::kRefused,
     kBlessing},
    {"iomap_user_refused", "IOMA, optional, which the user refused",
     [](Place& place) { return iomap(place, message::IomapNeed::kOptional); }, Expected::kRefused, kBlessing,
     "noiomap"},
    {"iomap_after_mount", "IOMA once it is mounted",
     [](Place& place) {
       if (auto verdict = mount_it(place); verdict.kind != Verdict::Kind::kSucceeded) return verdict;
       return iomap(place, message::IomapNeed::kOptional);
     },
     Expected::kRefused, kBlessing, "noiomap"},
    {"flag_remount", "DOIT with MS_REMOUNT", with_flag<MS_REMOUNT>, Expected::kRefused, kListed},
    {"flag_bind", "DOIT with MS_BIND", with_flag<MS_BIND>, Expected::kRefused, kListed},
    {"flag_move", "DOIT with MS_MOVE", with_flag<MS_MOVE>, Expected::kRefused, kListed},
    {"flag_shared", "DOIT with MS_SHARED", with_flag<MS_SHARED>, Expected::kRefused, kListed},
    {"flag_mandatory_locks", "DOIT with MS_MANDLOCK", with_flag<MS_MANDLOCK>, Expected::kRefused, kListed},
    {"flag_unknown", "DOIT with a flag that does not exist", with_flag<1UL << 31>, Expected::kRefused,
     kListed},
    {"mount_nothing", "DOIT without NAME and MNTP",
     [](Place& place) { return ask(place, message::Command(message::Mount{})); }, Expected::kRefused,
     kCommandLine},
    {"mount_without_source", "DOIT without NAME",
     [](Place& place) {
       return twice(place,
                    message::SetMountPoint{place.options->mount_point, message::MountPointType::kDirectory},
                    message::Mount{});
     },
     Expected::kRefused, kCommandLine},
};

}  // namespace

constinit const Theme kHelperMounts{"What the helper shall mount", kTable};

}  // namespace fuse4fs::rogue
