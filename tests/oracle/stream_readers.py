"""Readers of streams that stop and go on at random, and remember all they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any

from http_connection import HttpConnection, HttpError, Response
from stream_truth import MARK
from stream_writers import JSON, Past

_TAG = re.compile(r'"([0-9]+)-([0-9]+):([0-9]+)')


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read at once. `stream` is the id of the one that it is of, if that was told; `asked`
    where it was to begin, if that was a position."""

    kind: str
    path: str
    begin: int
    end: int
    data: Any
    closed: bool = False
    stream: int | None = None
    asked: int | None = None


class StreamReader:
    """Reads until `ends`, then `finish` reads on to the ends of lasting streams."""

    def __init__(self, name: str, random: Random, url: str, past: Past) -> None:
        self.name = name
        self._random = random
        self._url = url
        self._past = past
        self._connection: HttpConnection | None = None
        self._places: dict[tuple[str, str], int] = {}
        self.pieces: list[Piece] = []
        self.faults: list[str] = []
        self.seen: Counter[str] = Counter()
        self._shape: dict[str, str] = {}
        self._rows: set[int] = set()

    async def read(self, ends: float) -> None:
        while time.monotonic() < ends:
            path = self._path()
            kind = self._random.choice(("page", "page", "poll", "sse", "run"))
            try:
                # Cut off in the middle of everything.
                async with asyncio.timeout(self._random.choice((0.01, 0.1, 0.5, 2))):
                    await self._some(kind, path, self._random.randint(1, 6))
            except (TimeoutError, HttpError, OSError):
                self.seen["cut"] += 1
                await self._disconnect()
            if self._random.random() < 0.3:
                await self._disconnect()
        await self._disconnect()

    async def finish(self, kind: str, path: str, end: int) -> None:
        """Go on from where it was until a stream's end."""
        async with asyncio.timeout(20):
            while self._places.get((kind, path), 0) < end:
                with contextlib.suppress(HttpError, OSError):
                    await self._some(kind, path, 50, until=end)
                await self._disconnect()

    async def _some(self, kind: str, path: str, most: int, until: int | None = None) -> None:
        match kind:
            case "page" | "poll":
                await self._pages(kind, path, most, until)
            case "sse":
                await self._events(path, most, until)
                await self._disconnect()
            case _:
                await self._records(most, until)
                await self._disconnect()

    def _path(self) -> str:
        random, past = self._random, self._past
        groups = [past.lasting, past.lasting, [f"{past.prefix}/{one}" for one in ("gone", "ttl")]]
        if past.closed:
            groups.append(past.closed[-3:])
        if past.forked:
            groups.append([fork[4] for fork in past.forked[-4:]])
        return random.choice(random.choice(groups))

    def _place(self, kind: str, path: str, until: int | None) -> int:
        known = self._places.get((kind, path), 0)
        if until is not None or self._random.random() < 0.7:
            return known
        return self._random.randint(0, known)

    async def _ask(self, path: str, parameters: dict[str, str], **headers: str) -> Response:
        if self._connection is None:
            self._connection = await HttpConnection.open(self._url)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._connection.get(path, parameters, sent)

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    # -- by pages and long polls -------------------------------------------------------------------

    async def _pages(self, kind: str, path: str, most: int, until: int | None) -> None:
        place = self._place(kind, path, until)
        for _ in range(most):
            known = self._past.tails.get(path, 0)
            parameters = {"offset": offset_of(place)}
            if not place and self._random.random() < 0.5:
                parameters["offset"] = "-1"
            if kind == "poll":
                parameters["live"] = "long-poll"
            answer = await self._ask(f"/v1/stream/{path}", parameters)
            body = await answer.body()
            if answer.status in (404, 410) and path not in self._past.lasting:
                self.seen[f"{kind} {answer.status}"] += 1
                self._places.pop((kind, path), None)
                return
            if answer.status not in (200, 204):
                self._fault(f"{kind} of {path} from {place}: {answer.status} {body[:200]}")
                return
            end = position_of(answer.headers["stream-next-offset"])
            closed = "stream-closed" in answer.headers
            if answer.status == 204:
                self.seen["poll 204"] += 1
                if path in self._past.lasting and end != place:
                    self._fault(f"poll of {path} from {place}: nothing, up to {end}")
            else:
                self._take(kind, path, place, answer, body, end, closed=closed)
            if "stream-up-to-date" in answer.headers and end < known and kind == "page":
                self._fault(f"page of {path} ends at {end}, though {known} were acknowledged")
            await self._check_rows(body)
            self._places[kind, path] = place = end
            if closed or (until is not None and end >= until):
                return

    def _take(
        self,
        kind: str,
        path: str,
        place: int,
        answer: Response,
        body: bytes,
        end: int,
        *,
        closed: bool,
    ) -> None:
        match = _TAG.match(answer.headers.get("etag", ""))
        if match is None or int(match[3]) != end:
            self._fault(f"{kind} of {path}: the ETag does not fit {answer.headers}")
            return
        is_json = answer.headers["content-type"] == JSON
        data = json.loads(body) if is_json else body
        self.pieces.append(
            Piece(kind, path, int(match[2]), end, data, closed, int(match[1]), place)
        )
        self.seen[kind] += end > place

    async def _check_rows(self, body: bytes) -> None:
        """The same node has the rows of transactions whose messages it has shown."""
        wanted = {int(number) for _, number in MARK.findall(body)} - {0}
        if self._random.random() < 0.5 or wanted <= self._rows:
            return
        while True:
            parameters = {"table": "rows", "offset": "-1", **self._shape}
            answer = await self._ask("/v1/shape", parameters)
            if answer.status == 409:
                await answer.body()
                self._shape = {"handle": answer.headers["electric-handle"]}
                self._rows = set()
                continue
            text = await answer.body()
            assert answer.status == 200, text
            self._shape = {
                "handle": answer.headers["electric-handle"],
                "offset": answer.headers["electric-offset"],
            }
            for message in json.loads(text):
                if "value" in message:
                    self._rows.add(int(message["value"]["n"]))
            if "electric-up-to-date" in answer.headers:
                break
        self.seen["rows"] += 1
        if not wanted <= self._rows:
            self._fault(f"messages were shown before their rows {sorted(wanted - self._rows)}")

    # -- by events ---------------------------------------------------------------------------------

    async def _events(self, path: str, most: int, until: int | None) -> None:
        place = self._place("sse", path, until)
        asked: int | None = place
        parameters = {"live": "sse", "offset": offset_of(place)}
        if until is None and self._random.random() < 0.1:
            parameters["offset"], asked = "now", None
        answer = await self._ask(f"/v1/stream/{path}", parameters)
        if answer.status != 200:
            body = await answer.body()
            if answer.status not in (404, 410) or path in self._past.lasting:
                self._fault(f"SSE of {path}: {answer.status} {body[:200]}")
            self._places.pop(("sse", path), None)
            return
        base64 = "stream-sse-data-encoding" in answer.headers
        content: bytes | None = None
        begin = asked
        async for event, data in events_of(answer):
            if event == "data":
                content = data
                continue
            assert event == "control"
            control = json.loads(data)
            end = position_of(control["streamNextOffset"])
            closed = bool(control.get("streamClosed"))
            if content is not None and begin is not None:
                value: Any = b64decode(content) if base64 else content
                if self._past.types[path] == JSON:
                    value = json.loads(value)
                self.pieces.append(Piece("sse", path, begin, end, value, closed))
                self.seen["sse"] += 1
            elif begin is not None and end != begin and path in self._past.lasting:
                self._fault(f"SSE of {path} goes from {begin} to {end} without data")
            content, begin = None, end
            self._places["sse", path] = end
            most -= 1
            if most < 0 or (until is not None and end >= until):
                break

    async def _records(self, most: int, until: int | None) -> None:
        """The run's stream, as Trigger.dev's packages read it."""
        path = f"runs/{self._past.run}/lines"
        place = self._place("run", path, until)
        headers = {"last_event_id": str(place - 1)} if place else {}
        answer = await self._ask(f"/realtime/v1/streams/{self._past.run}/lines", {}, **headers)
        assert answer.status == 200, await answer.body()
        async for event, data in events_of(answer):
            if event != "batch":
                continue
            records = json.loads(data)["records"]
            numbers = [record["seq_num"] for record in records]
            if numbers != list(range(place, place + len(records))):
                self._fault(f"{numbers} after {place} of {path}")
                return
            values = [json.loads(record["body"])["data"] for record in records]
            end = place + len(records)
            self.pieces.append(Piece("run", path, place, end, values))
            self.seen["run"] += 1
            self._places["run", path] = place = end
            most -= 1
            if most < 0 or (until is not None and end >= until):
                break

    def _fault(self, text: str) -> None:
        self.faults.append(f"{self.name}: {text}")


async def events_of(answer: Response) -> AsyncIterator[tuple[str, bytes]]:
    """Names and data of events, as browsers would have them (but for bytes instead of text)."""
    rest = b""
    async for piece in answer.pieces():
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            name, lines = "message", list[bytes]()
            for line in event.split(b"\n"):
                field, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if field == b"event":
                    name = value.decode()
                elif field == b"data":
                    lines.append(value)
            if lines:
                yield name, b"\n".join(lines)


def offset_of(position: int) -> str:
    return f"{0:016}_{position:016}"


def position_of(offset: str) -> int:
    return int(offset.partition("_")[2])
