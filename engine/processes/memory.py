"""How the processes use Python's memory."""

from __future__ import annotations

import ctypes
import gc
import sys


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
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        # Only glibc keeps what was freed below its top, and has a way to ask for it.
        trim(0)
