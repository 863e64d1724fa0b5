"""How much of streams a node holds for clients that are being sent pages."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

PAGE_BYTES: Final = 4 << 20
"""Of a stream, what one answer has at most."""

FIRST_PAGE_BYTES: Final = 512 << 10
"""What it has at most for those who begin, so that they have something soon."""

SMALL_PAGE_BYTES: Final = 16 << 10
"""What it has at least, if there is so much, however many clients are slow."""

ROOM_BYTES: Final = 24 << 20


class PageRoom:
    """A page takes a part of what is left, so that it gets smaller pages when many clients are slow.

    A page may be ended anywhere: its client asks for the next one.
    """

    def __init__(self, room: int = ROOM_BYTES) -> None:
        self._left = room

    @contextmanager
    def page(self, *, first: bool = False) -> Generator[int]:
        """How many bytes a page should have at most, for as long as it is held."""
        most = min(FIRST_PAGE_BYTES if first else PAGE_BYTES, max(SMALL_PAGE_BYTES, self._left // 4))
        self._left -= most
        try:
            yield most
        finally:
            self._left += most
