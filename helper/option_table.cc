// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/option_table.h"

#include <sys/mount.h>

#include "helper/mount_options.h"

namespace fuse4fs::helper {
namespace {

constexpr auto kNone = OptionValue::kNone;
constexpr auto kRequired = OptionValue::kRequired;
constexpr auto kOptional = OptionValue::kOptional;

constexpr unsigned long kAtime = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;

constexpr OptionRow flag(std::string_view name, unsigned long set, unsigned long clear,
                         std::string_view reason) {
  return {name, kNone, OptionUse::kFlag, set, clear, "", reason};
}
constexpr OptionRow silent(std::string_view name, OptionValue value, std::string_view reason,
                           std::string_view values = "") {
  return {name, value, OptionUse::kSilent, 0, 0, values, reason};
}
constexpr OptionRow ignored(std::string_view name, OptionValue value, std::string_view reason) {
  return {name, value, OptionUse::kIgnored, 0, 0, "", reason};
}
constexpr OptionRow refused(std::string_view name, OptionValue value, std::string_view reason) {
  return {name, value, OptionUse::kRefused, 0, 0, "", reason};
}
constexpr OptionRow refused_flag(std::string_view name, unsigned long set, unsigned long clear,
                                 std::string_view reason) {
  return {name, kNone, OptionUse::kRefused, set, clear, "", reason};
}
constexpr OptionRow server(std::string_view name, OptionValue value, std::string_view reason,
                           std::string_view values = "") {
  return {name, value, OptionUse::kServer, 0, 0, values, reason};
}
constexpr OptionRow own(std::string_view name, OptionValue value, OptionUse use, std::string_view reason,
                        std::string_view values = "") {
  return {name, value, use, 0, 0, values, reason};
}

constexpr std::string_view kNoQuota =
    "fuse4fs enforces no quota limits, and mounts volumes that count usage (feature quota) read-only";
constexpr std::string_view kNoLabels = "fuse4fs mounts have no security labels of their own";
constexpr std::string_view kNoJournalYet = "fuse4fs does not write a journal yet; leave the option out";
constexpr std::string_view kAccessTimes = "kept by the server";
constexpr std::string_view kOthersBusiness = "for mount(8), systemd and other programs";
constexpr std::string_view kHelperSets = "the helper sets it itself";
constexpr std::string_view kAllocator = "it tunes an allocator that fuse4fs does not have";
constexpr std::string_view kSmallLoop = "make the loop device with losetup(8) and mount that";
constexpr std::string_view kDirectCopy = "fuse4fs has its own ways for direct I/O";

constexpr OptionRow kTable[] = {
    // ---- of the kernel's VFS ----
    flag("ro", MS_RDONLY, 0, "read-only"),
    flag("rw", 0, MS_RDONLY, "the default"),
    flag("suid", 0, MS_NOSUID, "the default"),
    flag("nosuid", MS_NOSUID, 0, "kept by the kernel"),
    flag("dev", 0, MS_NODEV, "the default"),
    flag("nodev", MS_NODEV, 0, "kept by the kernel"),
    flag("exec", 0, MS_NOEXEC, "the default"),
    flag("noexec", MS_NOEXEC, 0, "kept by the kernel"),
    refused_flag("sync", MS_SYNCHRONOUS, 0,
                 "only the data of files would be written at once, not directories and attributes; programs "
                 "that need it call fsync(2)"),
    flag("async", 0, MS_SYNCHRONOUS, "the default"),
    refused_flag("dirsync", MS_DIRSYNC, 0,
                 "directory changes are not written at once; programs that need it call fsync(2)"),
    flag("atime", 0, MS_NOATIME, kAccessTimes),
    flag("noatime", MS_NOATIME, kAtime & ~MS_NOATIME, kAccessTimes),
    flag("diratime", 0, MS_NODIRATIME, kAccessTimes),
    flag("nodiratime", MS_NODIRATIME, 0, kAccessTimes),
    flag("relatime", MS_RELATIME, kAtime & ~MS_RELATIME, kAccessTimes),
    flag("norelatime", 0, MS_RELATIME, kAccessTimes),
    flag("strictatime", MS_STRICTATIME, kAtime & ~MS_STRICTATIME, kAccessTimes),
    flag("nostrictatime", 0, MS_STRICTATIME, kAccessTimes),
    flag("symfollow", 0, MS_NOSYMFOLLOW, "the default"),
    flag("nosymfollow", MS_NOSYMFOLLOW, 0, "kept by the kernel"),
    flag("silent", 0, 0, "the helper says only what went wrong anyway"),
    flag("loud", 0, 0, "the helper says what went wrong anyway"),
    flag("lazytime", kLazyTime, 0, "kept by the kernel where it has iomap"),
    flag("nolazytime", 0, kLazyTime, "the default"),
    refused("mand", kNone, "the kernel has no mandatory locks any more"),
    silent("nomand", kNone, "the default"),
    {"remount", kNone, OptionUse::kRemount, 0, 0, "", "changes the flags of a mount"},
    silent("defaults", kNone, "rw, suid, dev, exec, async"),
    // ---- for programs above ----
    silent("auto", kNone, kOthersBusiness),
    silent("noauto", kNone, kOthersBusiness),
    own("user", kOptional, OptionUse::kUser, kOthersBusiness),
    silent("nouser", kNone, kOthersBusiness),
    silent("users", kNone, kOthersBusiness),
    silent("nousers", kNone, kOthersBusiness),
    silent("owner", kNone, kOthersBusiness),
    silent("noowner", kNone, kOthersBusiness),
    silent("group", kNone, kOthersBusiness),
    silent("nogroup", kNone, kOthersBusiness),
    silent("_netdev", kNone, kOthersBusiness),
    own("nofail", kNone, OptionUse::kNoFail, "a source that is not there is no failure"),
    silent("comment", kRequired, kOthersBusiness),
    silent("x-*", kOptional, kOthersBusiness),
    silent("X-*", kOptional, kOthersBusiness),
    silent("uhelper", kRequired, kOthersBusiness),
    silent("helper", kRequired, kOthersBusiness),
    silent("loop", kNone, "an image file always gets a loop device"),
    refused("loop", kRequired, kSmallLoop),
    refused("offset", kRequired, kSmallLoop),
    refused("sizelimit", kRequired, kSmallLoop),
    // ---- of every FUSE mount ----
    silent("allow_other", kNone, "every mount of this helper has it"),
    silent("default_permissions", kNone, "every mount of this helper has it"),
    own("fd", kRequired, OptionUse::kKernel, kHelperSets),
    own("rootmode", kRequired, OptionUse::kKernel, kHelperSets),
    own("user_id", kRequired, OptionUse::kKernel, kHelperSets),
    own("group_id", kRequired, OptionUse::kKernel, kHelperSets),
    own("blksize", kRequired, OptionUse::kKernel, "the server names the block size"),
    own("max_read", kRequired, OptionUse::kKernel, "the server names the largest read"),
    // ---- labels ----
    refused("context", kRequired, kNoLabels),
    refused("fscontext", kRequired, kNoLabels),
    refused("defcontext", kRequired, kNoLabels),
    refused("rootcontext", kRequired, kNoLabels),
    silent("seclabel", kNone, "what the kernel prints, repeated by mount(8)"),
    // ---- of ext4(5): heeded by the server ----
    server("errors", kRequired, "what happens when the volume is found damaged", "continue|remount-ro|panic"),
    server("noload", kNone, "the journal is not replayed"),
    server("norecovery", kNone, "the journal is not replayed"),
    server("debug", kNone, "the server logs each request that fails"),
    // ---- of ext4(5): attributes ----
    silent("acl", kNone, "always so, unless noacl"),
    server("noacl", kNone, "access control lists are neither evaluated nor shown"),
    silent("user_xattr", kNone, "always so"),
    refused("nouser_xattr", kNone, "extended attributes are always served, as by the kernel's ext4 of today"),
    silent("bsddf", kNone, "always so"),
    refused("minixdf", kNone, "free space is always counted without the volume's own structures"),
    silent("nogrpid", kNone, "always so"),
    silent("sysvgroups", kNone, "always so"),
    refused("grpid", kNone, "new files take the group of their creator; set the directory's setgid bit"),
    refused("bsdgroups", kNone, "new files take the group of their creator; set the directory's setgid bit"),
    silent("resuid", kRequired, "what the volume says", "0"),
    refused("resuid", kRequired, "who may use reserved blocks is what the volume says; see tune2fs -u"),
    silent("resgid", kRequired, "what the volume says", "0"),
    refused("resgid", kRequired, "who may use reserved blocks is what the volume says; see tune2fs -g"),
    refused("sb", kRequired, "only the primary superblock is used; repair the volume with e2fsck -b"),
    silent("i_version", kNone, "always so"),
    refused("max_dir_size_kb", kRequired, "fuse4fs does not limit directories"),
    silent("nouid32", kNone, "user numbers always have 32 bits"),
    silent("block_validity", kNone, "every block is always checked"),
    ignored("noblock_validity", kNone, "every block is always checked"),
    // ---- of ext4(5): journal ----
    silent("data", kRequired, "what is done", "writeback"),
    refused("data", kRequired, "fuse4fs does not write a journal yet; only data=writeback is offered"),
    silent("barrier", kOptional, "always so", "1"),
    refused("barrier", kRequired, "flushes to the device are never left out"),
    refused("nobarrier", kNone, "flushes to the device are never left out"),
    server("commit", kRequired, "how many seconds metadata may wait to be written"),
    refused("journal_dev", kRequired, "device numbers change; name the journal's device with journal_path="),
    own("journal_path", kRequired, OptionUse::kJournalPath, "the device that the volume's journal is on"),
    refused("journal_async_commit", kNone, kNoJournalYet),
    ignored("journal_checksum", kNone, "the volume says how its journal is checksummed"),
    ignored("nojournal_checksum", kNone, "the volume says how its journal is checksummed"),
    ignored("journal_ioprio", kRequired, "the server is one process with one priority"),
    silent("data_err", kRequired, "what is done", "ignore"),
    refused("data_err", kRequired, kNoJournalYet),
    // ---- of ext4(5): quota ----
    silent("noquota", kNone, "limits are never enforced"),
    refused("quota", kNone, kNoQuota),
    refused("usrquota", kOptional, kNoQuota),
    refused("grpquota", kOptional, kNoQuota),
    refused("prjquota", kOptional, kNoQuota),
    refused("usrjquota", kOptional, kNoQuota),
    refused("grpjquota", kOptional, kNoQuota),
    refused("jqfmt", kRequired, kNoQuota),
    // ---- of ext4(5): speed ----
    ignored("delalloc", kNone, "the kernel's write-back cache delays writes by itself"),
    silent("nodelalloc", kNone, "always so"),
    server("discard", kNone, "the device is told what was freed"),
    server("nodiscard", kNone, "fstrim(8) tells it; the default"),
    ignored("stripe", kRequired, kAllocator),
    ignored("inode_readahead_blks", kRequired, kAllocator),
    ignored("mb_optimize_scan", kRequired, kAllocator),
    ignored("orlov", kNone, kAllocator),
    ignored("oldalloc", kNone, kAllocator),
    server("init_itable", kOptional, "pauses of so many times the work; the default is 10"),
    server("noinit_itable", kNone, "what mke2fs left of inode tables stays as it is"),
    ignored("dioread_lock", kNone, kDirectCopy),
    ignored("dioread_nolock", kNone, kDirectCopy),
    ignored("nodioread_nolock", kNone, kDirectCopy),
    ignored("auto_da_alloc", kNone,
            "close(2) hands all data to the server, so that nothing is left to be delayed"),
    ignored("noauto_da_alloc", kNone,
            "close(2) hands all data to the server, so that nothing is left to be delayed"),
    ignored("max_batch_time", kRequired, "flushes of several programs are joined by themselves"),
    ignored("min_batch_time", kRequired, "flushes of several programs are joined by themselves"),
    ignored("mbcache", kNone, "the server keeps its own cache"),
    ignored("nombcache", kNone, "the server keeps its own cache"),
    ignored("no_mbcache", kNone, "the server keeps its own cache"),
    ignored("prefetch_block_bitmaps", kNone, "a group's bitmap is read when it is first needed"),
    ignored("no_prefetch_block_bitmaps", kNone, "a group's bitmap is read when it is first needed"),
    ignored("bh", kNone, "of ext3, without a meaning today"),
    ignored("nobh", kNone, "of ext3, without a meaning today"),
    ignored("nocheck", kNone, "of ext2, without a meaning today"),
    silent("check", kRequired, "of ext2, without a meaning today", "none"),
    silent("nowarn_on_error", kNone, "always so"),
    refused("warn_on_error", kNone, "for those who test the kernel's ext4"),
    silent("dax", kRequired, "always so", "never"),
    refused("dax", kOptional, "FUSE cannot map the memory of the device"),
    refused("abort", kNone, "for those who test the kernel's ext4; see mount.fuse4fs --abort"),
    refused("debug_want_extra_isize", kRequired, "for those who test the kernel's ext4"),
    refused("test_dummy_encryption", kOptional, "fuse4fs has no keys for encrypted files"),
    refused("inlinecrypt", kNone, "fuse4fs has no keys for encrypted files"),
    // ---- of this project ----
    server("threads", kRequired, "how many requests are served at a time, 1 to 64"),
    server("cache_size", kRequired, "the memory for cached metadata, 4m to 512m"),
    server("idmap", kNone,
           "copies of the mount may translate user and group ids (mount_setattr(2)); FITRIM, SETFSLABEL and "
           "SHUTDOWN are then refused to everybody, for the kernel no longer says who asks"),
    own("log", kRequired, OptionUse::kLog, "the file that the server's log goes to"),
    own("bdi", kRequired, OptionUse::kBdi, "whether the write-back limits of the mount are raised",
        "keep|tune"),
    own("service", kRequired, OptionUse::kService, "the socket of the service that is to serve"),
    own("standalone", kNone, OptionUse::kStandalone, "a server without systemd, whatever sockets there are"),
    own("start-timeout", kRequired, OptionUse::kStartTimeout, "the seconds that the start may take"),
    own("trusted-service", kNone, OptionUse::kTrustedService, "a service that may open paths of its own"),
    own("iomap", kNone, OptionUse::kIomap, "no mount, unless the kernel can do file I/O by itself"),
    own("noiomap", kNone, OptionUse::kIomap, "all file I/O goes through the server, whatever the kernel can"),
};

bool name_fits(std::string_view row, std::string_view name) {
  if (!row.ends_with('*')) return row == name;
  row.remove_suffix(1);
  return name.size() > row.size() && name.starts_with(row);
}

bool value_form_fits(OptionValue form, bool has_value) {
  return form == OptionValue::kOptional || (form == OptionValue::kRequired) == has_value;
}

}  // namespace

std::span<const OptionRow> option_table() { return kTable; }

bool is_one_of(std::string_view value, std::string_view values) {
  while (!values.empty()) {
    const auto bar = values.find('|');
    if (value == values.substr(0, bar)) return true;
    if (bar == std::string_view::npos) break;
    values.remove_prefix(bar + 1);
  }
  return false;
}

const OptionRow* find_option(std::string_view name, bool has_value, std::string_view value) {
  const OptionRow* second_best = nullptr;
  for (const OptionRow& row : kTable) {
    if (!name_fits(row.name, name)) continue;
    const bool value_fits = !has_value || row.values.empty() || is_one_of(value, row.values);
    if (value_form_fits(row.value, has_value) && value_fits) return &row;
    second_best = &row;
  }
  return second_best;
}

}  // namespace fuse4fs::helper
