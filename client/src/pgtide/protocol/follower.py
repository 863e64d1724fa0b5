"""Following a shape: every request, what its answer means, and when to come back."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, cast

from pgtide.errors import ConnectionLostError, PgtideError, UnexpectedAnswerError
from pgtide.protocol.backoff import Backoff, retry_after
from pgtide.protocol.definition import CATCH_UP_SECONDS, Definition, Following
from pgtide.protocol.event_stream import EventStream
from pgtide.protocol.exchange import Patience, authorized, may_pass, refusal
from pgtide.protocol.messages import Batch, Change, Control, Message, Position
from pgtide.protocol.steps import (
    Answer,
    Plan,
    Request,
    clock,
    close,
    credential,
    emit,
    fetch,
    open_answer,
    pause,
    read,
    relayed,
)
from pgtide.protocol.values import Parser, Schema

START = "-1"
SHORT_SECONDS = 1.0
SHORT_STREAMS = 3
QUICK_SECONDS = 0.1
QUICK_ANSWERS = 5
MUST_REFETCH = Control("must-refetch")


class Follower:
    """One reader of one shape. `position` is the one after the last emitted batch, `taken` the one
    after the last whose receiver has asked for more.

    Answers count as a whole or, of an event stream, up to an "up-to-date": whatever breaks in between
    is asked for again, and changes that were seen already are left out.
    """

    def __init__(
        self, definition: Definition, following: Following, position: Position | None = None
    ) -> None:
        self.position = self.taken = position
        self.schema = Schema({}, following.parsers)
        self._definition = definition
        self._following = following
        self._patience = Patience(following.max_retries)
        self._offset = position.offset if position else START
        self._handle = position.handle if position else None
        self._expired: str | None = None
        self._buster: str | None = None
        self._cursor = ""
        self._up_to_date = False
        self._seen: tuple[int, int] = (-1, -1)
        self._token: str | None = None
        self._renewed = False
        self._short_streams = 0
        self._quick_answers = 0
        self._refetches = 0
        self._lost = 0
        self._failures = Backoff()
        self._idle = Backoff(first=0.1, longest=5.0)

    def plan(self) -> Plan[None]:
        """Emits a Batch per answer that says something, for ever, or, without `live`, until it is up to
        date. Raises PgtideError for what will not pass, or did not pass in `max_retries` attempts."""
        yield from self._find_token()
        while True:
            try:
                if self._streams():
                    yield from self._read_events()
                else:
                    yield from self._read_array()
            except ConnectionLostError:
                yield from close()
                if not self._patience.allows(self._lost):
                    raise
                self._lost += 1
                yield from pause(self._failures.next())
            if self._up_to_date and not self._following.live:
                return

    def messages(self) -> Plan[None]:
        """Emits each Message of the batches."""

        def each(batch: Batch) -> Plan[bool]:
            for message in batch.messages:
                yield from emit(message)
            return False

        yield from relayed(self.plan(), each)

    def _find_token(self) -> Plan[None]:
        following = self._following
        self._token = following.token or (yield from credential()) or following.spare_token

    # -- requests ----------------------------------------------------------------------------------

    def _streams(self) -> bool:
        wanted = self._following.live_sse and self._following.live and self._up_to_date
        return wanted and self._short_streams < SHORT_STREAMS

    def _request(self, *, sse: bool = False) -> Request:
        query = dict(self._definition.query)
        query |= {"offset": self._offset, "log": self._definition.log}
        if self._definition.secret is not None:
            query["secret"] = self._definition.secret
        if self._handle is not None:
            query["handle"] = self._handle
        if self._expired is not None:
            query["expired_handle"] = self._expired
        if self._buster is not None:
            query["cache-buster"] = self._buster
        headers = self._definition.headers
        live = self._up_to_date
        if live:
            query |= {"live": "true", "cursor": self._cursor}
        if sse:
            query |= {"live_sse": "true", "experimental_live_sse": "true"}
            headers = (*headers, ("accept", "text/event-stream"))
        # Equal requests have equal URLs, for caches: parameters are in the order of their names.
        request = Request(
            "GET",
            self._definition.path,
            tuple(sorted(query.items())),
            headers,
            read_seconds=self._following.live_seconds if live else CATCH_UP_SECONDS,
        )
        return authorized(request, self._token)

    # -- answers -----------------------------------------------------------------------------------

    def _read_array(self) -> Plan[None]:
        live = self._up_to_date
        began = yield from clock()
        try:
            answer = yield from fetch(self._request())
        except ConnectionLostError:
            if live and (yield from clock()) - began >= SHORT_SECONDS:
                # The server is there; something cuts polls that wait long.
                self._failures.reset()
            raise
        if not (yield from self._accept(answer, live=live)):
            return
        before = self._offset
        messages = [] if answer.status == 204 else _array(answer.body)
        ends = answer.status == 204 or (bool(messages) and _control(messages[-1]) == "up-to-date")
        if not self._adopt(answer):
            yield from self._start_over(None)
            return
        self._offset = answer.headers["electric-offset"]
        self._up_to_date = ends
        changed = yield from self._deliver(messages, ends)
        yield from self._slow_down(
            answer.seconds < QUICK_SECONDS and not changed and self._offset == before
        )

    def _read_events(self) -> Plan[None]:
        answer = yield from open_answer(self._request(sse=True))
        if answer.status != 200:
            body = yield from _rest()
            yield from close()
            whole = Answer(answer.status, answer.headers, body, answer.seconds)
            if (yield from self._accept(whole, live=True)):
                self._short_streams = SHORT_STREAMS
            return
        yield from self._accept(answer, live=True)
        if not self._adopt(answer):
            yield from close()
            yield from self._start_over(None)
            return
        if "text/event-stream" not in answer.headers.get("content-type", ""):
            # Something in between does not let event streams through.
            self._short_streams = SHORT_STREAMS
            yield from close()
            return
        yield from self._read_stream()

    def _read_stream(self) -> Plan[None]:
        """Until it ends. Streams that end at once, several in a row, are what proxies make of them that
        wait for the end of an answer: long polls take their place."""
        began = yield from clock()
        before = self.position
        lost: ConnectionLostError | None = None
        try:
            yield from self._read_batches()
        except ConnectionLostError as error:
            lost = error
        yield from close()
        if self.position != before or (yield from clock()) - began >= SHORT_SECONDS:
            self._short_streams = 0
            self._alive()
        else:
            self._short_streams += 1
            if lost is None:
                yield from pause(self._idle.next())
        if lost is not None:
            raise lost

    def _read_batches(self) -> Plan[None]:
        """A batch without an up-to-date at its end is forgotten; the next request repeats it."""
        events = EventStream()
        batch: list[dict[str, Any]] = []
        while piece := (yield from read()):
            for data in events.feed(piece):
                message = _message(data)
                batch.append(message)
                if _control(message) == "up-to-date":
                    lsn = message["headers"].get("global_last_seen_lsn")
                    if lsn is not None:
                        self._offset = f"{lsn}_0"
                    yield from self._deliver(batch, ends=True)
                    batch = []

    def _alive(self) -> None:
        """The server answers well."""
        self._failures.reset()
        self._idle.reset()
        self._lost = 0

    def _accept(self, answer: Answer, *, live: bool) -> Plan[bool]:
        """Whether this is an answer to read. Otherwise it has done what there is to do about it."""
        if answer.status < 300:
            self._renewed = False
            _check_headers(answer, live=live)
            if not live:
                self.schema = _schema(answer, self._following.parsers, self.schema)
            return True
        if answer.status == 409:
            yield from self._start_over(answer.headers.get("electric-handle"))
            return False
        if answer.status == 401 and not self._renewed and self._following.token is None:
            self._renewed = True
            other = yield from credential(refused=self._token)
            if other is not None and other != self._token:
                self._token = other
                return False
        if answer.status == 400 and self._offset != START and _is_out_of_bounds(answer):
            # The server's log does not go as far as it did: it was restored, or is another one.
            yield from self._start_over(None)
            return False
        if not may_pass(answer) or not self._patience.allows(self._lost):
            raise self._refusal(answer)
        self._lost += 1
        yield from pause(self._failures.next(retry_after(answer.headers)))
        return False

    def _refusal(self, answer: Answer) -> PgtideError:
        return refusal(self._request(), answer, self._token, self._definition.secret)

    def _adopt(self, answer: Answer) -> bool:
        """False if the answer is one of another handle: a cache between has mixed them up."""
        handle = answer.headers["electric-handle"]
        if self._offset != START and self._handle is not None and handle != self._handle:
            return False
        if self._offset == START and handle == self._expired:
            return False
        self._handle = handle
        self._cursor = answer.headers.get("electric-cursor", self._cursor)
        self._expired = self._buster = None
        return True

    def _start_over(self, handle: str | None) -> Plan[None]:
        """The shape begins anew; whoever is sent on in circles waits longer each time."""
        self._refetches += 1
        if self._offset != START:
            self._expired = self._handle
        self._handle = handle if handle != self._expired else None
        self._buster = f"{random.getrandbits(48):x}"
        self._offset, self._cursor, self._up_to_date = START, "", False
        self._seen = (-1, -1)
        if self.position is not None:
            self.position = None
            anew = Batch((MUST_REFETCH,), None, up_to_date=False, must_refetch=True)
            yield from self._emit(anew)
        if self._refetches > 1:
            if not self._patience.allows(self._refetches - 1):
                raise UnexpectedAnswerError("the server sends from one handle to the next (409)")
            yield from pause(self._failures.next())

    # -- batches -----------------------------------------------------------------------------------

    def _deliver(self, raw: list[dict[str, Any]], ends: bool) -> Plan[bool]:
        """Emits what is new. Whether there were changes."""
        messages: list[Message] = []
        changed = False
        for one in raw:
            message = self._read_message(one)
            if message is not None:
                messages.append(message)
                changed = changed or isinstance(message, Change)
        assert self._handle is not None
        self.position = Position(self._handle, self._offset)
        if ends:
            self._refetches = 0
        if messages:
            yield from self._emit(Batch(tuple(messages), self.position, ends))
        return changed

    def _emit(self, batch: Batch) -> Plan[None]:
        yield from emit(batch)
        self.taken = batch.position

    def _read_message(self, raw: dict[str, Any]) -> Message | None:
        """None for a change that was there before."""
        headers: dict[str, Any] = raw["headers"]
        operation = headers.get("operation")
        if operation is None:
            return Control(str(headers.get("control") or headers.get("event")), headers)
        old = raw.get("old_value")
        parse = self.schema.parse
        change = Change(
            operation,
            raw["key"],
            parse(raw["value"]),
            None if old is None else parse(old),
            headers,
        )
        at = change.position
        if at is not None:
            if at <= self._seen:
                return None
            self._seen = at
        return change

    def _slow_down(self, idle: bool) -> Plan[None]:
        """Answers that come at once and say nothing would otherwise make a busy loop."""
        self._quick_answers = self._quick_answers + 1 if idle else 0
        if not idle:
            self._alive()
        if self._quick_answers >= QUICK_ANSWERS:
            yield from pause(self._idle.next())


def _rest() -> Plan[bytes]:
    pieces: list[bytes] = []
    while piece := (yield from read()):
        pieces.append(piece)
    return b"".join(pieces)


def _check_headers(answer: Answer, *, live: bool) -> None:
    needed = ["electric-handle", "electric-offset"]
    needed += ["electric-cursor"] if live else ["electric-schema"]
    missing = [name for name in needed if name not in answer.headers]
    if missing:
        raise UnexpectedAnswerError(
            f"the answer lacks {', '.join(missing)}. Is this pgtide's address? If there is a proxy in"
            " between, it must let these headers through"
        )


def _schema(answer: Answer, parsers: Mapping[str, Parser], present: Schema) -> Schema:
    """The newest: a column that was added later may come in with any answer that has a schema."""
    read = Schema.read(answer.headers["electric-schema"], parsers)
    return present if read.columns == present.columns else read


def _is_out_of_bounds(answer: Answer) -> bool:
    return b'"offset"' in answer.body and b"out of bounds" in answer.body


def _array(body: bytes) -> list[dict[str, Any]]:
    try:
        messages: Any = json.loads(body) if body.strip() else []
    except ValueError as error:
        raise UnexpectedAnswerError("the answer is no JSON. Is this pgtide's address?") from error
    if not isinstance(messages, list):
        raise UnexpectedAnswerError("the answer is no JSON array. Is this pgtide's address?")
    return [_checked(message) for message in cast("list[Any]", messages)]


def _message(data: bytes) -> dict[str, Any]:
    try:
        return _checked(json.loads(data))
    except ValueError as error:
        raise UnexpectedAnswerError("an event is no JSON. Is this pgtide's address?") from error


def _checked(message: Any) -> dict[str, Any]:
    known = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    headers: Any = known.get("headers")
    if not isinstance(headers, dict) or ("operation" in headers and "key" not in known):
        raise UnexpectedAnswerError("a message has no headers. Is this pgtide's address?")
    return known


def _control(message: Mapping[str, Any]) -> str | None:
    return message["headers"].get("control")
