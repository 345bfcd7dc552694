# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures from results: medians, spreads and ratios, as Markdown."""

import statistics
from dataclasses import dataclass
from typing import Any

BEGIN = "<!-- begin: written by tests/bench/run -->"
END = "<!-- end: written by tests/bench/run -->"
MIB = 1 << 20
# The peers that others are compared to.
STANDARDS = ("ext4", "fuse2fs")


@dataclass
class Figure:
    """One row of one peer, over the rounds."""

    median: float
    least: float
    most: float
    unit: str
    capped: str = ""  # how far it came, where it did not finish

    def speed(self) -> float:
        """More is better, whatever the unit."""
        return 1 / self.median if self.unit in ("s", "ms") else self.median


def value(sample: dict[str, Any], unit: str) -> float:
    seconds = max(sample["seconds"], 1e-9)
    if unit == "MiB/s":
        return sample["bytes"] / MIB / seconds
    if unit == "/s":
        return sample["operations"] / seconds
    return seconds * 1000 if unit == "ms" else seconds


def number(amount: float) -> str:
    if amount >= 100:
        return f"{amount:,.0f}"
    return f"{amount:.1f}" if amount >= 10 else f"{amount:.2f}"


class Report:
    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results
        self.peers: list[str] = [peer["name"] for peer in results["peers"]]
        self.rows: list[dict[str, str]] = results["rows"]

    def _samples(self, row: str, peer: str) -> list[dict[str, Any]]:
        return [one for one in self.results["samples"] if one["row"] == row and one["peer"] == peer]

    def figure(self, row: dict[str, str], peer: str) -> Figure | None:
        good = [one for one in self._samples(row["id"], peer) if "error" not in one]
        if not good:
            return None
        values = [value(one, row["unit"]) for one in good]
        figure = Figure(statistics.median(values), min(values), max(values), row["unit"])
        short = [one for one in good if one["operations"] < one["wanted"]]
        if short:
            worst = min(short, key=lambda one: one["operations"])
            figure.capped = f"{worst['operations']:,} of {worst['wanted']:,} in {worst['seconds']:.0f} s"
        return figure

    def error(self, row: dict[str, str], peer: str) -> str:
        for one in self._samples(row["id"], peer):
            if "error" in one:
                return one["error"]
        return ""

    def ratio(self, row: dict[str, str], peer: str, standard: str) -> float | None:
        one, other = self.figure(row, peer), self.figure(row, standard)
        return one.speed() / other.speed() if one and other else None

    def upcalls(self, row: str, peer: str) -> dict[str, float] | None:
        """By opcode, for one operation."""
        for one in self.results["upcalls"]:
            if one["row"] == row and one["peer"] == peer and one.get("counts") is not None:
                return {name: count / max(1, one["operations"]) for name, count in one["counts"].items()}
        return None

    # Markdown

    def markdown(self) -> str:
        parts = [self._about(), self._table(), *self._notes(), self._costs(), self._requests()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _about(self) -> str:
        machine, rounds = self.results["machine"], self.results["rounds"]
        versions = "; ".join(f"`{peer['name']}`: {peer['version']}" for peer in self.results["peers"])
        return (
            f"Measured on {machine['date']}: {machine['processor']}, {machine['processors']} processors"
            f" (virtualisation: {machine['virtual']}), {machine['memory']}, {machine['system']},"
            f" kernel {machine['kernel']}, disk {machine['disk']}; load at the start {machine['load']}.\n"
            f"{versions}; mkfs.ext4 {machine['mkfs.ext4']}; {machine['fio']}.\n"
            f"`{self.results['command']}`, {self.results['minutes']:.0f} minutes. "
            + ("One round." if rounds == 1 else f"Medians of {rounds} rounds, in brackets the least and the most.")
        )

    def _table(self) -> str:
        ratios = [(peer, standard) for standard in STANDARDS if standard in self.peers
                  for peer in self.peers if peer != standard and peer not in STANDARDS[: STANDARDS.index(standard)]]  # fmt: skip
        heads = ["row", *self.peers, *(f"{peer} : {standard}" for peer, standard in ratios)]
        lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
        for row in self.rows:
            cells = [f"{row['title']}, {row['unit']}"]
            cells += [self._cell(row, peer) for peer in self.peers]
            for peer, standard in ratios:
                ratio = self.ratio(row, peer, standard)
                cells.append("–" if ratio is None else f"{number(ratio)}")
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def _cell(self, row: dict[str, str], peer: str) -> str:
        figure = self.figure(row, peer)
        error = self.error(row, peer)
        if figure is None:
            return f"error: {error}".replace("|", "\\|") if error else "–"
        text = number(figure.median)
        if figure.most > figure.least:
            text += f" ({number(figure.least)}..{number(figure.most)})"
        if figure.capped:
            text += f"; only {figure.capped}"
        if error:
            text += f"; in another round: {error}".replace("|", "\\|")
        return text

    def _notes(self) -> list[str]:
        notes = ["Ratios are of speed: above 1 the first is faster."]
        for row in self.rows:
            for peer in self.peers:
                for one in self._samples(row["id"], peer):
                    if not row.get("bypasses_caches") or "error" in one or not one["bytes"]:
                        continue
                    wrote = "write" in row["id"]
                    share = one["device_written" if wrote else "device_read"] / one["bytes"]
                    if share < 0.9:
                        notes.append(
                            f"{peer}, {row['title']}: {'when it ended ' if wrote else ''}only {share:.0%} of it was"
                            f" {'written to' if wrote else 'read from'} the device, the rest {'lay in' if wrote else 'came from'}"
                            " a cache in spite of O_DIRECT."
                        )
                        break
        for peer in self.peers:
            one = self.figure({"id": "workers.one", "unit": "/s"}, peer)
            two = self.figure({"id": "workers.two", "unit": "/s"}, peer)
            if one and two:
                notes.append(f"{peer}: two workers do {two.median / one.median:.2f} times the work of one.")
        for check in self.results["checks"]:
            if check["words"]:
                notes.append(f"{check['peer']}: {check['words']}")
        if self.results["unfinished"]:
            notes.append(f"Not all of it was run: {self.results['unfinished']}.")
        return ["\n".join(f"- {note}" for note in dict.fromkeys(notes))]

    def _costs(self) -> str:
        lines = [
            "| over all rows and rounds | " + " | ".join(self.peers) + " |",
            "| --- |" + " ---: |" * len(self.peers),
        ]

        def total(peer: str, key: str) -> str:
            samples = [one for one in self.results["samples"] if one["peer"] == peer and "error" not in one]
            return f"{sum(one.get(key, 0.0) for one in samples):.1f}"

        peak = self.results["peak_kib"]
        server = self.results["server_seconds"]
        cells = [f"{peak[peer] / 1024:.1f}" if peak.get(peer) else "–" for peer in self.peers]
        lines.append("| the server's peak memory (VmHWM), MiB | " + " | ".join(cells) + " |")
        cells = [f"{server[peer]:.1f}" if server.get(peer) else "–" for peer in self.peers]
        lines.append("| the server's processor time, with mounting and unmounting, s | " + " | ".join(cells) + " |")
        cells = [total(peer, "system_seconds") for peer in self.peers]
        lines.append("| the load's own time in the kernel, s | " + " | ".join(cells) + " |")
        cells = [total(peer, "machine_seconds") for peer in self.peers]
        lines.append("| all processors' busy time during the rows, kernel threads included, s | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def _requests(self) -> str:
        if self.results["no_upcalls"]:
            return f"Upcalls were not counted: {self.results['no_upcalls']}."
        asked = [peer for peer in self.peers if any(one["peer"] == peer for one in self.results["upcalls"])]
        if not asked:
            return ""
        lines = [
            "Requests to the server for one operation of the row (a file of the tree, a 1 MiB or 4 KiB transfer), counted"
            " exactly in a round of its own; FORGETs are not in it:",
            "",
            "| row | " + " | ".join(asked) + " | " + f"{asked[0]} by opcode |",
            "| --- |" + " ---: |" * len(asked) + " --- |",
        ]
        for row in self.rows:
            counts = {peer: self.upcalls(row["id"], peer) for peer in asked}
            if not any(count is not None for count in counts.values()):
                continue
            cells = ["–" if count is None else f"{sum(count.values()):.2f}" for count in counts.values()]
            first = counts[asked[0]] or {}
            parts = sorted(first.items(), key=lambda item: -item[1])
            cells.append(", ".join(f"{name} {share:.2f}" for name, share in parts if share >= 0.005))
            lines.append(f"| {row['title']} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def put_between_markers(document: str, text: str) -> str:
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text}{END}{after}"
