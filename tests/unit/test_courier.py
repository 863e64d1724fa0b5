"""Posting webhooks: to whom, and what answers do to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from shapes.streams.subscriptions import courier as module
from shapes.streams.subscriptions.courier import Courier, DeliveryError
from shapes.streams.subscriptions.refusals import Code, SubscriptionError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab"


@asynccontextmanager
async def listening(serve: Serve) -> AsyncGenerator[int]:
    """A port where each connection is served by this; it is closed afterwards."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def saying(*pieces: bytes, wait: bool = False) -> Serve:
    """Says this once it has the whole request; with `wait` it does not hang up then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if wait:
            await reader.read()

    return serve


async def post(serve: Serve, **settings: Any) -> module.Answer:
    async with listening(serve) as port:
        return await Courier(local=True, **settings).post(
            f"http://127.0.0.1:{port}/hook?a=1", b"{}", {"webhook-signature": "t=1"}
        )


async def test_what_is_posted() -> None:
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/hook?a=1"
        answer = await Courier(local=True).post(url, b"{}", {"webhook-signature": "t=1"})
    assert answer == (200, b"ok")
    head, _, body = heard.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    assert (first, body) == ("POST /hook?a=1 HTTP/1.1", b"{}")
    assert {
        *(f"host: 127.0.0.1:{port}", "content-type: application/json", "content-length: 2"),
        *("connection: close", "webhook-signature: t=1"),
    } <= set(fields)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), (204, b"")),
        ((b"HTTP/1.1 200 OK\r\n\r\nuntil the end",), (200, b"until the end")),
        (
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab",
                b"\r\n1\r\nc\r\n0\r\n\r\n",
            ),
            (200, b"abc"),
        ),
        (
            (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
            (200, b"x"),
        ),
        # Not followed: that would lead around what was judged.
        (
            (b"HTTP/1.1 307 Away\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n",),
            (307, b""),
        ),
    ],
)
async def test_answers(pieces: tuple[bytes, ...], expected: tuple[int, bytes]) -> None:
    assert await post(saying(*pieces)) == expected


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"SSH-2.0-OpenSSH\r\n", b"\0\0\0"])
async def test_what_is_no_answer(said: bytes) -> None:
    with pytest.raises(DeliveryError):
        await post(saying(said))


def never_ending(head: bytes, more: bytes) -> Serve:
    """Says `more` until nobody listens any more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        with suppress(ConnectionError):
            while True:
                writer.write(more)
                await writer.drain()

    return serve


async def test_an_endless_answer_is_cut() -> None:
    answer = await post(never_ending(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536))
    assert answer.status == 200
    assert len(answer.body) < module.MOST_BYTES


async def test_endless_headers_are_cut() -> None:
    with pytest.raises(DeliveryError):
        await post(never_ending(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 1000))


async def test_who_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.1)
    for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"):
        with pytest.raises(DeliveryError, match="no answer"):
            await post(saying(said, wait=True))


async def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DeliveryError, match="connection failed"):
        await Courier(local=True).post(f"http://127.0.0.1:{port}/", b"{}", {})
    with pytest.raises(DeliveryError, match="resolved"):
        await Courier(local=False).post("https://nobody.invalid/", b"{}", {})


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names resolve to these addresses, one answer after the other; the last one stays. The names."""
    asked: list[str] = []
    left = list(answers)

    async def getaddrinfo(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["::1"], ["8.8.8.8", "10.0.0.1"]],
)
async def test_names_that_lead_inside(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    resolving(monkeypatch, addresses)
    with pytest.raises(SubscriptionError) as caught:
        await Courier(local=True).check("https://inside.example.com/")
    assert caught.value.why is Code.WEBHOOK_URL_REJECTED
    with pytest.raises(DeliveryError, match="private"):
        await Courier(local=True).post("https://inside.example.com/", b"{}", {})


async def test_a_name_that_moves_inside_after_it_was_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = resolving(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    courier = Courier(local=True)
    await courier.check("https://moving.example.com/")
    with pytest.raises(DeliveryError, match="private"):
        await courier.post("https://moving.example.com/", b"{}", {})
    assert asked == ["moving.example.com"] * 2


async def test_the_name_is_resolved_once_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look would be where another address comes in. An address needs none."""
    said = saying(b"HTTP/1.1 204 No Content\r\n\r\n")
    async with listening(said) as port:
        asked = resolving(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
        answer = await Courier(local=True).post(f"http://localhost:{port}/", b"{}", {})
    assert answer.status == 204
    assert [name for name in asked if name == "localhost"] == ["localhost"]
