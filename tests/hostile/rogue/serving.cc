// SPDX-License-Identifier: GPL-2.0-or-later
// What it does once it is mounted: to the kernel, to the helper that is still there, and to whoever uses the
// mount.
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "protocol/descriptor_packet.h"
#include "tests/hostile/rogue/mount_server.h"
#include "tests/hostile/rogue/outside.h"
#include "tests/hostile/rogue/talk.h"

namespace fuse4fs::rogue {
namespace {

// Mounts, answers INIT, sends the helper home and serves until the end, or until `server` has enough.
Verdict serve(Place& place, MountServer server, const MountWords& words = {}) {
  if (auto verdict = mount_it(place, words); verdict.kind != Verdict::Kind::kSucceeded) return verdict;
  if (!server.answer_init()) return by_errno(-1);
  if (!send_only(place, protocol::encode(protocol::Command(protocol::Goodbye{.exit_code = 0}))))
    return by_errno(-1);
  return server.run();
}

// Mounted; `deed` does something to the helper, and its answer counts.
template <class Deed>
Verdict mounted(Place& place, Deed deed) {
  if (auto verdict = mount_it(place); verdict.kind != Verdict::Kind::kSucceeded) return verdict;
  MountServer server(place);
  if (!server.answer_init()) return by_errno(-1);
  return deed(server);
}

constexpr auto kOwnMount = behind("its own mount is all that it harms");

// What a notification makes the kernel do is done to this mount's own inodes.
template <class Body>
Verdict notify(Place& place, int code, const Body& body) {
  return mounted(place, [&](MountServer& server) {
    return by_errno(server.notify(code, &body, sizeof body) ? 0 : -1, "something in its own mount's cache");
  });
}

constexpr Attempt kTable[] = {
    {"hang_on_syncfs", "never answer SYNCFS: syncfs(2) of the mount, and sync(2) of the machine, wait",
     [](Place& place) {
       MountServer server(place);
       server.hang_on(FUSE_SYNCFS);
       return serve(place, std::move(server));
     },
     Expected::kAllowed, behind("the watchdog ends it (service), and mount.fuse4fs --abort (both)"), "",
     outside::syncfs_hangs_until_abort},
    {"hang_on_everything", "never answer anything",
     [](Place& place) {
       MountServer server(place);
       server.hang_on(FUSE_GETATTR);
       server.hang_on(FUSE_STATFS);
       server.hang_on(FUSE_LOOKUP);
       return serve(place, std::move(server));
     },
     Expected::kAllowed, behind("whoever uses the mount waits until its end, or mount.fuse4fs --abort"), "",
     outside::statfs_hangs_until_abort},
    {"serve_set_user_id_root", "serve a program with set-user-id root, under nosuid",
     [](Place& place) { return serve(place, MountServer(place), {.options = "blksize=4096,allow_other"}); },
     Expected::kErrno, behind("the kernel: the mount's flags are the user's"), "nosuid,nodev,noexec",
     outside::keeps_nosuid_nodev_noexec},
    {"serve_device_node", "serve a node of the first disk, under nodev",
     [](Place& place) { return serve(place, MountServer(place)); }, Expected::kErrno,
     behind("the kernel: the mount's flags are the user's"), "nosuid,nodev,noexec",
     outside::device_node_does_not_open},
    {"writable_under_ro", "answer the mount as writable where the user asked for reading",
     [](Place& place) { return serve(place, MountServer(place)); }, Expected::kErrno,
     behind("the kernel: the mount's flags are the user's"), "ro", outside::cannot_be_written},
    {"init_nonsense", "answer INIT with every flag and number at its largest",
     [](Place& place) {
       MountServer server(place);
       server.wild_init();
       return serve(place, std::move(server));
     },
     Expected::kAllowed, behind("the kernel bounds what it takes; its own mount is all that it harms"), "",
     outside::mount_ends},
    {"systemd_main_process",
     "tell systemd that its main process is another one (MAINPID=1), and to keep descriptors",
     [](Place& place) {
       for (const std::string& words :
            {std::string("MAINPID=1"), std::string("FDSTORE=1\nFDNAME=rogue"),
             std::string("BUSERROR=x\nERRNO=5"), std::string("STATUS=") + outside::kLastWords})
         if (place.notify >= 0) (void)!::send(place.notify, words.data(), words.size(), MSG_NOSIGNAL);
       return serve(place, MountServer(place));
     },
     Expected::kErrno, behind("systemd: a process of the unit's own only; no descriptors can be sent"), "",
     outside::main_process_stays},
    {"systemd_flood", "flood systemd with words",
     [](Place& place) {
       // The socket does not block: what systemd does not read in time is lost.
       for (int i = 0; i < 100'000; ++i)
         if (place.notify >= 0) (void)!::send(place.notify, "STATUS=x", 8, MSG_NOSIGNAL);
       return succeeded("systemd reads what it can");
     },
     Expected::kAllowed, behind("the socket's queue: what does not fit is lost; standalone there is none")},
    {"systemd_elsewhere", "turn systemd's socket to another address (connect)",
     [](Place& place) {
       sockaddr_un address{};
       address.sun_family = AF_UNIX;
       std::strcpy(address.sun_path, "/run/systemd/private");
       return by_errno(::connect(place.notify, reinterpret_cast<const sockaddr*>(&address), sizeof address));
     },
     Expected::kKilled, behind("a root without such a name; unit: the same filter")},
    {"systemd_send_to", "send to another address by systemd's socket (sendto)",
     [](Place& place) {
       sockaddr_un address{};
       address.sun_family = AF_UNIX;
       std::strcpy(address.sun_path, "/run/systemd/private");
       return by_errno(::sendto(place.notify, "x", 1, MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&address), sizeof address));
     },
     Expected::kKilled, behind("a root without such a name")},
    {"systemd_descriptor", "have systemd keep a descriptor (FDSTORE=1 with SCM_RIGHTS)",
     [](Place& place) {
       constexpr std::string_view kWords = "FDSTORE=1";
       return by_errno(protocol::send_with_descriptors(place.notify, std::as_bytes(std::span(kWords)),
                                                       {&place.log, 1}, MSG_NOSIGNAL));
     },
     Expected::kKilled, behind("unit: FileDescriptorStoreMax= is 0, and the unit's own filter")},
    {"answer_unknown_request", "answer a request that nobody made",
     [](Place& place) {
       return mounted(place, [](MountServer& server) {
         return by_errno(server.answer(0xdeadbeef, 0, nullptr, 0) ? 0 : -1);
       });
     },
     Expected::kErrno, behind("the kernel: no such request")},
    {"answer_wrong_length", "answer with a length that is not the answer's",
     [](Place& place) {
       return mounted(place, [&](MountServer&) {
         const fuse_out_header header{.len = 4096, .error = 0, .unique = 2};
         return by_errno(::write(place.fuse, &header, sizeof header));
       });
     },
     Expected::kErrno, behind("the kernel: lengths must agree")},
    {"answer_positive_error", "answer with an error that is none",
     [](Place& place) {
       return mounted(place, [&](MountServer&) {
         const fuse_out_header header{.len = sizeof header, .error = 5, .unique = 2};
         return by_errno(::write(place.fuse, &header, sizeof header));
       });
     },
     Expected::kErrno, behind("the kernel: errors have a range")},
    {"notify_unknown", "a notification of an unknown kind",
     [](Place& place) { return notify(place, 99, std::uint64_t{0}); }, Expected::kErrno,
     behind("the kernel: no such notification")},
    {"notify_foreign_inode", "store data into the page cache of an inode that is not its own",
     [](Place& place) {
       struct {
         fuse_notify_store_out store;
         char data[8];
       } body{{.nodeid = 2, .offset = 0, .size = 8, .padding = 0}, "rogue"};
       return notify(place, FUSE_NOTIFY_STORE, body);
     },
     Expected::kErrno, behind("the kernel: inodes of this mount only")},
    {"notify_foreign_name", "have the kernel forget a name elsewhere",
     [](Place& place) {
       struct {
         fuse_notify_inval_entry_out entry;
         char name[8];
       } body{{.parent = 2, .namelen = 7, .flags = 0}, "fstab12"};
       return notify(place, FUSE_NOTIFY_INVAL_ENTRY, body);
     },
     Expected::kErrno, behind("the kernel: inodes of this mount only")},
    {"mount_again", "DOIT a second time, for a second mount",
     [](Place& place) {
       return mounted(place, [&](MountServer&) { return ask(place, protocol::Command(protocol::Mount{})); });
     },
     Expected::kRefused, behind("the helper mounts once")},
    {"options_after_mount", "OPTS, NAME and MNTP after the mount",
     [](Place& place) {
       return mounted(place, [&](MountServer&) {
         return ask(place, protocol::Command(protocol::SetMountOptions{"blksize=512"}));
       });
     },
     Expected::kRefused, behind("the helper mounts once")},
    {"block_size_after_mount", "BDEV that changes the block size under the mount",
     [](Place& place) {
       return mounted(place,
                      [&](MountServer&) { return ask_device(place, place.options->source, O_RDWR, 512); });
     },
     Expected::kRefused, behind("the kernel: the mounted device is claimed")},
    {"claim_after_mount", "BDEV with O_EXCL after the mount, to keep the device from others for ever",
     [](Place& place) {
       return mounted(place, [&](MountServer&) {
         auto verdict = ask_device(place, place.options->source, O_RDONLY | O_EXCL);
         // Our helper grants the device as ever, without the claim: nothing is gained.
         return verdict.kind == Verdict::Kind::kSucceeded ? refused_with(EBUSY) : verdict;
       });
     },
     Expected::kRefused, behind("the helper leaves O_EXCL out")},
    {"clones_without_end", "clones of /dev/fuse without end",
     [](Place& place) {
       return mounted(place, [&](MountServer&) {
         for (int i = 0; i < 10'000; ++i)
           if (auto verdict = ask_open(place, std::string(protocol::kCloneName), O_RDWR);
               verdict.kind != Verdict::Kind::kSucceeded || verdict.words != "a descriptor")
             return verdict.kind == Verdict::Kind::kSucceeded ? refused_with(EMFILE) : verdict;
         return succeeded("10,000 clones");
       });
     },
     Expected::kRefused, behind("the helper: 64 of them; RLIMIT_NOFILE")},
    {"shadow_after_mount", "OPEN /etc/shadow after the mount",
     [](Place& place) {
       return mounted(place, [&](MountServer&) { return ask_open(place, "/etc/shadow", O_RDONLY); });
     },
     Expected::kRefused, behind("the helper: as before the mount")},
    {"vanish_after_mount", "end after the mount without a goodbye",
     [](Place& place) {
       return mounted(place, [&](MountServer&) {
         ::close(place.socket);
         return conversation_ended();
       });
     },
     Expected::kEnded, behind("the helper takes the mount away again")},
    {"give_up_after_mount", "say after the mount that there is none",
     [](Place& place) {
       return mounted(place, [&](MountServer&) {
         if (!send_only(place, protocol::encode(protocol::Command(protocol::Goodbye{.exit_code = 1}))))
           return by_errno(-1);
         return wait_for_end(place);
       });
     },
     Expected::kEnded, behind("the helper takes the mount away again")},
};

}  // namespace

constinit const Theme kServing{"Once it is mounted", kTable};

}  // namespace fuse4fs::rogue
