"""The messages of the copy stream in which Postgres's walsender and its reader talk (the manual's
"Streaming Replication Protocol"): WAL data, keepalives, standby status updates.

Pure. Times are in microseconds since the Unix epoch.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from engine.errors import ProtocolError
from engine.lsn import Lsn

POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01, from which Postgres counts its microseconds, in those of the Unix epoch."""

XLOG_DATA: Final = 0x77
"""First byte (`w`) of a message that holds a piece of the WAL."""

KEEPALIVE: Final = 0x6B
"""First byte (`k`) of a keepalive."""

XLOG_HEADER: Final = 25
"""Where in an XLogData message the payload begins: one whole pgoutput message."""

_XLOG_DATA = Struct(">xQQq")
_KEEPALIVE = Struct(">xQqB")
_STATUS_UPDATE = Struct(">cQQQqB")


class XLogData(NamedTuple):
    """The header of a piece of the WAL. pgoutput's LSNs are 0 for messages that no record caused;
    its `start_lsn` and `end_lsn` are equal. `clock_us` is when the server sent it."""

    start_lsn: Lsn
    end_lsn: Lsn
    clock_us: int


class Keepalive(NamedTuple):
    """The server is alive, and its WAL ends at `wal_end` as far as it has been read."""

    wal_end: Lsn
    clock_us: int
    reply_requested: bool


def decode_xlog_data(message: bytes) -> XLogData:
    """The header; the payload is the message from byte `XLOG_HEADER` on. Raises ProtocolError."""
    if len(message) < XLOG_HEADER or message[0] != XLOG_DATA:
        raise _refusal(message, XLOG_DATA, "at least", XLOG_HEADER)
    start_lsn, end_lsn, clock = _XLOG_DATA.unpack_from(message)
    return XLogData(start_lsn, end_lsn, clock + POSTGRES_EPOCH_US)


def decode_keepalive(message: bytes) -> Keepalive:
    """Raises ProtocolError if `message` is no primary keepalive."""
    if len(message) != _KEEPALIVE.size or message[0] != KEEPALIVE:
        raise _refusal(message, KEEPALIVE, "exactly", _KEEPALIVE.size)
    wal_end, clock, reply_requested = _KEEPALIVE.unpack(message)
    return Keepalive(wal_end, clock + POSTGRES_EPOCH_US, reply_requested != 0)


def standby_status_update(
    written: int, flushed: int, applied: int, clock_us: int, reply_requested: bool
) -> bytes:
    """Tells the server how far this side has come; it releases WAL and old rows up to `flushed`.

    Each LSN is that of the byte after the last one written, flushed, applied. `reply_requested`
    asks for a keepalive at once.
    """
    clock = clock_us - POSTGRES_EPOCH_US
    return _STATUS_UPDATE.pack(b"r", written, flushed, applied, clock, reply_requested)


def _refusal(message: bytes, kind: int, bound: str, size: int) -> ProtocolError:
    return ProtocolError(
        f"copy stream: expected {kind:c} and {bound} {size} bytes, found {message[:1]!r} and "
        f"{len(message)} bytes; reconnect to read from the slot again"
    )
