# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests the benchmark, not the speed: every row must yield a figure on every peer, and mean what it says."""

import argparse
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import svg
from report import BEGIN, END, Report, put_between_markers


def run(given: argparse.Namespace, scratch: str, measure: Callable[[argparse.Namespace, str], dict[str, Any]]) -> int:
    given.results = f"{scratch}/results.json"
    given.peer = ["given=mount -t ext4 -o noatime {device} {mountpoint}"]
    if shutil.which("fuse2fs") is None:
        print("SKIPPED: fuse2fs is not installed: tools/install-dependencies packaging/bench-depends")
        return 77
    results = measure(given, scratch)
    complaints = [complaint for complaint in judge(results) if complaint]
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    print(f"self-test: {len(results['samples'])} figures, {len(results['checks'])} checks by e2fsck,"
          f" {len(results['upcalls'])} counts of requests, {len(complaints)} complaints")  # fmt: skip
    return 1 if complaints else 0


def judge(results: dict[str, Any]) -> list[str]:
    report = Report(results)
    complaints = [results["unfinished"]]
    complaints += [f"{check['peer']}: {check['words']}" for check in results["checks"] if check["words"]]
    for row in report.rows:
        for peer in report.peers:
            figure = report.figure(row, peer)
            if figure is None or figure.capped or report.error(row, peer):
                complaints.append(f"{row['id']} on {peer}: {report.error(row, peer) or figure}")
    complaints += judge_requests(report)
    complaints += judge_writing(report)
    if not results["peak_kib"].get("fuse4fs") or not results["server_seconds"].get("fuse4fs"):
        complaints.append("nothing is known of the server's memory and processor time")
    if results["peak_kib"].get("ext4"):
        complaints.append("the kernel's ext4 has a server")
    return complaints


def judge_requests(report: Report) -> list[str]:
    """A few counts follow from what the row does, whatever the server."""
    if report.results["no_upcalls"]:
        print(f"counts of requests not tested: {report.results['no_upcalls']}")
        return []
    complaints = []
    for peer in ("fuse4fs", "fuse2fs"):
        unlink = report.upcalls("directory.unlink", peer) or {}
        if unlink.get("UNLINK") != 1.0:
            complaints.append(f"{peer}: an unlink is not one UNLINK, but {unlink}")
        stream = report.upcalls("stream.read", peer) or {}
        if not stream.get("READ"):
            complaints.append(f"{peer}: a cold read without a READ: {stream}")
    if (report.upcalls("mount.umount", "fuse4fs") or {}).get("DESTROY") != 1.0:
        complaints.append("fuse4fs: an umount without a DESTROY")
    return complaints


def judge_writing(report: Report) -> list[str]:
    complaints = []
    drawn = ElementTree.fromstring(svg.picture(report))
    bars = [one for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == str(svg.BAR - 1)]
    if len(bars) != len(report.rows) * (len(report.peers) - 1):
        complaints.append(f"{len(bars)} bars in the picture")
    markdown = report.markdown()
    widths = {line.count("|") for line in markdown.splitlines() if line.startswith("| row | ext4")}
    table = [line for line in markdown.splitlines() if line.startswith(f"| {report.rows[0]['title']}, ")]
    if not table or {table[0].count("|")} != widths:
        complaints.append("the table's rows have not the columns of its head")
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    if put_between_markers(document, markdown) != f"before\n{BEGIN}\n{markdown}{END}\nafter\n":
        complaints.append("the document is not written between its markers")
    return complaints
