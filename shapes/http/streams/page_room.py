"""How much of streams a node holds for clients that are being sent pages. Pure."""

from __future__ import annotations

from typing import Final

from shapes.http.streams.fields import StreamRequestError

PAGE_BYTES: Final = 4 << 20
"""Of a stream, what one answer has at most, unless more was appended at once."""

FIRST_PAGE_BYTES: Final = 512 << 10
"""What it has at most for those who begin, so that they have something soon."""

SMALL_PAGE_BYTES: Final = 16 << 10
"""What it has at least, if there is so much, however many clients are slow."""

ROOM_BYTES: Final = 24 << 20

MOST_BYTES: Final = 256 << 20
"""Beyond, nobody gets a page before others have taken theirs. What was appended at once, up to 16 MiB,
cannot be cut."""

RETRY_SECONDS: Final = 5


class PageRoom:
    """A page takes a part of what is left, so that clients get smaller ones when many are slow.

    A page may be ended anywhere: its client asks for the next one.
    """

    def __init__(self) -> None:
        self.held = 0
        """Bytes."""

    def page(self, *, first: bool = False) -> Page:
        """Room for a page, for as long as it is held. Raises StreamRequestError (503)."""
        if self.held >= MOST_BYTES:
            raise StreamRequestError(
                "too many clients are slow to take what they are sent", 503, RETRY_SECONDS
            )
        most = max(SMALL_PAGE_BYTES, (ROOM_BYTES - self.held) // 4)
        return Page(self, min(FIRST_PAGE_BYTES if first else PAGE_BYTES, most))


class Page:
    """Room for a page of at most about `most` bytes."""

    __slots__ = ("_room", "_size", "most")

    def __init__(self, room: PageRoom, most: int) -> None:
        self.most = most
        self._room = room
        self._size = 0

    def __enter__(self) -> Page:
        self.has(self.most)
        return self

    def __exit__(self, *_: object) -> None:
        self.has(0)

    def has(self, size: int) -> None:
        """So large it is."""
        self._room.held += size - self._size
        self._size = size
