"""How much memory a process takes."""

from __future__ import annotations

import psutil


class Memory:
    """The largest growth of a process, in bytes: all of it, and what is not backed by files.

    Pages of the log that it has touched count in the first, but belong to the page cache.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._begin = self._now()
        self.resident = self.private = 0

    def _now(self) -> tuple[int, int]:
        info = self._process.memory_info()
        return info.rss, info.rss - getattr(info, "shared", 0)

    def sample(self) -> None:
        resident, private = self._now()
        self.resident = max(self.resident, resident - self._begin[0])
        self.private = max(self.private, private - self._begin[1])

    def __str__(self) -> str:
        return f"{self.private >> 20} MiB, {self.resident >> 20} with the log's pages"
