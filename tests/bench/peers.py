# SPDX-License-Identifier: GPL-2.0-or-later
"""What is compared: how each peer mounts, who serves it, and when it is really gone after umount."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field

import measuring
from measuring import RowError

UMOUNT_LIMIT = 180.0  # seconds, for umount(8) and the server's last writes


@dataclass
class Peer:
    name: str
    command: list[str]  # with {device} and {mountpoint}
    version: str
    in_kernel: bool = False  # nobody to ask
    log: str = ""  # where its server writes

    def mount_command(self, device: str, mountpoint: str) -> list[str]:
        return [word.replace("{device}", device).replace("{mountpoint}", mountpoint) for word in self.command]


def words_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stdout + done.stderr).strip()


def ext4() -> Peer:
    return Peer("ext4", ["mount", "-t", "ext4", "{device}", "{mountpoint}"], f"kernel {os.uname().release}", in_kernel=True)


def fuse4fs(build: str, log: str) -> Peer:
    helper = f"{build}/sbin/mount.fuse4fs"
    if not os.access(helper, os.X_OK):
        raise RowError(f"{helper} is not there; build it: cmake --preset release && cmake --build --preset release")
    commit = words_of("git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty")
    return Peer("fuse4fs", [helper, "-o", f"log={log}", "{device}", "{mountpoint}"], f"commit {commit}", log=log)


def fuse2fs() -> Peer:
    if shutil.which("fuse2fs") is None:
        raise RowError("fuse2fs is not installed: tools/install-dependencies packaging/bench-depends")
    found = re.search(r"fuse2fs (\S+)", words_of("fuse2fs", "-V"))
    return Peer("fuse2fs", ["fuse2fs", "{device}", "{mountpoint}"], found.group(1) if found else "unknown version")


def given(text: str) -> Peer:
    """From `--peer NAME=COMMAND`."""
    name, separator, command = text.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ValueError(f"--peer wants NAME=COMMAND, not {text!r}")
    if "{device}" not in command or "{mountpoint}" not in command:
        raise ValueError(f"--peer {name}: the command must say {{device}} and {{mountpoint}}")
    return Peer(name, shlex.split(command), command)


class Image:
    """One file for all peers, written once in full, so that no peer pays for the host's allocation."""

    def __init__(self, path: str, mebibytes: int) -> None:
        self.path = path
        noise = os.urandom(1 << 20)
        with open(path, "wb") as file:
            for _ in range(mebibytes):
                file.write(noise)
            file.flush()
            os.fsync(file.fileno())
        self._blocks = os.stat(path).st_blocks

    def is_whole(self) -> bool:
        """Nobody has punched holes into it."""
        return os.stat(self.path).st_blocks >= self._blocks


class LoopDevice:
    def __init__(self, image: str, scratch: str) -> None:
        ran = measuring.run(["losetup", "--show", "-f", "--direct-io=on", image], scratch)
        self.path = ran.output.strip()
        self.name = os.path.basename(self.path)

    def detach(self) -> None:
        subprocess.run(["losetup", "-d", self.path], check=False, stdin=subprocess.DEVNULL, timeout=60)


def connections_of_processes() -> dict[int, set[int]]:
    """Which process holds a /dev/fuse of which connection (0 where the kernel does not say)."""
    found: dict[int, set[int]] = {}
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{process}/fd"):
                if os.readlink(f"/proc/{process}/fd/{descriptor}") != "/dev/fuse":
                    continue
                with open(f"/proc/{process}/fdinfo/{descriptor}", encoding="ascii") as file:
                    number = re.search(r"^fuse_connection:\s*(\d+)", file.read(), re.MULTILINE)
                found.setdefault(int(process), set()).add(int(number.group(1)) if number else 0)
    return found


@dataclass
class Server:
    """A process that answers the mount's requests."""

    pid: int
    pidfd: int
    cpu: float = 0.0  # as last seen
    peak_kib: int = 0


@dataclass
class Mounted:
    """A mounted volume with its server, if it has one. Ended by unmount()."""

    device: LoopDevice
    mountpoint: str
    seconds: float
    connection: int
    servers: list[Server] = field(default_factory=list)

    def look(self) -> None:
        """Notes what the servers have used so far: it cannot be asked any more when they have gone."""
        for server in self.servers:
            server.cpu = max(server.cpu, measuring.process_cpu(server.pid))
            server.peak_kib = max(server.peak_kib, measuring.process_peak_kib(server.pid))

    def server_cpu(self) -> float:
        self.look()
        return sum(server.cpu for server in self.servers)

    def peak_kib(self) -> int:
        self.look()
        return sum(server.peak_kib for server in self.servers)

    def unmount(self, scratch: str) -> float:
        """Seconds until the device is free: umount(8) has returned and the servers have gone."""
        self.look()
        start = time.monotonic()
        measuring.run(["umount", self.mountpoint], scratch, limit=UMOUNT_LIMIT)
        for server in self.servers:
            # Short waits: what it uses until its end counts, and cannot be read after it.
            while not measuring.wait_readable(server.pidfd, 0.005):
                self.look()
                if time.monotonic() - start > UMOUNT_LIMIT:
                    raise RowError(f"the server (process {server.pid}) still runs {UMOUNT_LIMIT:.0f} s after umount")
        seconds = time.monotonic() - start
        self._close()
        return seconds

    def abandon(self, scratch: str) -> None:
        """After an error: away with it, whatever state it is in."""
        with contextlib.suppress(RowError):
            measuring.run(["umount", self.mountpoint], scratch, limit=30)
        subprocess.run(["umount", "-l", self.mountpoint], check=False, stderr=subprocess.DEVNULL, timeout=60)
        for server in self.servers:
            if not measuring.wait_readable(server.pidfd, 10):
                # The process behind a pidfd is the one that we saw serving our mount, never a later namesake.
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(server.pidfd, signal.SIGKILL)
                measuring.wait_readable(server.pidfd, 10)
        self._close()

    def _close(self) -> None:
        for server in self.servers:
            os.close(server.pidfd)
        self.servers = []


def mount(peer: Peer, device: LoopDevice, mountpoint: str, scratch: str) -> Mounted:
    """Timed until the root directory answers: some peers return before they serve."""
    before = os.stat(mountpoint).st_dev
    servers_before = set(connections_of_processes())
    start = time.monotonic()
    measuring.run(peer.mount_command(device.path, mountpoint), scratch, limit=120)
    while True:
        number = os.stat(mountpoint).st_dev
        if number != before:
            break
        if time.monotonic() - start > 20:
            raise RowError(f"{peer.name}: the command ended, and nothing is mounted")
        time.sleep(0.0005)
    os.listdir(mountpoint)
    seconds = time.monotonic() - start
    # The kernel's own way to put a device number into one word.
    connection = os.major(number) << 20 | os.minor(number)
    mounted = Mounted(device, mountpoint, seconds, connection)
    for pid, connections in connections_of_processes().items():
        if connection in connections or (0 in connections and pid not in servers_before):
            with contextlib.suppress(ProcessLookupError):
                mounted.servers.append(Server(pid, os.pidfd_open(pid)))
    return mounted
