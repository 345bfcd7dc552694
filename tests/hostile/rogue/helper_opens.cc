// SPDX-License-Identifier: GPL-2.0-or-later
// Descriptors that the helper, which is root, shall open for it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/hostile/rogue/talk.h"

namespace fuse4fs::rogue {
namespace {

constexpr auto kOwnDeviceOnly = behind("the helper: the device of its command line and reserved names only");

std::string directory_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

constexpr Attempt kTable[] = {
    {"helper_open_shadow", "OPEN /etc/shadow",
     [](Place& place) { return ask_open(place, "/etc/shadow", O_RDONLY); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_open_shadow_path", "OPEN /etc/shadow with O_PATH",
     [](Place& place) { return ask_open(place, "/etc/shadow", O_PATH); }, Expected::kRefused, kOwnDeviceOnly},
    {"helper_write_passwd", "OPEN /etc/passwd for writing",
     [](Place& place) { return ask_open(place, "/etc/passwd", O_RDWR | O_APPEND); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_create_file", "OPEN with O_CREAT in /etc/cron.d",
     [](Place& place) { return ask_open(place, "/etc/cron.d/rogue", O_CREAT | O_RDWR); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_open_relative", "OPEN a relative path",
     [](Place& place) { return ask_open(place, "etc/shadow", O_RDONLY); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_open_above", "OPEN ../../etc/shadow",
     [](Place& place) { return ask_open(place, "../../../../etc/shadow", O_RDONLY); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_open_through_source", "OPEN the device with /../../etc/shadow behind it",
     [](Place& place) { return ask_open(place, place.options->source + "/../../etc/shadow", O_RDONLY); },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_open_memory", "OPEN /dev/mem", [](Place& place) { return ask_open(place, "/dev/mem", O_RDWR); },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_open_own_memory", "OPEN the helper's own /proc/self/mem",
     [](Place& place) { return ask_open(place, "/proc/self/mem", O_RDWR); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_open_own_descriptor", "OPEN the helper's /proc/self/fd/0",
     [](Place& place) { return ask_open(place, "/proc/self/fd/0", O_RDWR); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_open_fuse", "OPEN another /dev/fuse",
     [](Place& place) { return ask_open(place, "/dev/fuse", O_RDWR); }, Expected::kRefused, kOwnDeviceOnly},
    {"helper_open_loop_control", "OPEN /dev/loop-control",
     [](Place& place) { return ask_open(place, "/dev/loop-control", O_RDWR); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_open_kmsg", "OPEN /dev/kmsg for reading",
     [](Place& place) { return ask_open(place, "/dev/kmsg", O_RDONLY); }, Expected::kRefused, kOwnDeviceOnly},
    {"helper_open_terminal", "OPEN /dev/tty",
     [](Place& place) { return ask_open(place, "/dev/tty", O_RDWR); }, Expected::kRefused, kOwnDeviceOnly},
    {"helper_open_mount_point", "OPEN the directory of the mount",
     [](Place& place) { return ask_open(place, place.options->mount_point, O_RDONLY | O_DIRECTORY); },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_open_neighbour", "OPEN a file beside the mount point",
     [](Place& place) {
       return ask_open(place, directory_of(place.options->mount_point) + "/image", O_RDWR);
     },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_open_disk", "BDEV of another disk",
     [](Place& place) { return ask_device(place, "/dev/sda", O_RDWR); }, Expected::kRefused, kOwnDeviceOnly},
    {"helper_open_other_loop", "BDEV of another loop device",
     [](Place& place) { return ask_device(place, place.options->source + "0", O_RDWR); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_device_other_name", "BDEV of its device under another name (/dev/./…)",
     [](Place& place) { return ask_device(place, "/dev/./" + place.options->source.substr(5), O_RDWR); },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_device_double_slash", "BDEV of its device with a second slash",
     [](Place& place) { return ask_device(place, "/" + place.options->source, O_RDWR); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_device_trailing_slash", "BDEV of its device with a slash behind it",
     [](Place& place) { return ask_device(place, place.options->source + "/", O_RDWR); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_device_by_number", "BDEV of its device by /dev/block",
     [](Place& place) { return ask_device(place, "/dev/block/7:0", O_RDWR); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_device_writable", "BDEV for writing where the mount is read-only",
     [](Place& place) { return ask_device(place, place.options->source, O_RDWR); }, Expected::kRefused,
     behind("the helper: reading only, as the user asked"), "ro"},
    {"helper_device_write_only", "BDEV with O_WRONLY where the mount is read-only",
     [](Place& place) { return ask_device(place, place.options->source, O_WRONLY); }, Expected::kRefused,
     behind("the helper: reading only, as the user asked"), "ro"},
    {"helper_device_mode_3", "BDEV with access mode 3, which gives ioctl without reading or writing",
     [](Place& place) { return ask_device(place, place.options->source, O_ACCMODE); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_device_truncate", "BDEV with O_TRUNC",
     [](Place& place) { return ask_device(place, place.options->source, O_RDWR | O_TRUNC); },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_device_temporary", "BDEV with O_TMPFILE",
     [](Place& place) { return ask_device(place, place.options->source, O_RDWR | O_TMPFILE); },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_device_asynchronous", "BDEV with O_ASYNC, O_NOATIME and O_SYNC",
     [](Place& place) {
       return ask_device(place, place.options->source, O_RDWR | O_ASYNC | O_NOATIME | O_SYNC);
     },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_block_size_odd", "BDEV with a block size of 3",
     [](Place& place) { return ask_device(place, place.options->source, O_RDWR, 3); }, Expected::kRefused,
     behind("the helper: powers of two from 512 to a page")},
    {"helper_block_size_huge", "BDEV with a block size of 4 GiB",
     [](Place& place) { return ask_device(place, place.options->source, O_RDWR, 0xffffffff); },
     Expected::kRefused, behind("the helper: powers of two from 512 to a page")},
    {"helper_block_size_of_disk", "BDEV that sets another disk's block size",
     [](Place& place) { return ask_device(place, "/dev/sda", O_RDWR, 512); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_reserved_with_tail", "OPEN fuse4fs:journal/../../etc/shadow",
     [](Place& place) { return ask_open(place, "fuse4fs:journal/../../etc/shadow", O_RDONLY); },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_reserved_unknown", "OPEN a reserved name that does not exist",
     [](Place& place) { return ask_open(place, "fuse4fs:root", O_RDONLY); }, Expected::kRefused,
     kOwnDeviceOnly},
    {"helper_clone_too_early", "OPEN a clone of /dev/fuse before the mount",
     [](Place& place) { return ask_open(place, std::string(protocol::kCloneName), O_RDWR); },
     Expected::kRefused, behind("the kernel: nothing to bind to")},
    {"helper_pressure_without_end",
     "ask for pressure files, open for reading as well, until there are no more",
     [](Place& place) {
       for (int i = 0; i < 100; ++i)
         if (const auto verdict = ask_open(place, std::string(protocol::kPsiName), O_RDWR);
             verdict.kind != Verdict::Kind::kSucceeded)
           return verdict;
       return succeeded("a hundred of them");
     },
     Expected::kRefused, behind("the helper: the machine's and the server's own group's, once each")},
    {"helper_log_for_reading", "OPEN the log by its file's name, for reading",
     [](Place& place) {
       return ask_open(place, directory_of(place.options->mount_point) + "/record", O_RDONLY);
     },
     Expected::kRefused, kOwnDeviceOnly},
    {"helper_descriptors_without_end", "ask for its device until descriptors run out",
     [](Place& place) {
       for (int i = 0; i < 100'000; ++i)
         if (const auto verdict = ask_device(place, place.options->source, O_RDONLY);
             verdict.kind != Verdict::Kind::kSucceeded || verdict.words != "a descriptor")
           return verdict.kind == Verdict::Kind::kSucceeded ? refused_with(EMFILE) : verdict;
       return succeeded("100,000 descriptors");
     },
     Expected::kRefused, behind("RLIMIT_NOFILE: the kernel drops what it sends; the helper counts commands")},
};

}  // namespace

constinit const Theme kHelperOpens{"Descriptors from the helper", kTable};

}  // namespace fuse4fs::rogue
