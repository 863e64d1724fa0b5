"""A position in one pgoutput message, with the checks that make every error exact."""

from __future__ import annotations

from struct import Struct
from typing import Any

from engine.errors import ProtocolError
from engine.lsn import Lsn

_NEXT_STEP = "reconnect to read from the slot again"


class MessageReader:
    """Reads the message that fills `buffer` from `start` on, from its kind byte to its end.

    Each method takes what it reads in words, for the error if that is not there. All raise
    ProtocolError and nothing else, and none copies more than the message has.
    """

    __slots__ = ("_buffer", "_position", "_start")

    def __init__(self, buffer: bytes, start: int) -> None:
        self._buffer = buffer
        self._start = start
        self._position = start

    @property
    def rest(self) -> int:
        """How many bytes are left."""
        return max(len(self._buffer) - self._position, 0)

    def refusal(
        self, expected: str, *, back: int = 0, next_step: str | None = None
    ) -> ProtocolError:
        """The error that `expected` was not found `back` bytes before here."""
        at = self._position - back
        kind = self._buffer[self._start : self._start + 1]
        found = f"0x{self._buffer[at]:02x}" if at < len(self._buffer) else "its end"
        return ProtocolError(
            f"pgoutput message {kind!r}, byte {at - self._start}: expected {expected}, "
            f"found {found}; {next_step or _NEXT_STEP}"
        )

    def take(self, size: int, what: str) -> bytes:
        if size > self.rest:
            raise self.refusal(f"{what} ({size} bytes, of which {self.rest} are there)")
        begin = self._position
        self._position += size
        return self._buffer[begin : self._position]

    def u8(self, what: str) -> int:
        return self.take(1, what)[0]

    def u16(self, what: str) -> int:
        return int.from_bytes(self.take(2, what), "big")

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "big")

    def i32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "big", signed=True)

    def lsn(self, what: str) -> Lsn:
        return Lsn(int.from_bytes(self.take(8, what), "big"))

    def fields(self, layout: Struct, what: str) -> tuple[Any, ...]:
        """The numbers of a fixed layout."""
        size = layout.size
        if size > self.rest:
            raise self.refusal(f"{what} ({size} bytes, of which {self.rest} are there)")
        self._position += size
        return layout.unpack_from(self._buffer, self._position - size)

    def one_of(self, allowed: bytes, what: str) -> int:
        """A byte out of `allowed`."""
        byte = self.u8(what)
        if byte not in allowed:
            raise self.refusal(f"{what} ({', '.join(map(chr, allowed))})", back=1)
        return byte

    def text(self, size: int, what: str) -> str:
        """`size` bytes of UTF-8."""
        try:
            return self.take(size, what).decode()
        except UnicodeDecodeError as error:
            raise self.refusal(
                f"{what} in UTF-8",
                back=size - error.start,
                next_step="replicate with client_encoding UTF8, from a database whose encoding is "
                "not SQL_ASCII",
            ) from None

    def string(self, what: str) -> str:
        """UTF-8 up to a zero byte."""
        end = self._buffer.find(b"\0", self._position)
        if end < 0:
            raise self.refusal(f"{what} that a zero byte ends")
        text = self.text(end - self._position, what)
        self._position += 1
        return text

    def schema(self) -> str:
        return self.string("a schema's name") or "pg_catalog"

    def end(self) -> None:
        """Refuse what comes after the message."""
        if self.rest:
            raise self.refusal("the message's end")
