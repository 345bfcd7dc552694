# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command and says what it took; reads what the kernel counts about devices and processes."""

import contextlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")


class RowError(Exception):
    """Why a row has no figure. Its words are shown in the report."""


@dataclass
class Ran:
    """A command that ended well."""

    output: str
    seconds: float
    system_seconds: float  # of it and its children, in the kernel


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no words"


def end_group(process: subprocess.Popen) -> None:
    """Ends what we started, with its children. It may be stuck in a request: do not wait for ever."""
    for sent, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 20)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def run(command: list[str], scratch: str, limit: float = 300.0, accept: tuple[int, ...] = (0,)) -> Ran:
    """The output goes through files: a server that the command leaves behind may keep them open."""
    with open(f"{scratch}/stdout", "w+b") as out, open(f"{scratch}/stderr", "w+b") as err:
        start = time.monotonic()
        # Its own group: Ctrl-C reaches only us, and we end it.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        try:
            usage = wait(process, start + limit)
        except BaseException:
            end_group(process)
            raise
        seconds = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        output = out.read().decode(errors="replace")
        words = err.read().decode(errors="replace")
    if usage is None:
        end_group(process)
        raise RowError(f"not finished in {limit:.0f} s")
    if process.returncode not in accept:
        name = os.path.basename(command[0])
        raise RowError(f"{name} ended with {process.returncode}: {last_line(words or output)}")
    return Ran(output, seconds, usage.ru_stime)


def wait(process: subprocess.Popen, deadline: float):
    """The resources it used, or None when it runs on at the deadline. (Popen.wait() does not tell them.)"""
    pidfd = os.pidfd_open(process.pid)
    try:
        if not wait_readable(pidfd, deadline - time.monotonic()):
            return None
    finally:
        os.close(pidfd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def wait_readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def drop_caches() -> None:
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as control:
        control.write("3\n")


# Python has sync(2) only, which waits for whatever hangs elsewhere on the machine.
def sync_file_system(path: str) -> None:
    subprocess.run(["sync", "-f", path], check=True, stdin=subprocess.DEVNULL, timeout=300)


def sync_device(path: str) -> None:
    subprocess.run(["sync", path], check=True, stdin=subprocess.DEVNULL, timeout=300)


def warm(path: str) -> None:
    """Reads a file of the host into its page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def device_bytes(name: str) -> tuple[int, int]:
    """What was read from and written to a block device, as /proc/diskstats counts it."""
    with open(f"/sys/block/{name}/stat", encoding="ascii") as file:
        fields = file.read().split()
    return int(fields[2]) * 512, int(fields[6]) * 512


def process_cpu(pid: int) -> float:
    """Seconds in user and kernel mode of all its threads."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def process_peak_kib(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def machine_busy() -> float:
    """Seconds that all processors together were not idle: means something on a quiet machine only."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = fields
    return (user + nice + system + irq + softirq) / TICKS
