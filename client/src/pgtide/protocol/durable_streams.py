"""Streams by their path, bound to no run: the protocol of Durable Streams."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, cast
from urllib.parse import quote

from pgtide.errors import (
    ConnectionLostError,
    InvalidRequestError,
    UnexpectedAnswerError,
)
from pgtide.protocol.backoff import Backoff, retry_after
from pgtide.protocol.exchange import Patience, attempt, authorized, dump, may_pass, refusal
from pgtide.protocol.run_streams import CLOSED
from pgtide.protocol.steps import Answer, Plan, Request, Values, credential, emit, fetch, pause

Data = str | bytes | list[Any]
Start = Literal["beginning", "now"]

JSON = "application/json"
LIVE_SECONDS = 60.0
"""How long a poll may take before its connection counts as dead."""
CATCH_UP_SECONDS = 90.0
ZERO_OFFSET = "-1"


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream as it is now. `offset` is its end; times as they were given at its creation."""

    content_type: str
    offset: str
    is_closed: bool
    ttl: int | None = None
    expires_at: str | None = None


@dataclass(frozen=True, slots=True)
class StreamPart:
    """What came next in a stream: a list of values (JSON), text (`text/*`) or bytes.

    `after=part.offset` goes on behind it. `is_last`: the stream is closed, and this was all.
    """

    data: Data = field(repr=False)
    offset: str
    is_last: bool = False


def stream_path(path: str) -> str:
    segments = path.strip("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise InvalidRequestError(
            f"a stream's path consists of names with slashes between, e.g. 'chats/42': {path!r}"
        )
    return "/v1/stream/" + "/".join(quote(segment, safe="") for segment in segments)


def create(
    path: str,
    *,
    content_type: str = JSON,
    data: Any = None,
    ttl: float | timedelta | None = None,
    expires_at: datetime | None = None,
    closed: bool = False,
    access_token: str | None = None,
) -> Plan[bool]:
    """Make a stream; False if it is there already, made in the same way. Raises InvalidRequestError if
    it is there and was made otherwise.

    `content_type`: JSON keeps values; `text/plain` text, others bytes, without borders between what
    was appended. `data` is its first content. With a `ttl` (seconds, or a timedelta) it goes so long
    after it was last read or written, otherwise at `expires_at`, or never.
    """
    headers = [("content-type", content_type)]
    if ttl is not None:
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        headers.append(("stream-ttl", str(round(seconds))))
    if expires_at is not None:
        if expires_at.tzinfo is None:
            raise InvalidRequestError("expires_at needs a time zone")
        headers.append(("stream-expires-at", expires_at.isoformat(timespec="milliseconds")))
    if closed:
        headers.append(CLOSED)
    body = b"" if data is None else joined((encoded(data, content_type),), content_type)
    request = Request("PUT", stream_path(path), (), tuple(headers), body)
    answer = yield from attempt(request, Patience(), token=access_token)
    return answer.status == 201


def info(path: str, *, access_token: str | None = None) -> Plan[StreamInfo]:
    """What is known of a stream. Raises NotFoundError."""
    request = Request("HEAD", stream_path(path))
    answer = yield from attempt(request, Patience(), token=access_token)
    ttl = answer.headers.get("stream-ttl", "")
    return StreamInfo(
        answer.headers.get("content-type", ""),
        _offset(answer, request),
        is_closed(answer),
        int(ttl) if ttl.isdecimal() else None,
        answer.headers.get("stream-expires-at"),
    )


def delete(path: str, *, access_token: str | None = None) -> Plan[None]:
    """Delete a stream; nothing happens if there is none."""
    request = Request("DELETE", stream_path(path))
    yield from attempt(request, Patience(), token=access_token, accept=(404, 410))


def close(path: str, *, access_token: str | None = None) -> Plan[str]:
    """Close a stream: readers get what there is, and end. Its last offset. Twice does no harm."""
    request = Request("POST", stream_path(path), (), (CLOSED,), b"")
    answer = yield from attempt(request, Patience(), token=access_token)
    return _offset(answer, request)


def read(
    path: str,
    *,
    after: str | StreamPart | None = None,
    start: Start = "beginning",
    live: bool = True,
    access_token: str | None = None,
    max_retries: int | None = None,
    live_seconds: float = LIVE_SECONDS,
) -> Values[StreamPart]:
    """What a stream has, and what comes, until it is closed; with `live=False` what it has now.

    `after` is an offset, or the part that one has: it goes on behind it. `start="now"`: only what
    comes. Connections that break are made again, after delays with jitter, without gap or repetition.
    Raises NotFoundError if there is no such stream (any more), GoneError if what was asked for was
    dropped.
    """
    if after is not None and start == "now":
        raise InvalidRequestError("give after, or start='now', not both")
    offset = after.offset if isinstance(after, StreamPart) else after
    if offset is None:
        offset = "now" if start == "now" else ZERO_OFFSET
    reading = _Reading(stream_path(path), offset, live_seconds, access_token)
    return Values(reading.plan(live, Patience(max_retries)))


class _Reading:
    def __init__(self, path: str, offset: str, live_seconds: float, token: str | None) -> None:
        self._path = path
        self._offset = offset
        self._live_seconds = live_seconds
        self._token = token
        self._given = token is not None
        self._renewed = False
        self._cursor: str | None = None
        self._up_to_date = False
        self._lost = 0
        self._failures = Backoff()
        self._idle = Backoff(first=0.05, longest=5.0)
        self._held = b""
        """Text that ends inside of a character: it is handed over with what comes next."""

    def plan(self, live: bool, patience: Patience) -> Plan[None]:
        if not self._given:
            self._token = yield from credential()
        while True:
            request = self._request()
            try:
                answer = yield from fetch(request)
            except ConnectionLostError:
                if not patience.allows(self._lost):
                    raise
                self._lost += 1
                yield from pause(self._failures.next())
                continue
            if answer.status not in (200, 204):
                yield from self._refused(request, answer, patience)
                continue
            self._renewed, self._lost = False, 0
            self._failures.reset()
            closed = is_closed(answer)
            yield from self._deliver(request, answer, closed)
            if closed or (self._up_to_date and not live):
                return

    def _request(self) -> Request:
        query = {"offset": self._offset}
        if self._up_to_date:
            query["live"] = "long-poll"
        if self._cursor is not None:
            query["cursor"] = self._cursor
        seconds = self._live_seconds if self._up_to_date else CATCH_UP_SECONDS
        ordered = tuple(sorted(query.items()))
        return authorized(Request("GET", self._path, ordered, read_seconds=seconds), self._token)

    def _deliver(self, request: Request, answer: Answer, closed: bool) -> Plan[None]:
        polled = self._up_to_date
        offset = _offset(answer, request)
        quick = offset == self._offset and answer.seconds < 0.1
        if answer.status == 200 and closed and offset == self._offset and not answer.body:
            return
        self._offset = offset
        self._cursor = answer.headers.get("stream-cursor", self._cursor)
        self._up_to_date = "stream-up-to-date" in answer.headers
        data = b"" if answer.status == 204 else self._decoded(answer, closed)
        if data:
            yield from emit(StreamPart(data, offset, closed))
            self._idle.reset()
        elif polled and quick and not closed:
            # Polls that do not wait: something in between answers for the server.
            yield from pause(self._idle.next())

    def _decoded(self, answer: Answer, closed: bool) -> Data:
        kind = media_type(answer.headers.get("content-type", ""))
        if kind == JSON:
            return _values(answer.body)
        if not kind.startswith("text/"):
            return answer.body
        body, self._held = self._held + answer.body, b""
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and not closed:
                self._held = body
                return ""
            return body.decode(errors="replace")

    def _refused(self, request: Request, answer: Answer, patience: Patience) -> Plan[None]:
        if answer.status == 401 and not self._renewed and not self._given:
            self._renewed = True
            other = yield from credential(refused=self._token)
            if other is not None and other != self._token:
                self._token = other
                return
        if not may_pass(answer) or not patience.allows(self._lost):
            raise refusal(request, answer, self._token)
        self._lost += 1
        yield from pause(self._failures.next(retry_after(answer.headers)))


def encoded(value: Any, content_type: str) -> bytes:
    """One value as the stream holds it. Raises InvalidRequestError."""
    if media_type(content_type) == JSON:
        return dump(value)
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes | bytearray):
        raise InvalidRequestError(f"a stream of {content_type} takes text and bytes")
    data = bytes(value)
    if not data:
        raise InvalidRequestError("there is nothing to append")
    return data


def joined(values: tuple[bytes, ...], content_type: str) -> bytes:
    if media_type(content_type) == JSON:
        return b"[" + b",".join(values) + b"]"
    return b"".join(values)


def _values(body: bytes) -> list[Any]:
    try:
        values: Any = json.loads(body or b"[]")
    except ValueError as error:
        raise UnexpectedAnswerError("the answer is no JSON. Is this pgtide's address?") from error
    if not isinstance(values, list):
        raise UnexpectedAnswerError("the answer is no array. Is this pgtide's address?")
    return cast("list[Any]", values)


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def is_closed(answer: Answer) -> bool:
    return answer.headers.get("stream-closed", "").lower() == "true"


def _offset(answer: Answer, request: Request) -> str:
    offset = answer.headers.get("stream-next-offset")
    if not offset:
        raise UnexpectedAnswerError(
            f"{request}: no stream-next-offset. Is this pgtide's address? If there is a proxy in"
            " between, it must let this header through"
        )
    return offset
