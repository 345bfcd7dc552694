# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts what the kernel asks of a FUSE server, by opcode: exact, for any server, at no cost when it is off.

The kernel's tracepoint fuse:fuse_request_send (6.11 and later) counted by perf events, one for each opcode and
processor, filtered by the connection. FORGETs do not pass it.
"""

import ctypes
import fcntl
import os
import platform
import struct

OPCODES = {
    1: "LOOKUP", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 6: "SYMLINK", 8: "MKNOD", 9: "MKDIR", 10: "UNLINK",
    11: "RMDIR", 12: "RENAME", 13: "LINK", 14: "OPEN", 15: "READ", 16: "WRITE", 17: "STATFS", 18: "RELEASE",
    20: "FSYNC", 21: "SETXATTR", 22: "GETXATTR", 23: "LISTXATTR", 24: "REMOVEXATTR", 25: "FLUSH", 26: "INIT",
    27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 30: "FSYNCDIR", 34: "ACCESS", 35: "CREATE", 36: "INTERRUPT",
    37: "BMAP", 38: "DESTROY", 39: "IOCTL", 43: "FALLOCATE", 44: "READDIRPLUS", 45: "RENAME2", 46: "LSEEK",
    47: "COPY_FILE_RANGE", 50: "SYNCFS", 51: "TMPFILE", 52: "STATX", 53: "COPY_FILE_RANGE_64",
    4089: "FREEZE_FS", 4090: "UNFREEZE_FS", 4092: "IOMAP_CONFIG", 4093: "IOMAP_IOEND", 4094: "IOMAP_BEGIN",
    4095: "IOMAP_END",
}  # fmt: skip
SYSTEM_CALL = {"x86_64": 298, "aarch64": 241}
TYPE_TRACEPOINT = 2
ATTRIBUTE_SIZE = 112
START_DISABLED = 1
SET_FILTER, ENABLE, DISABLE = 0x40082406, 0x2400, 0x2401


class CannotCount(Exception):
    """Why there are no counts here."""


class UpcallCounter:
    """Counts from the moment it is made until stop()."""

    def __init__(self, tracing: str, connection: int) -> None:
        self._descriptors: list[tuple[int, str]] = []
        path = f"{tracing}/events/fuse/fuse_request_send/id"
        try:
            with open(path, encoding="ascii") as file:
                event = int(file.read())
        except FileNotFoundError as error:
            raise CannotCount("this kernel has no tracepoint fuse:fuse_request_send") from error
        number = SYSTEM_CALL.get(platform.machine())
        if number is None:
            raise CannotCount(f"the number of perf_event_open(2) on {platform.machine()} is not in upcalls.py")
        c_library = ctypes.CDLL(None, use_errno=True)
        attribute = struct.pack("=IIQ", TYPE_TRACEPOINT, ATTRIBUTE_SIZE, event)
        attribute += struct.pack("=QQQQ", 0, 0, 0, START_DISABLED)  # no samples: it only counts
        attribute = attribute.ljust(ATTRIBUTE_SIZE, b"\0")
        try:
            for processor in sorted(os.sched_getaffinity(0)):
                for opcode, name in OPCODES.items():
                    descriptor = c_library.syscall(number, attribute, -1, processor, -1, 0)
                    if descriptor < 0:
                        words = os.strerror(ctypes.get_errno())
                        raise CannotCount(f"perf_event_open: {words}")
                    self._descriptors.append((descriptor, name))
                    wanted = f"connection == {connection} && opcode == {opcode}"
                    fcntl.ioctl(descriptor, SET_FILTER, wanted.encode() + b"\0")
            for descriptor, _ in self._descriptors:
                fcntl.ioctl(descriptor, ENABLE, 0)
        except BaseException:
            self.close()
            raise

    def stop(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for descriptor, name in self._descriptors:
            fcntl.ioctl(descriptor, DISABLE, 0)
            (count,) = struct.unpack("=Q", os.read(descriptor, 8))
            if count:
                counts[name] = counts.get(name, 0) + count
        self.close()
        return counts

    def close(self) -> None:
        for descriptor, _ in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
