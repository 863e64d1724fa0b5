"""Reads a stream as Trigger.dev's packages do, event by event."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
from back_ends import BackEnd

STREAMS = "/realtime/v1/streams"


class Record(NamedTuple):
    """`data` is the message, None for a control record."""

    number: int
    data: Any
    id: str | None
    timestamp: int
    headers: list[list[str]]


class StreamReader:
    """An event stream that is open. Reading raises httpx.TransportError if it is cut off."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.reason: str | None = None
        """What was said before the end."""
        self._lines = _lines(response.iter_bytes())
        self._records = self._read()

    @property
    def status(self) -> int:
        return self.response.status_code

    def take(self, count: int) -> list[Record]:
        """The next so many records."""
        found = [record for _, record in zip(range(count), self._records, strict=False)]
        assert len(found) == count, (found, self.reason)
        return found

    def messages(self, count: int) -> list[Any]:
        return [record.data for record in self.take(count)]

    def rest(self) -> list[Record]:
        """All until the end, which has to be one in order."""
        return list(self._records)

    def _read(self) -> Iterator[Record]:
        event, data = "message", ""
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                data = value
            elif not line:
                if event == "batch":
                    yield from map(_record, json.loads(data)["records"])
                elif event == "end":
                    self.reason = json.loads(data)["reason"]
                event, data = "message", ""


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(bytes.decode, lines)
    assert not rest


def _record(given: dict[str, Any]) -> Record:
    body = json.loads(given["body"]) if given["body"] else {"data": None, "id": None}
    assert body.keys() == {"data", "id"}
    headers = given.get("headers", [])
    return Record(given["seq_num"], body["data"], body["id"], given["timestamp"], headers)


@contextmanager
def reading(
    back_end: BackEnd, path: str, headers: Mapping[str, str] | None = None
) -> Generator[StreamReader]:
    """The stream under a path, for as long as this lasts; a `path` without a slash at its beginning is
    below that of runs' streams."""
    url = back_end.url + (path if path.startswith("/") else f"{STREAMS}/{path}")
    sent = {"authorization": f"Bearer {back_end.key}", **(headers or {})}
    with (
        httpx.Client(timeout=20) as client,
        client.stream("GET", url, headers=sent) as response,
    ):
        yield StreamReader(response)
