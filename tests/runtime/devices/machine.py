"""A /proc and a /sys/fs/cgroup made of files."""

from __future__ import annotations

import os

from roundhouse.runtime.devices.ram import RamReader

MIB = 1024**2
GIB = 1024**3
PAGE = os.sysconf("SC_PAGE_SIZE")


class Machine:
    def __init__(self, folder) -> None:
        self.proc = folder / "proc"
        self.cgroups = folder / "cgroup"
        self.write(self.proc / "meminfo", f"MemTotal: {16 * MIB} kB\nMemFree: 1 kB\nMemAvailable: {12 * MIB} kB\n")
        self.write(self.proc / "self/cgroup", "0::/\n")

    def write(self, path, text) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def process(self, pid, parent, name, rss, pss=None, file=0) -> None:
        """Without `pss` it is one that we may not look into: only what /proc tells everybody."""
        fields = ["S", str(parent), *["0"] * 19, str(rss // PAGE), "0"]
        self.write(self.proc / f"{pid}/stat", f"{pid} ({name}) {' '.join(fields)}\n")
        if pss is not None:
            rollup = f"00-ff ---p 00 00:00 0 [rollup]\nRss: 1 kB\nPss: {pss // 1024} kB\nPss_File: {file // 1024} kB\n"
            self.write(self.proc / f"{pid}/smaps_rollup", rollup)
        else:
            status = (
                f"Name:\t{name}\nVmRSS:\t{rss // 1024} kB\nRssAnon:\t1 kB\nRssFile:\t{file // 1024} kB\nThreads:\t1\n"
            )
            self.write(self.proc / f"{pid}/status", status)

    def ram(self) -> RamReader:
        return RamReader(self.proc, self.cgroups)
