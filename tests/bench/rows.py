# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows: what is done in each, in which state it starts, and what must have happened for its figure to count.

Rows that build on each other form a scenario, which has a fresh file system for each peer and round.
"""

import json
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from io import BytesIO
from typing import Any, Protocol

import measuring
from measuring import RowError

MIB = 1 << 20
NAMES = "names"  # the folder that metadata_load works in; the root has lost+found in it


@dataclass(frozen=True)
class Sizes:
    image: int = 6144  # MiB
    stream: int = 1024  # MiB
    random: int = 512  # MiB
    seconds: float = 5.0  # of each random row
    files: int = 20_000
    folders: int = 100
    large: int = 100_000  # names in one directory
    lookups: int = 20_000  # in it
    tree: int = 20_000  # files of it
    appends: int = 1_000
    worker_files: int = 5_000
    cap: float = 40.0  # seconds of a row
    large_cap: float = 120.0  # of making the large directory


QUICK = Sizes(
    image=1024, stream=128, random=64, seconds=1.0, files=2_000, folders=20, large=10_000, lookups=2_000, tree=2_000,
    appends=100, worker_files=500, cap=15.0, large_cap=15.0,
)  # fmt: skip
TINY = Sizes(
    image=256, stream=8, random=8, seconds=0.3, files=300, folders=10, large=600, lookups=100, tree=100,
    appends=20, worker_files=50, cap=60.0, large_cap=60.0,
)  # fmt: skip


@dataclass
class Sample:
    """What one row did on one peer in one round."""

    operations: int
    seconds: float
    wanted: int = 0  # operations, when it should have done more before the time was over
    bytes: int = 0
    system_seconds: float = 0.0  # of the workload, in the kernel


class Context(Protocol):
    """What the runner gives to a row: a mounted volume of one peer, and tools."""

    sizes: Sizes
    scratch: str
    mountpoint: str
    metadata_load: str
    tree_archive: str
    tree_entries: int
    state: dict[str, Any]  # what earlier rows of the scenario leave for later ones

    def mount(self) -> float: ...
    def unmount(self) -> float: ...


class Start(Enum):
    AS_LEFT = "caches as the row before left them"
    DROPPED = "synced, the kernel's caches dropped"
    REMOUNTED = "mounted anew and the kernel's caches dropped: the server's own caches are cold as well"
    UNMOUNTED = "not mounted"


@dataclass(frozen=True)
class Row:
    id: str
    title: str
    unit: str  # "MiB/s" and "/s" are better when larger, "s" and "ms" when smaller
    action: Callable[[Context], Sample]
    start: Start = Start.DROPPED
    # At least so many bytes must come from the device, or the row was not what it says.
    least_read: Callable[[Context], float] = lambda context: 0
    bypasses_caches: bool = False  # all that it moves should come from the device, or go to it
    prepare: Callable[[Context], None] = lambda context: None  # before it is measured


@dataclass(frozen=True)
class Scenario:
    name: str
    rows: list[Row]
    prepare: Callable[[Context], None] = field(default=lambda context: None)


def load(context: Context, kind: str, count: int, *more: str, cap: float | None = None) -> Sample:
    """Runs metadata_load, which measures itself."""
    if count < 1:
        raise RowError("the row that makes the files made none")
    seconds = cap or context.sizes.cap
    command = [context.metadata_load, kind, f"{context.mountpoint}/{NAMES}", "--count", str(count)]
    command += ["--seconds", str(seconds), *more]
    ran = measuring.run(command, context.scratch, limit=seconds + 120)
    figures = json.loads(ran.output)
    return Sample(figures["operations"], figures["seconds"], count, system_seconds=ran.system_seconds)


def fio(context: Context, file: str, mebibytes: float, access: str, *more: str, timed: bool = False) -> Sample:
    command = [
        "fio", "--name=bench", f"--filename={context.mountpoint}/{file}", f"--rw={access}",
        f"--size={int(mebibytes * MIB)}", "--output-format=json", "--fallocate=none", "--randrepeat=1",
        "--thread", f"--runtime={int(1000 * (context.sizes.seconds if timed else context.sizes.cap))}ms", *more,
    ]  # fmt: skip
    if timed:
        command.append("--time_based")
    ran = measuring.run(command, context.scratch, limit=context.sizes.cap + 180)
    job = json.loads(ran.output[ran.output.index("{") :])["jobs"][0]
    if job["error"]:
        raise RowError(f"fio: error {job['error']}")
    figures = job["read" if "read" in access else "write"]
    if not figures["total_ios"]:
        raise RowError("fio did nothing")
    wanted = 0 if timed else int(mebibytes * MIB) // (figures["io_bytes"] // figures["total_ios"])
    return Sample(
        figures["total_ios"],
        max(figures["runtime"], 1) / 1000,
        wanted,
        figures["io_bytes"],
        ran.system_seconds,
    )


def command(context: Context, words: list[str], operations: int, sync: bool) -> Sample:
    """A program that does not measure itself; with `sync` its time ends when the file system is on the device."""
    ran = measuring.run(words, context.scratch, limit=2 * context.sizes.cap)
    sample = Sample(operations, ran.seconds, system_seconds=ran.system_seconds)
    if sync:
        synced = measuring.run(["sync", "-f", context.mountpoint], context.scratch)
        sample.seconds += synced.seconds
        sample.system_seconds += synced.system_seconds
    return sample


# Streaming: 1 MiB at a time.


def stream_write(context: Context) -> Sample:
    sample = fio(context, "stream", context.sizes.stream, "write", "--bs=1M", "--ioengine=psync", "--end_fsync=1")
    context.state["stream"] = sample.bytes / MIB
    return sample


def stream_write_direct(context: Context) -> Sample:
    options = ["--bs=1M", "--ioengine=psync", "--direct=1", "--end_fsync=1"]
    sample = fio(context, "direct", context.sizes.stream, "write", *options)
    context.state["direct"] = sample.bytes / MIB
    return sample


def stream_again(file: str, access: str, *more: str) -> Callable[[Context], Sample]:
    """On as much of the file as the row that wrote it came to."""

    def action(context: Context) -> Sample:
        if file not in context.state:
            raise RowError("the row that writes the file failed")
        return fio(context, file, context.state[file], access, "--bs=1M", "--ioengine=psync", *more)

    return action


def written(file: str) -> Callable[[Context], float]:
    return lambda context: 0.95 * context.state.get(file, 0) * MIB


STREAM = Scenario(
    "stream",
    [
        Row("stream.write", "sequential write, buffered, fsync at the end", "MiB/s", stream_write),
        Row(
            "stream.read", "sequential read, buffered, cold", "MiB/s",
            stream_again("stream", "read"), Start.REMOUNTED, written("stream"),
        ),
        Row("stream.write-direct", "sequential write, O_DIRECT, new file", "MiB/s", stream_write_direct),
        Row(
            "stream.overwrite-direct", "sequential overwrite, O_DIRECT", "MiB/s",
            stream_again("direct", "write", "--direct=1", "--end_fsync=1"),
        ),
        Row(
            "stream.read-direct", "sequential read, O_DIRECT", "MiB/s",
            stream_again("direct", "read", "--direct=1"), Start.REMOUNTED, written("direct"),
        ),
    ],
)  # fmt: skip


# Random: 4 KiB at a time over one file, for a fixed time.


def random_prepare(context: Context) -> None:
    fio(context, "random", context.sizes.random, "write", "--bs=1M", "--ioengine=psync", "--end_fsync=1")


def random_row(access: str, *more: str) -> Callable[[Context], Sample]:
    return lambda context: fio(context, "random", context.sizes.random, access, "--bs=4k", *more, timed=True)


DEPTH_1 = ("--direct=1", "--ioengine=libaio", "--iodepth=1")
DEPTH_16 = ("--direct=1", "--ioengine=libaio", "--iodepth=16")

RANDOM = Scenario(
    "random",
    [
        Row(
            "random.read-1", "random 4 KiB read, O_DIRECT, depth 1", "/s",
            random_row("randread", *DEPTH_1), Start.REMOUNTED, bypasses_caches=True,
        ),
        Row(
            "random.read-16", "random 4 KiB read, O_DIRECT, depth 16", "/s",
            random_row("randread", *DEPTH_16), Start.REMOUNTED, bypasses_caches=True,
        ),
        Row(
            "random.write-1", "random 4 KiB write, O_DIRECT, depth 1", "/s",
            random_row("randwrite", *DEPTH_1), bypasses_caches=True,
        ),
        Row(
            "random.write-16", "random 4 KiB write, O_DIRECT, depth 16", "/s",
            random_row("randwrite", *DEPTH_16), bypasses_caches=True,
        ),
        Row(
            "random.write-fsync", "random 4 KiB write, buffered, each with fsync", "/s",
            random_row("randwrite", "--ioengine=psync", "--fsync=1"),
        ),
    ],
    random_prepare,
)  # fmt: skip


# Names. Whoever comes after the row that makes them works on as many as it made.


def made(context: Context, name: str) -> int:
    return context.state.get(name, 0)


def create(name: str, count: Callable[[Sizes], int], *more: str, cap: Callable[[Sizes], float] | None = None):
    def action(context: Context) -> Sample:
        seconds = cap(context.sizes) if cap else None
        sample = load(context, "create", count(context.sizes), *more, cap=seconds)
        context.state[name] = sample.operations
        return sample

    return action


INODE_BYTES = 256


DIRECTORY = Scenario(
    "directory",
    [
        Row("directory.create", "create {files} files in one directory", "/s", create("files", lambda s: s.files)),
        Row(
            "directory.stat-cold", "stat them, cold", "/s",
            lambda c: load(c, "stat", made(c, "files")), Start.REMOUNTED,
            lambda c: made(c, "files") * INODE_BYTES / 2,
        ),
        Row(
            "directory.stat-warm", "stat them again", "/s",
            lambda c: load(c, "stat", made(c, "files")), Start.AS_LEFT,
        ),
        Row(
            "directory.readdir", "list them, cold", "/s",
            lambda c: load(c, "list", made(c, "files")), Start.REMOUNTED,
            lambda c: made(c, "files") * 16,
        ),
        Row("directory.unlink", "unlink them", "/s", lambda c: load(c, "unlink", made(c, "files"))),
    ],
)  # fmt: skip

LARGE = Scenario(
    "large",
    [
        Row(
            "large.create", "create {large} files in one directory", "/s",
            create("large", lambda s: s.large, cap=lambda s: s.large_cap),
        ),
        Row(
            "large.lookup", "look up {lookups} of them at random, cold", "/s",
            lambda c: looked_up(c), Start.REMOUNTED,
            lambda c: min(made(c, "large"), c.sizes.lookups) * INODE_BYTES / 4,
        ),
    ],
)  # fmt: skip


def looked_up(context: Context) -> Sample:
    sample = load(context, "stat", made(context, "large"), "--sample", str(context.sizes.lookups))
    sample.wanted = min(made(context, "large"), context.sizes.lookups)
    return sample


def create_small(context: Context) -> Sample:
    options = ["--bytes", "4096", "--folders", str(context.sizes.folders), "--sync"]
    sample = load(context, "create", context.sizes.files, *options)
    context.state["small"] = sample.operations
    return sample


def read_small(context: Context) -> Sample:
    # In how many folders the names lie follows from the count that was wanted, not from where it stopped.
    if made(context, "small") != context.sizes.files:
        raise RowError("the row that makes the files did not finish")
    return load(context, "read", context.sizes.files, "--bytes", "4096", "--folders", str(context.sizes.folders))


SMALL = Scenario(
    "small",
    [
        Row("small.create", "write {files} files of 4 KiB in {folders} directories, synced", "/s", create_small),
        Row(
            "small.read", "read them, cold", "/s", read_small, Start.REMOUNTED,
            lambda c: c.sizes.files * 4096,
        ),
    ],
)  # fmt: skip


# A tree such as a source archive: the same for everybody, from a fixed seed.


def make_archive(path: str, files: int) -> int:
    """Writes it; returns the number of its entries. About 10 KiB a file, 20 files a folder, some links."""
    chance = random.Random(4)
    noise = chance.randbytes(4 * MIB)
    entries = 0
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:

        def add(name: str, kind: bytes, mode: int, size: int = 0, target: str = "") -> None:
            nonlocal entries
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.size, member.linkname = kind, mode, size, target
            member.mtime = 1_700_000_000 + entries
            start = chance.randrange(len(noise) - size)
            archive.addfile(member, BytesIO(noise[start : start + size]) if size else None)
            entries += 1

        folders = ["tree"]
        add("tree", tarfile.DIRTYPE, 0o755)
        for number in range(files):
            if number % 20 == 0:
                # Mostly in one of the newest folders, so that it grows deep as well as wide.
                parent = folders[-1 - min(int(chance.expovariate(0.3)), len(folders) - 1)]
                if parent.count("/") > 8:
                    parent = folders[0]
                folders.append(f"{parent}/folder-{number // 20}")
                add(folders[-1], tarfile.DIRTYPE, 0o755)
            size = min(int(chance.lognormvariate(8.3, 1.3)), MIB)
            mode = 0o755 if number % 17 == 0 else 0o644
            add(f"{folders[-1]}/file-{number}.{chance.choice('cho')}", tarfile.REGTYPE, mode, size)
            if number % 100 == 99:
                add(f"{folders[-1]}/link-{number}", tarfile.SYMTYPE, 0o777, target=f"file-{number}")
    return entries


def untar(context: Context) -> Sample:
    measuring.warm(context.tree_archive)  # dropping the caches dropped it too
    words = ["tar", "-C", context.mountpoint, "-xf", context.tree_archive]
    sample = command(context, words, context.tree_entries, sync=True)
    context.state["tree"] = True
    return sample


def need_tree(context: Context) -> None:
    if "tree" not in context.state:
        raise RowError("the tree was not unpacked")


def find(context: Context) -> Sample:
    words = ["find", f"{context.mountpoint}/tree", "-size", "+1000k"]  # a size, so that it has to stat
    return command(context, words, context.tree_entries, sync=False)


def copy(context: Context) -> Sample:
    words = ["cp", "-r", f"{context.mountpoint}/tree", f"{context.mountpoint}/copy"]
    return command(context, words, context.tree_entries, sync=True)


def remove(context: Context) -> Sample:
    return command(context, ["rm", "-rf", f"{context.mountpoint}/tree"], context.tree_entries, sync=True)


TREE = Scenario(
    "tree",
    [
        Row("tree.untar", "unpack a tree of {tree} files, synced", "s", untar),
        Row(
            "tree.find", "find over it, cold", "s", find, Start.REMOUNTED,
            lambda c: c.tree_entries * INODE_BYTES / 2, prepare=need_tree,
        ),
        Row(
            "tree.copy", "cp -r of it, cold, synced", "s", copy, Start.REMOUNTED,
            lambda c: c.tree_entries * 4096 / 2, prepare=need_tree,
        ),
        Row(
            "tree.remove", "rm -rf of it, cold, synced", "s", remove, Start.REMOUNTED,
            lambda c: c.tree_entries * INODE_BYTES / 2, prepare=need_tree,
        ),
    ],
)  # fmt: skip

APPEND = Scenario(
    "append",
    [
        Row(
            "append.fsync", "{appends} times append 4 KiB, fsync", "/s",
            lambda c: load(c, "append", c.sizes.appends, "--bytes", "4096"),
        ),
    ],
)  # fmt: skip


def cycle(workers: int) -> Callable[[Context], Sample]:
    def action(context: Context) -> Sample:
        sample = load(context, "cycle", context.sizes.worker_files, "--workers", str(workers))
        sample.wanted = 3 * workers * context.sizes.worker_files
        return sample

    return action


WORKERS = Scenario(
    "workers",
    [
        Row("workers.one", "create, stat, unlink {worker_files} files: one worker", "/s", cycle(1)),
        Row("workers.two", "the same in two directories: two workers together", "/s", cycle(2)),
    ],
)


def mount(context: Context) -> Sample:
    return Sample(1, context.mount())


def unmount(context: Context) -> Sample:
    return Sample(1, context.unmount())


def write_for_unmount(context: Context) -> None:
    load(context, "create", context.sizes.files // 10, "--bytes", "4096", "--folders", "10")


MOUNT = Scenario(
    "mount",
    [
        Row("mount.mount", "mount, until the root answers", "ms", mount, Start.UNMOUNTED),
        Row("mount.umount", "umount, until the server is gone", "ms", unmount),
        Row(
            "mount.umount-written", "umount right after writing {files_tenth} files of 4 KiB", "ms",
            unmount, prepare=write_for_unmount,
        ),
    ],
)  # fmt: skip

SCENARIOS = [STREAM, RANDOM, DIRECTORY, LARGE, SMALL, TREE, APPEND, WORKERS, MOUNT]


def title(row: Row, sizes: Sizes) -> str:
    numbers = {name: f"{value:,}" for name, value in vars(sizes).items()}
    return row.title.format(**numbers, files_tenth=f"{sizes.files // 10:,}")
