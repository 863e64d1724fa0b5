"""Packets: payloads and outputs that are too large for a run's row, kept in a table of their own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

import orjson

from engine.errors import PgtideError
from shapes.access.authority import Authority
from shapes.database import Database

MOST_BYTES = 10 << 20
MOST_NAME_CHARACTERS = 1024
UPLOAD_SECONDS = 900
DOWNLOAD_SECONDS = 900
STORE = "application/store"
"""The type of a payload or an output that is the path of a packet."""

_USUAL_TYPE = "application/octet-stream"
_MOST_TYPE_CHARACTERS = 255


class PacketAddressError(PgtideError):
    """An address that was not given out here, or is too old."""

    code = "packet_address"


class Packet(NamedTuple):
    content_type: str
    data: bytes


class PacketAddresses:
    """Addresses at which one packet may be uploaded or downloaded for a while, by whoever has them."""

    def __init__(self, authority: Authority, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._authority = authority
        self._now = now

    def upload(self, base: str, environment: str, path: str) -> str:
        return self._address(base, "PUT", environment, path, UPLOAD_SECONDS)

    def download(self, base: str, environment: str, path: str) -> str:
        return self._address(base, "GET", environment, path, DOWNLOAD_SECONDS)

    def check(self, method: str, environment: str, path: str, expires: str, seal: str) -> None:
        """Raises PacketAddressError unless an address with these parts was made for this method."""
        method = "GET" if method == "HEAD" else method
        text = _sealed_text(method, path, expires)
        if not self._authority.is_sealed(environment, text, seal):
            raise PacketAddressError("this address was not given out here")
        if int(expires) < self._now():
            raise PacketAddressError("this address has expired: ask for a new one")

    def _address(self, base: str, method: str, environment: str, path: str, seconds: int) -> str:
        expires = str(int(self._now()) + seconds)
        seal = self._authority.seal(environment, _sealed_text(method, path, expires))
        where = f"{quote(environment, safe='')}/{quote(path, safe='')}"
        return f"{base}/api/v1/packet-data/{where}?expires={expires}&seal={seal}"


def _sealed_text(method: str, path: str, expires: str) -> str:
    return orjson.dumps(["packet", method, path, expires]).decode()


def new_path(name: str) -> str:
    """Where to store a packet that a client has a name for. It cannot be guessed: whoever may start a
    run may give any path for its payload, and then read what is there."""
    return f"{secrets.token_hex(16)}/{name}"


class Packets:
    """The stored packets, in one environment at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, environment: str, path: str, packet: Packet) -> None:
        """A packet that is there already is replaced: uploads are repeated when answers get lost.

        Raises DatabaseUnavailableError.
        """
        kind = packet.content_type[:_MOST_TYPE_CHARACTERS] or _USUAL_TYPE
        async with self._database.work() as work:
            await work.execute(
                "insert into pgtide.packets (environment_id, path, content_type, data)"
                " values ($1, $2, $3, $4) on conflict (environment_id, path) do update"
                " set content_type = excluded.content_type, data = excluded.data, created_at = now()",
                *(environment, path, kind, packet.data),
            )

    async def load(self, environment: str, path: str) -> Packet | None:
        """Raises DatabaseUnavailableError."""
        async with self._database.work() as work:
            row = await work.fetchrow(
                "select content_type, data from pgtide.packets"
                " where environment_id = $1 and path = $2",
                *(environment, path),
            )
        return None if row is None else Packet(row[0], row[1])
