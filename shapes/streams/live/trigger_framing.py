"""Messages as the events that Trigger.dev's packages read ("v2"): batches of numbered records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

import orjson

from shapes.streams.json_messages import split_messages
from shapes.streams.stream import Chunk, StreamState

CONTENT_TYPE: Final = b"text/event-stream"
VERSION: Final = b"v2"

KEEP_ALIVE: Final = b": keep-alive\n\n"

CONTROL: Final = "$trigger.headers"
"""A session's message that is an object with this member alone is a control record: it has these
headers, a list of pairs of texts, and no data. Without S2 the packages have no way to write one."""

TURN_COMPLETE: Final = ("trigger-control", "turn-complete")

_CONTROL_BYTES = f'"{CONTROL}"'.encode()

Headers = list[tuple[str, str]]
Record = dict[str, Any]
"""A message: `data`, JSON as it was written, `seqNum`, `id`, and perhaps `headers`."""


class Contents(Enum):
    """What a stream's messages are."""

    JSON = "json"
    SESSION = "session"
    """JSON, and now and then a control record."""
    TEXT = "text"
    """Not JSON: each append is shown as a text."""

    @classmethod
    def of(cls, state: StreamState, *, session: bool = False) -> Contents:
        if not state.is_json:
            return cls.TEXT
        return cls.SESSION if session else cls.JSON


@dataclass(frozen=True, slots=True)
class TriggerFraming:
    """The position of a message is its `seq_num`, and its id: both are unique within a stream, and
    stay what they are whoever reads it."""

    contents: Contents

    def encode(self, chunks: Sequence[Chunk], tail: int, closed: bool) -> tuple[bytes, int]:
        """One event with all of the messages; nothing without chunks, since ends are not told."""
        if not chunks:
            return b"", tail
        records = b",".join(
            _written(chunk, position, data, headers)
            for chunk in chunks
            for position, data, headers in self.messages(chunk)
        )
        end = chunks[-1].end
        return b'event: batch\nid: %d\ndata: {"records":[%b]}\n\n' % (end - 1, records), end

    def idle(self, position: int, closed: bool) -> bytes:
        return KEEP_ALIVE

    def messages(self, chunk: Chunk) -> Iterable[tuple[int, bytes, Headers | None]]:
        """Position, JSON text and headers of each message; control records have no text."""
        if self.contents is Contents.TEXT:
            yield chunk.position, orjson.dumps(chunk.data.decode(errors="replace")), None
            return
        messages = split_messages(chunk.data, chunk.messages)
        for position, data in enumerate(messages, chunk.position):
            headers = control_headers(data) if self.contents is Contents.SESSION else None
            yield position, b"" if headers else data, headers

    def records(self, chunks: Iterable[Chunk]) -> list[Record]:
        """The messages for an answer in one piece."""
        found: list[Record] = []
        for chunk in chunks:
            for position, data, headers in self.messages(chunk):
                value = orjson.Fragment(data or b"null")
                record: Record = {"data": value, "id": str(position), "seqNum": position}
                if headers:
                    record["headers"] = headers
                found.append(record)
        return found


def control_headers(message: bytes) -> Headers | None:
    """The headers of a control record; None if the message is none."""
    if _CONTROL_BYTES not in message[:64]:
        return None
    try:
        value: object = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or set(cast("dict[str, Any]", value)) != {CONTROL}:
        return None
    pairs: object = cast("dict[str, Any]", value)[CONTROL]
    if not isinstance(pairs, list):
        return None
    headers: Headers = []
    for pair in cast("list[object]", pairs):
        match pair:
            case [str(name), str(content)]:
                headers.append((name, content))
            case _:
                return None
    return headers or None


def end_event(reason: str) -> bytes:
    """What pgtide's own clients are told before a stream ends in order. Trigger.dev's pass over it."""
    return b'event: end\ndata: {"reason":"%b"}\n\n' % reason.encode()


def _written(chunk: Chunk, position: int, data: bytes, headers: Headers | None) -> bytes:
    body = b'""'
    if not headers:
        # A text that has JSON in it.
        text = f'{{"data":{data.decode(errors="replace")},"id":"{position}"}}'
        body = orjson.dumps(text)
    record = b'{"seq_num":%d,"timestamp":%d,"body":%b' % (
        *(position, chunk.created_us // 1000),
        body,
    )
    if headers:
        return b'%b,"headers":%b}' % (record, orjson.dumps(headers))
    return record + b"}"
