"""Posts webhooks: HTTP/1.1 over a connection to an address that has been looked at.

The name is resolved here, once, and the connection is made to what was judged, so that a name that
resolves to something else a moment later (DNS rebinding) leads nowhere. Redirects are not followed,
proxies of the environment not asked.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

import httptools

from engine.errors import PgtideError
from shapes.streams.subscriptions.addresses import Target, may_reach, rejected, target_of
from shapes.streams.subscriptions.refusals import SubscriptionError

SECONDS: Final = 30.0
"""For everything together, from resolving the name to the end of the answer."""

CONNECT_SECONDS: Final = 10.0
RESOLVE_SECONDS: Final = 3.0
MOST_BYTES: Final = 64 << 10
"""Of an answer, with its headers."""

_PIECE_BYTES = 16 << 10
_AGENT = "pgtide"

Address = IPv4Address | IPv6Address


class DeliveryError(PgtideError):
    """A webhook did not get through, or was not answered as it has to be."""

    code = "webhook_failed"


class Answer(NamedTuple):
    status: int
    body: bytes


class Courier:
    """Posts to wherever the settings allow. `local`: also to this machine over plain HTTP; `trusted`:
    hosts (`name` or `name:port`) that may be anywhere."""

    def __init__(self, *, local: bool, trusted: Iterable[str] = ()) -> None:
        self._local = local
        self._trusted = frozenset(host.lower() for host in trusted)
        self._context: ssl.SSLContext | None = None

    async def check(self, url: str) -> None:
        """Raises SubscriptionError if this is no URL to post to; a name that cannot be resolved right
        now may be one later."""
        target = target_of(url, local=self._local, trusted=self._trusted)
        with suppress(DeliveryError):
            await _resolved(target)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer, whatever its status. Raises DeliveryError."""
        try:
            async with asyncio.timeout(SECONDS):
                target = target_of(url, local=self._local, trusted=self._trusted)
                addresses = await _resolved(target)
                reader, writer = await self._connected(target, addresses)
                try:
                    writer.write(_request(target, body, headers))
                    return await _read(reader)
                finally:
                    writer.transport.abort()
        except SubscriptionError as error:
            raise DeliveryError(str(error)) from error
        except TimeoutError:
            raise DeliveryError(f"there was no answer within {SECONDS:.0f} s") from None
        except ssl.SSLError as error:
            raise DeliveryError(f"TLS failed: {error.reason or 'handshake'}") from error
        except OSError as error:
            raise DeliveryError(f"the connection failed ({error.strerror or 'lost'})") from error

    async def _connected(
        self, target: Target, addresses: list[Address]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first of the addresses that can be reached."""
        if target.secure and self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
        failure: OSError | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(
                        str(address),
                        target.port,
                        ssl=self._context if target.secure else None,
                        server_hostname=target.host if target.secure else None,
                        limit=MOST_BYTES,
                    )
            except OSError as error:
                # Also TimeoutError, which is one.
                failure = error
        assert failure is not None
        raise failure


async def _resolved(target: Target) -> list[Address]:
    """The addresses of the target's name. Raises SubscriptionError if it may not be one of them, and
    DeliveryError if there is none."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise DeliveryError("the name of its host cannot be resolved") from None
    # A name that leads to a forbidden address as well is not to be trusted with the others.
    addresses = [ip_address(one[4][0]) for one in found]
    if not all(may_reach(target, address) for address in addresses):
        raise rejected("webhook.url must not lead to a private or special address")
    return list(dict.fromkeys(addresses))


def _request(target: Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    fields = {
        "host": target.authority,
        "user-agent": _AGENT,
        "accept": "application/json",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **headers,
    }
    lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


class _Response:
    """What the parser calls."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body: list[bytes] = []
        self.headers_complete = self.complete = False

    def on_headers_complete(self) -> None:
        # Informational answers (100 Continue) come before the real one.
        self.headers_complete = self.parser.get_status_code() >= 200

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.complete = self.headers_complete


async def _read(reader: asyncio.StreamReader) -> Answer:
    """The answer; what is too long ends where it becomes that."""
    response = _Response()
    left = MOST_BYTES
    while left > 0 and not response.complete:
        data = await reader.read(min(left, _PIECE_BYTES))
        if not data:
            break
        left -= len(data)
        try:
            response.parser.feed_data(data)
        except httptools.HttpParserError:
            raise DeliveryError("the answer is not HTTP") from None
    if not response.headers_complete:
        raise DeliveryError("there was no whole answer")
    return Answer(response.parser.get_status_code(), b"".join(response.body))
