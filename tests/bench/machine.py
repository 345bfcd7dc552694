# SPDX-License-Identifier: GPL-2.0-or-later
"""Names the machine, so that figures can be judged."""

import datetime
import os
import re

from peers import words_of


def first_match(path: str, pattern: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return "unknown"
    return found.group(1).strip() if found else "unknown"


def describe(directory: str) -> dict[str, str]:
    memory = first_match("/proc/meminfo", r"^MemTotal:\s*(\d+) kB")
    source = words_of("findmnt", "-n", "-o", "SOURCE,FSTYPE", "-T", directory).split()
    disk = words_of("lsblk", "-n", "-d", "-o", "NAME,MODEL,SIZE,ROTA", source[0]).split() if source else []
    virtual = words_of("systemd-detect-virt", "--vm")
    return {
        "date": datetime.date.today().isoformat(),
        "processor": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$"),
        "processors": str(os.cpu_count()),
        "memory": f"{int(memory) / (1 << 20):.0f} GiB" if memory.isdigit() else memory,
        "kernel": os.uname().release,
        "system": first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)'),
        "virtual": virtual if re.fullmatch(r"[a-z-]+", virtual) else "unknown",
        "disk": f"{' '.join(disk[:-1])} holding {source[1]}" if len(source) == 2 and disk else " ".join(source),
        "load": f"{os.getloadavg()[0]:.1f}",
        "fio": words_of("fio", "--version"),
        "mkfs.ext4": (words_of("mkfs.ext4", "-V").split() + ["", "unknown"])[1],
    }
