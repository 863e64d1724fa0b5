"""Reading a run's stream: records as they come, over connections that end and are made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, TypeVar, cast

from pgtide.errors import (
    AnsweredError,
    ConnectionLostError,
    InvalidRequestError,
    PgtideError,
    UnexpectedAnswerError,
)
from pgtide.protocol.backoff import Backoff, retry_after
from pgtide.protocol.event_stream import Event, EventStream
from pgtide.protocol.exchange import Patience, authorized, may_pass, refusal
from pgtide.protocol.run_calls import retrieve
from pgtide.protocol.run_following import Identity, token_of
from pgtide.protocol.run_streams import (
    DEFAULT_KEY,
    RUN_IS_OVER,
    STOP_PREFIX,
    Stop,
    checked_key,
    input_path,
    reading_path,
)
from pgtide.protocol.steps import (
    Answer,
    Plan,
    Request,
    Values,
    clock,
    close,
    credential,
    emit,
    open_answer,
    pause,
    read,
    relayed,
)

T = TypeVar("T")

Start = Literal["beginning", "latest"]

SILENT_SECONDS = 90.0
"""How long a connection may be silent before it counts as dead; the server says something sooner."""
IDLE_SECONDS = 600
"""How long the server shall keep a connection on which nothing comes: the longest that it offers."""
SETTLED_SECONDS = 1.0
FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0
OVER = ("closed", "finished")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record(Generic[T]):
    """A value of a stream. `position` counts them from 0: `after=record` goes on behind it. `timestamp`
    is when it was stored, in UTC."""

    value: T
    position: int
    timestamp: datetime


After = int | Record[Any]


def read_stream(
    run: Identity,
    key: str = DEFAULT_KEY,
    *,
    after: After | None = None,
    start: Start = "beginning",
    access_token: str | None = None,
    max_retries: int | None = None,
    silent_seconds: float = SILENT_SECONDS,
) -> Values[Record[Any]]:
    """The records of a run's stream, those that are there and then each as it comes.

    `after` is a position, or a record that one has: it goes on behind it. `start="latest"` begins with
    the last record there is. It ends when the stream is closed or its run over, and all was read.
    Connections that break are made again, after delays with jitter, without gap or repetition
    (`max_retries` in a row; None: for ever). A stream that nobody has written to yet is waited for;
    a run that does not exist raises NotFoundError, and a position that was dropped GoneError.
    """
    reading = RecordReading(reading_path(run, key), run, after, start)
    reading.token = access_token
    return Values(reading.plan(Patience(max_retries), silent_seconds))


def read_input(
    run: Identity,
    key: str,
    *,
    after: After | None = None,
    start: Start = "beginning",
    access_token: str | None = None,
    max_retries: int | None = None,
    silent_seconds: float = SILENT_SECONDS,
) -> Values[Record[Any]]:
    """What was sent to a run with `streams.send_input`, and each that comes; as `streams.read`."""
    reading = RecordReading(input_path(run, key), run, after, start, _text_value)
    reading.token = access_token
    return Values(reading.plan(Patience(max_retries), silent_seconds))


def watch_stop(run: Identity, key: str, access_token: str | None = None) -> Values[Stop]:
    """One Stop, when somebody has asked for it or the run is over."""
    reading = RecordReading(
        input_path(run, STOP_PREFIX + checked_key(key)), run, None, "beginning", _text_value
    )
    reading.token = access_token
    return Values(_stop_of(reading))


def _stop_of(reading: RecordReading) -> Plan[None]:
    asked = False

    def handle(record: Record[Any]) -> Plan[bool]:
        nonlocal asked
        asked = True
        data = record.value
        reason = cast("dict[str, Any]", data).get("reason") if isinstance(data, dict) else None
        yield from emit(Stop(reason if isinstance(reason, str) else None, data))
        return True

    yield from relayed(reading.plan(Patience(None), SILENT_SECONDS), handle)
    if not asked:
        yield from emit(Stop(RUN_IS_OVER, run_is_over=True))


def decoded(values: Values[Record[Any]], decode: Callable[[Any], T] | None) -> Values[Record[T]]:
    """The same records, with what `decode` makes of their values."""
    if decode is None:
        return cast("Values[Record[T]]", values)
    made = decode

    def each(record: Record[Any]) -> Plan[bool]:
        yield from emit(replace(record, value=made(record.value)))
        return False

    return Values(relayed(values.plan, each))


class RecordReading:
    """One reader of one stream. `position` is the last record's, -1 before the first."""

    def __init__(
        self,
        path: str,
        run: Identity,
        after: After | None,
        start: Start,
        parse: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        if after is not None and start == "latest":
            raise InvalidRequestError("give after, or start='latest', not both")
        self.position = _position(after)
        self.token: str | None = None
        self._path = path
        self._run = run
        self._parse = parse
        self._latest = start == "latest"
        self._given = False
        self._renewed = False
        self._run_was_over = False
        self._lost = 0
        self._failures = Backoff(FIRST_SECONDS, LONGEST_SECONDS)
        self._idle = Backoff(FIRST_SECONDS, LONGEST_SECONDS)

    def plan(self, patience: Patience, silent_seconds: float) -> Plan[None]:
        """Emits Records until the stream's end. Raises what will not pass, or did not pass in time."""
        self._given = self.token is not None
        if self.token is None:
            self.token = (yield from credential()) or token_of(self._run)
        while True:
            try:
                if (yield from self._connection(patience, silent_seconds)):
                    return
            except ConnectionLostError:
                yield from close()
                if not patience.allows(self._lost):
                    raise
                self._lost += 1
                yield from pause(self._failures.next())

    def _connection(self, patience: Patience, silent_seconds: float) -> Plan[bool]:
        """Whether it was the last one."""
        began = yield from clock()
        before = self.position
        request = self._request(silent_seconds)
        answer = yield from open_answer(request)
        if answer.status != 200:
            yield from self._refused(request, answer, patience)
            return False
        if "text/event-stream" not in answer.headers.get("content-type", ""):
            raise UnexpectedAnswerError(f"{request}: no event stream. Is this pgtide's address?")
        self._renewed = False
        lost: ConnectionLostError | None = None
        reason: str | None = None
        try:
            reason = yield from self._events()
        except ConnectionLostError as error:
            lost = error
        yield from close()
        lasted = (yield from clock()) - began
        if lasted >= SETTLED_SECONDS:
            # If there had been a last record, it would have come: what comes is all new.
            self._latest = False
            self._alive()
        if lost is not None:
            raise lost
        if reason in OVER:
            return True
        if reason is None:
            was_over, self._run_was_over = self._run_was_over, (yield from self._run_is_over())
            if was_over and self.position == before:
                return True
        if self.position == before and lasted < SETTLED_SECONDS:
            yield from pause(self._idle.next())
        return False

    def _request(self, silent_seconds: float) -> Request:
        headers = [("accept", "text/event-stream"), ("timeout-seconds", str(IDLE_SECONDS))]
        if self.position >= 0:
            headers.append(("last-event-id", str(self.position)))
        elif self._latest:
            headers.append(("x-trigger-stream-start", "latest"))
        request = Request("GET", self._path, (), tuple(headers), read_seconds=silent_seconds)
        return authorized(request, self.token)

    def _events(self) -> Plan[str | None]:
        """The reason that the server gives for the end, if it gives one."""
        events = EventStream()
        while piece := (yield from read()):
            for event in events.events(piece):
                if event.name == "batch":
                    yield from self._records(event)
                elif event.name == "error":
                    raise ConnectionLostError("the server could not go on with the stream")
                elif event.name == "end":
                    return str(_object(event).get("reason", ""))
        return None

    def _records(self, event: Event) -> Plan[None]:
        records: Any = _object(event).get("records")
        if not isinstance(records, list):
            raise UnexpectedAnswerError("a batch has no records. Is this pgtide's address?")
        for raw in cast("list[Any]", records):
            record = self._record(raw)
            if record is not None and record.position > self.position:
                self.position = record.position
                self._latest = False
                self._alive()
                yield from emit(record)

    def _record(self, raw: Any) -> Record[Any] | None:
        """None for control records, which carry no value."""
        try:
            headers = raw.get("headers") or ()
            if headers and headers[0][0] == "":
                return None
            if not raw["body"]:
                return None
            value = self._parse(json.loads(raw["body"])["data"])
            moment = EPOCH + timedelta(milliseconds=raw["timestamp"])
            return Record(value, int(raw["seq_num"]), moment)
        except (
            AttributeError,
            IndexError,
            KeyError,
            OverflowError,
            TypeError,
            ValueError,
        ) as error:
            raise UnexpectedAnswerError(
                "a record is not what a stream consists of. Is this pgtide's address?"
            ) from error

    def _alive(self) -> None:
        self._lost = 0
        self._failures.reset()
        self._idle.reset()

    def _refused(self, request: Request, answer: Answer, patience: Patience) -> Plan[None]:
        """Waits, if it may pass; raises otherwise."""
        pieces: list[bytes] = []
        while piece := (yield from read()):
            pieces.append(piece)
        yield from close()
        if answer.status == 401 and not self._renewed and not self._given:
            self._renewed = True
            other = yield from credential(refused=self.token)
            if other is not None and other != self.token:
                self.token = other
                return
        whole = Answer(answer.status, answer.headers, b"".join(pieces), answer.seconds)
        if not may_pass(whole) or not patience.allows(self._lost):
            raise refusal(request, whole, self.token)
        self._lost += 1
        yield from pause(self._failures.next(retry_after(answer.headers)))

    def _run_is_over(self) -> Plan[bool]:
        """Asked of servers that do not say why they end a connection."""
        try:
            run = yield from retrieve(self._run, access_token=self.token)
        except AnsweredError:
            return False
        except PgtideError as error:
            raise ConnectionLostError(str(error)) from error
        return run.is_finished


def _position(after: After | None) -> int:
    position = -1 if after is None else after if isinstance(after, int) else after.position
    if position < -1:
        raise InvalidRequestError("after is the position of a record: 0 or more")
    return position


def _object(event: Event) -> dict[str, Any]:
    try:
        value: Any = json.loads(event.data)
    except ValueError as error:
        raise UnexpectedAnswerError("an event is no JSON. Is this pgtide's address?") from error
    if not isinstance(value, dict):
        raise UnexpectedAnswerError("an event is no JSON object. Is this pgtide's address?")
    return cast("dict[str, Any]", value)


def _text_value(data: Any) -> Any:
    """Input streams keep JSON as text."""
    if not isinstance(data, str):
        return data
    try:
        return json.loads(data)
    except ValueError:
        return data
