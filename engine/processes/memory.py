"""How the processes use Python's memory."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import NamedTuple

_LIBRARY = ctypes.CDLL(None)

BLOCK_BYTES = 160
"""Of one of Python's objects, about: rather more, so that nothing counts as useless that is not."""

_MALLINFO_FIELDS = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
)


def collect_rarely() -> None:
    """Call once everything is imported: from now on the cycle collector runs far less often.

    Decoding makes many short-lived lists and no cycles; with the default thresholds looking for some
    among 10,000 shapes costs 1.5 of 6 microseconds per change.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def give_back() -> None:
    """Return to the system what is not used any more. Call it after much has been let go of: it takes
    about 200 ns per object that is still there."""
    gc.collect()
    # It holds names that were made at all times: each keeps one of Python's arenas, a megabyte.
    clear = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if clear is not None:
        clear()
    trim = getattr(_LIBRARY, "malloc_trim", None)
    if trim is not None:
        # Only glibc keeps what was freed below its top, and has a way to ask for it.
        trim(0)


class Use(NamedTuple):
    """What a process has of memory that belongs to it alone, and what it has a use for, in bytes.

    The latter is without what was there before Python counted.
    """

    private: int
    needed: int


class Footprint:
    """A process's memory, compared with what it had when this was made."""

    def __init__(self) -> None:
        self._first = use()

    @property
    def first(self) -> int:
        """What it had then; 0 where that is unknown."""
        return self._first.private if self._first is not None else 0

    def surplus(self) -> int:
        """Bytes that it has more than then without needing them; 0 where that cannot be told.

        Python gives memory back by the megabyte, when nothing in it is left.
        """
        now = use()
        if now is None or self._first is None:
            return 0
        return max(0, now.private - self._first.private - max(0, now.needed - self._first.needed))


def use() -> Use | None:
    """Of this process, now; None where the system (Linux) or its C library (glibc) does not tell."""
    mallinfo = getattr(_LIBRARY, "mallinfo2", None)
    if mallinfo is None:
        return None
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    mallinfo.restype = _Mallinfo
    counted = mallinfo()
    private = int(status.partition("RssAnon:")[2].split(maxsplit=1)[0]) << 10
    blocks = sys.getallocatedblocks() * BLOCK_BYTES
    return Use(private, blocks + counted.uordblks + counted.hblkhd)


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (*_MALLINFO_FIELDS, "fordblks", "keepcost")]
