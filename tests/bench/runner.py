# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the rows on the peers: round by round, scenario by scenario, the peers in an order that rotates."""

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import measuring
import peers
import rows
import upcalls
from measuring import RowError
from peers import Mounted, Peer
from rows import Row, Scenario, Sizes, Start

COUNTING = 0  # the round in which upcalls are counted and nothing is timed


@dataclass
class Plan:
    peers: list[Peer]
    scenarios: list[Scenario]
    wanted: set[str]  # ids of rows; others of a scenario only prepare these
    rounds: int
    sizes: Sizes
    counting_sizes: Sizes
    scratch: str
    metadata_load: str


@dataclass
class Results:
    """What ends in the JSON file."""

    samples: list[dict[str, Any]] = field(default_factory=list)
    upcalls: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)  # e2fsck after each scenario
    peak_kib: dict[str, int] = field(default_factory=dict)
    server_seconds: dict[str, float] = field(default_factory=dict)  # of processor, over the timed rounds
    no_upcalls: str = ""  # why there are none


@dataclass
class Archive:
    path: str
    entries: int


class Session:
    """One peer in one scenario: what the rows see as their Context."""

    def __init__(self, plan: Plan, sizes: Sizes, peer: Peer, device: peers.LoopDevice, archive: Archive) -> None:
        self.sizes = sizes
        self.scratch = plan.scratch
        self.mountpoint = f"{plan.scratch}/mnt"
        self.metadata_load = plan.metadata_load
        self.tree_archive = archive.path
        self.tree_entries = archive.entries
        self.state: dict[str, Any] = {}
        self.peer = peer
        self.device = device
        self.mounted: Mounted | None = None
        self.peak_kib = 0
        self._ended_servers_cpu = 0.0

    def mount(self) -> float:
        self.mounted = peers.mount(self.peer, self.device, self.mountpoint, self.scratch)
        return self.mounted.seconds

    def unmount(self) -> float:
        if self.mounted is None:
            raise RowError("nothing is mounted")
        mounted, servers = self.mounted, list(self.mounted.servers)
        seconds = mounted.unmount(self.scratch)
        self.mounted = None
        self._ended_servers_cpu += sum(server.cpu for server in servers)
        self.peak_kib = max(self.peak_kib, sum(server.peak_kib for server in servers))
        return seconds

    def server_cpu(self) -> float:
        return self._ended_servers_cpu + (self.mounted.server_cpu() if self.mounted else 0.0)

    def bring_to(self, start: Start) -> None:
        if start is Start.AS_LEFT:
            if self.mounted is None:
                raise RowError("nothing is mounted")
            return
        if start in (Start.REMOUNTED, Start.UNMOUNTED) and self.mounted is not None:
            self.unmount()
        if self.mounted is not None:
            measuring.sync_file_system(self.mountpoint)
        measuring.sync_device(self.device.path)
        measuring.sync_file_system(self.scratch)
        measuring.drop_caches()
        if start is not Start.UNMOUNTED and self.mounted is None:
            self.mount()

    def abandon(self) -> None:
        if self.mounted is not None:
            self.mounted.abandon(self.scratch)
            self.mounted = None
        # A mount that failed half-way.
        while os.path.ismount(self.mountpoint):
            ended = subprocess.run(["umount", "-l", self.mountpoint], check=False, timeout=60)
            if ended.returncode != 0:
                break


class Runner:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results = Results()
        self._image: peers.Image | None = None
        self._archives: dict[int, Archive] = {}
        self._tracing = f"{plan.scratch}/tracing"

    def run(self) -> None:
        plan = self.plan
        say(f"writing an image of {plan.sizes.image} MiB")
        self._image = peers.Image(f"{plan.scratch}/image", plan.sizes.image)
        if any(scenario is rows.TREE for scenario in plan.scenarios):
            for files in {plan.sizes.tree, plan.counting_sizes.tree}:
                path = f"{plan.scratch}/tree-{files}.tar"
                self._archives[files] = Archive(path, rows.make_archive(path, files))
        for number in range(COUNTING if self._can_count() else 1, plan.rounds + 1):
            for index, scenario in enumerate(plan.scenarios):
                turn = (number + index) % len(plan.peers)
                for peer in plan.peers[turn:] + plan.peers[:turn]:
                    self._scenario(scenario, peer, number)
        if not self._image.is_whole():
            self.results.checks.append({"peer": "", "words": "somebody punched holes into the image: no fair figures"})

    def _can_count(self) -> bool:
        os.mkdir(self._tracing)
        if self.results.no_upcalls:
            return False
        with contextlib.suppress(RowError):
            measuring.run(["mount", "-t", "tracefs", "fuse4fs-bench", self._tracing], self.plan.scratch)
        try:
            upcalls.UpcallCounter(self._tracing, 0).stop()
        except upcalls.CannotCount as error:
            self.results.no_upcalls = str(error)
            say(f"upcalls are not counted: {error}")
            return False
        return True

    def _scenario(self, scenario: Scenario, peer: Peer, number: int) -> None:
        plan = self.plan
        counting = number == COUNTING
        if counting and peer.in_kernel:
            return
        sizes = plan.counting_sizes if counting else plan.sizes
        wanted = [row for row in scenario.rows if row.id in plan.wanted]
        start = time.monotonic()
        device = peers.LoopDevice(f"{plan.scratch}/image", plan.scratch)
        archive = self._archives.get(sizes.tree, Archive("", 0))
        session = Session(plan, sizes, peer, device, archive)
        try:
            prepared = self._prepare(session, scenario)
            for row in scenario.rows[: scenario.rows.index(wanted[-1]) + 1]:
                record = {"row": row.id, "peer": peer.name, "round": number}
                record |= self._row(session, row, counting) if not prepared else {"error": prepared}
                if row.id in plan.wanted:
                    (self.results.upcalls if counting else self.results.samples).append(record)
                if "error" in record:
                    say(f"  {peer.name}: {row.id}: {record['error']}")
                    self._log_tail(peer)
            self._finish(session, scenario, number)
        finally:
            session.abandon()
            device.detach()
        if not counting:
            totals = self.results.server_seconds
            totals[peer.name] = totals.get(peer.name, 0.0) + session.server_cpu()
            self.results.peak_kib[peer.name] = max(self.results.peak_kib.get(peer.name, 0), session.peak_kib)
        what = "counting" if counting else f"round {number}"
        say(f"{what}: {scenario.name} on {peer.name}: {time.monotonic() - start:.1f} s")

    def _prepare(self, session: Session, scenario: Scenario) -> str:
        """Makes the file system and mounts it. Returns why it could not."""
        try:
            # No discard: it would punch holes into the image, and the next peer would pay for them.
            options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
            measuring.run(["mkfs.ext4", "-q", "-F", "-E", options, session.device.path], session.scratch)
            session.mount()
            os.mkdir(f"{session.mountpoint}/{rows.NAMES}")
            scenario.prepare(session)
        except (RowError, OSError) as error:
            session.abandon()
            return str(error)
        return ""

    def _row(self, session: Session, row: Row, counting: bool) -> dict[str, Any]:
        counter = None
        try:
            session.bring_to(row.start)
            row.prepare(session)
            least = 0.0 if counting else row.least_read(session)
            if counting:
                if session.mounted is None:
                    return {"counts": None}  # the connection's number is not known before it is there
                counter = upcalls.UpcallCounter(self._tracing, session.mounted.connection)
            read, written = measuring.device_bytes(session.device.name)
            cpu, busy = session.server_cpu(), measuring.machine_busy()
            sample = row.action(session)
            if counter is not None:
                if session.mounted is not None:
                    measuring.sync_file_system(session.mountpoint)  # what it left to be written belongs to it
                return {"operations": sample.operations, "counts": counter.stop()}
            now_read, now_written = measuring.device_bytes(session.device.name)
            record = asdict(sample) | {
                "server_seconds": session.server_cpu() - cpu,
                "machine_seconds": measuring.machine_busy() - busy,
                "device_read": now_read - read,
                "device_written": now_written - written,
            }
            if now_read - read < least:
                raise RowError(f"not cold: {(now_read - read) >> 10} KiB came from the device, not {least / 1024:.0f}")
            return record
        except (RowError, OSError, subprocess.SubprocessError, KeyError, ValueError) as error:
            # A server that died answers so to everything: the rows that follow get a new one.
            if session.mounted is not None and not alive(session.mountpoint):
                session.abandon()
            return {"error": str(error) or type(error).__name__}
        finally:
            if counter is not None:
                counter.close()

    def _finish(self, session: Session, scenario: Scenario, number: int) -> None:
        try:
            if session.mounted is not None:
                session.unmount()
        except RowError as error:
            self.results.checks.append({"peer": session.peer.name, "words": f"{scenario.name}: umount: {error}"})
            session.abandon()
        words = ""
        try:
            measuring.run(["e2fsck", "-fn", session.device.path], session.scratch, limit=600)
        except RowError as error:
            words = f"{scenario.name}: {error}"
            say(f"  {session.peer.name}: {words}")
        self.results.checks.append({"peer": session.peer.name, "round": number, "words": words})

    def _log_tail(self, peer: Peer) -> None:
        if not peer.log:
            return
        with contextlib.suppress(OSError), open(peer.log, encoding="utf-8", errors="replace") as file:
            for line in file.read().splitlines()[-3:]:
                say(f"    {line}")


def alive(mountpoint: str) -> bool:
    try:
        os.listdir(mountpoint)
        return True
    except OSError:
        return False


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def smaller(sizes: Sizes, limit: Sizes) -> Sizes:
    """The sizes for counting: exact at any size, so no larger than need be."""
    fields = {name: min(value, getattr(limit, name)) for name, value in vars(sizes).items()}
    return replace(sizes, **fields)
