# SPDX-License-Identifier: GPL-2.0-or-later
"""The picture: speed relative to the kernel's ext4, a bar for each row and peer, on a logarithmic scale."""

import math
from xml.sax.saxutils import escape

from report import Report, number

# Told apart by colour-blind readers too, and on a dark page.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
WIDTH, LEFT, RIGHT, TOP = 960, 400, 70, 64
BAR, GAP = 11, 9
STANDARD = "ext4"


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def picture(report: Report) -> str:
    peers = [peer for peer in report.peers if peer != STANDARD]
    rows = [row for row in report.rows if any(report.ratio(row, peer, STANDARD) for peer in peers)]
    ratios = [ratio for row in rows for peer in peers if (ratio := report.ratio(row, peer, STANDARD))]
    low = math.floor(math.log10(min(ratios + [0.1])))
    high = math.ceil(math.log10(max(ratios + [2.0])) * 2) / 2
    plot = WIDTH - LEFT - RIGHT

    def place(ratio: float) -> float:
        return LEFT + plot * (math.log10(ratio) - low) / (high - low)

    height_of_row = len(peers) * BAR + GAP
    height = TOP + len(rows) * height_of_row + 40
    bottom = height - 36
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' font-family="sans-serif" role="img">',
        "<title>Speed relative to the kernel's ext4</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(12, 22, "Speed relative to the kernel's ext4 (1 is as fast; logarithmic; longer is better)", size=15),
    ]
    for index, peer in enumerate(peers):
        x = 12 + index * 130
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{COLOURS[index % len(COLOURS)]}"/>')
        parts.append(text(x + 18, 44, peer))
    for exponent in range(low, math.floor(high) + 1):
        for factor in (1, 2, 5):
            tick = factor * 10.0**exponent
            if math.log10(tick) > high + 1e-9:
                continue
            x = place(tick)
            colour, width = ("#333333", 1.5) if tick == 1 else ("#dddddd", 1)
            parts.append(
                f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}" stroke-width="{width}"/>'
            )
            parts.append(text(x, bottom + 16, f"{tick:g}", anchor="middle", size=11))
    for index, row in enumerate(rows):
        top = TOP + index * height_of_row
        parts.append(text(LEFT - 10, top + height_of_row / 2, row["title"], anchor="end"))
        for place_in_row, peer in enumerate(peers):
            y = top + place_in_row * BAR
            ratio = report.ratio(row, peer, STANDARD)
            if not ratio:
                parts.append(text(LEFT + 4, y + BAR - 2, "no figure", size=9, extra=' fill="#777777"'))
                continue
            colour = COLOURS[place_in_row % len(COLOURS)]
            end = place(ratio)
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR - 1}" fill="{colour}"/>')
            parts.append(text(end + 4, y + BAR - 2, number(ratio), size=9))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
