"""Streams by their path with the Python SDK: created, written, read, through cuts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from runs_server import RunsServer
from tcp_proxy import TcpProxy

import pgtide
import pgtide.sync

KEY = RunsServer.root_key
PATIENCE = 60.0


@pytest.fixture
async def client(runs_server: RunsServer) -> AsyncGenerator[pgtide.Client]:
    async with pgtide.Client(runs_server.url, secret_key=KEY) as made, asyncio.timeout(PATIENCE):
        yield made


@pytest.fixture
def blocking(runs_server: RunsServer) -> Iterator[pgtide.sync.Client]:
    with pgtide.sync.Client(runs_server.url, secret_key=KEY) as made:
        yield made


@pytest.fixture
def path() -> str:
    return f"sdk/{secrets.token_hex(4)}"


async def test_a_stream_of_its_own(client: pgtide.Client, path: str) -> None:
    stream = pgtide.Stream(path, client=client)
    with pytest.raises(pgtide.NotFoundError):
        await stream.append(1)
    assert await stream.create(ttl=3600)
    assert not await stream.create(ttl=3600)
    with pytest.raises(pgtide.InvalidRequestError):
        await stream.create(content_type="text/plain")
    live = stream.read()
    for value in ({"a": 1}, [1, 2], "ü", None):
        await stream.append(value)
    values: list[Any] = []
    offsets: list[str] = []
    while len(values) < 4:
        part = await anext(live)
        values += part.data
        offsets.append(part.offset)
    assert values == [{"a": 1}, [1, 2], "ü", None]
    async with stream.writer(close=True) as out:
        await out.write("last")
    assert [part.data async for part in live] == [["last"]]
    assert [part.data async for part in stream.read(after=offsets[-1])] == [["last"]]
    known = await stream.info()
    assert (known.content_type, known.is_closed, known.ttl) == ("application/json", True, 3600)
    with pytest.raises(pgtide.StreamClosedError):
        await stream.append(5)
    await stream.delete()
    with pytest.raises(pgtide.NotFoundError):
        await anext(stream.read())


@pytest.mark.parametrize(
    ("content_type", "pieces"),
    [("text/plain", ["a\r\nb ", " c\r", "€\n"]), ("image/png", [b"\x00\xff", b"\r\n\x00"])],
)
async def test_text_and_bytes_stay_what_they_are(
    client: pgtide.Client, path: str, content_type: str, pieces: list[Any]
) -> None:
    stream = pgtide.Stream(path, client=client)
    await stream.create(content_type=content_type, data=pieces[0])
    whole = pieces[0][:0].join(pieces)
    reader = asyncio.create_task(_joined(stream.read()))
    async with pgtide.Stream(path, client=client).writer(close=True) as out:
        for piece in pieces[1:]:
            await out.write(piece)
            await out.flush()
    assert await reader == whole


async def _joined(parts: pgtide.Subscription[pgtide.StreamPart]) -> Any:
    found: list[Any] = [part.data async for part in parts]
    return found[0][:0].join(found)


async def test_a_named_producer_of_a_stream_goes_on(runs_server: RunsServer, path: str) -> None:
    """Through cuts, and with another process each time."""
    port = urlsplit(runs_server.url).port
    assert port is not None
    proxy = TcpProxy(port)
    async with proxy.running(), asyncio.timeout(PATIENCE):
        url = f"http://127.0.0.1:{proxy.port}"
        async with pgtide.Client(url, secret_key=KEY) as client:
            stream = pgtide.Stream(path, client=client)
            await stream.create()
            for end in (40, 80, 120):
                async with stream.writer(producer="w") as out:
                    for number in range(out.position, end):
                        await out.write(number)
                        if number % 15 == 7:
                            await asyncio.sleep(0.005)
                            proxy.cut()
            assert out.position == 120
            parts = [part.data async for part in stream.read(live=False)]
    assert [value for part in parts for value in part] == list(range(120))


def test_a_stream_of_its_own_without_asyncio(blocking: pgtide.sync.Client, path: str) -> None:
    stream = pgtide.sync.Stream(path, client=blocking)
    stream.create(content_type="text/plain")
    stream.append("a")
    stream.pipe(iter(["b", "c"]), close=True).wait_until_complete()
    assert "".join(str(part.data) for part in stream.read()) == "abc"
