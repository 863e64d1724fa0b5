"""What processes use: CPU seconds and memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil


class Memory(NamedTuple):
    """Bytes. `pss` is what is resident, pages that several processes share divided among them.
    `anonymous` is what is not pages of files, which the kernel can drop (the log is one).
    The latter two are 0 where the system does not tell."""

    rss: int
    pss: int
    anonymous: int


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of exactly these processes since they began; one that ended is an error.

    The kernel counts in steps of 10 ms: measure over seconds.
    """
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


def tree_cpu_seconds(pid: int) -> float:
    """The same of a process and all its descendants, those that have ended included."""
    root = psutil.Process(pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory(pid: int) -> Memory:
    try:
        return Memory(
            psutil.Process(pid).memory_info().rss,
            _proc(pid, "smaps_rollup", "Pss"),
            _proc(pid, "status", "RssAnon"),
        )
    except OSError:
        return Memory(psutil.Process(pid).memory_info().rss, 0, 0)


def _proc(pid: int, file: str, field: str) -> int:
    """Bytes that a line of a file in /proc gives in kB."""
    for line in Path("/proc", str(pid), file).read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


class Bystanders:
    """How much of the machine everybody else used while we measured."""

    def __init__(self) -> None:
        self._began = self._now()

    def share(self) -> float:
        """Others' share of all cores since this object was made, 0 to 1."""
        busy, idle, ours = (now - then for now, then in zip(self._now(), self._began, strict=True))
        return max(0.0, busy - ours) / max(busy + idle, 1e-9)

    def _now(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle = times.idle + float(getattr(times, "iowait", 0.0))
        # guest time is contained in user time already.
        fields = ("user", "nice", "system", "irq", "softirq", "steal")
        busy = sum(float(getattr(times, name, 0.0)) for name in fields)
        return busy, idle, tree_cpu_seconds(os.getpid())
