"""A client of the shape API by hand, which checks every answer against the protocol as it reads."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

Message = dict[str, Any]

ALWAYS = {"electric-handle", "electric-offset", "electric-has-data", "etag", "cache-control"}
WAIT_SECONDS = 60.0
"""Longer than a long-poll lasts."""

UNUSED_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Otherwise every new client loads certificates, which takes longer than most tests do."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def messages(self) -> list[Message]:
        """The body of a log answer."""
        assert self.text.startswith("["), self.text
        return json.loads(self.text)

    @property
    def changes(self) -> list[Message]:
        return changes_of(self.messages)

    @property
    def error(self) -> dict[str, Any]:
        """The body of an error answer."""
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        return json.loads(self.text)

    @property
    def handle(self) -> str:
        return self.headers["electric-handle"]

    @property
    def offset(self) -> str:
        return self.headers["electric-offset"]

    @property
    def up_to_date(self) -> bool:
        return "electric-up-to-date" in self.headers

    def electric(self) -> set[str]:
        """The names of the protocol's own headers."""
        names = {name.lower() for name in self.headers}
        return {name for name in names if name.startswith("electric-")} - {"electric-server"}


def ask(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    http: httpx.Client | None = None,
    **parameters: Any,
) -> Answer:
    """One request to /v1/shape. `params=[…]` are the values for $1, $2 …; None is left out.

    Without `http` on a connection of its own.
    """
    if http is None:
        with httpx.Client(timeout=WAIT_SECONDS, verify=UNUSED_TLS) as own:
            return ask(url, method=method, headers=headers, http=own, **parameters)
    response = http.request(
        method, f"{url}/v1/shape", params=query(**parameters), headers=dict(headers or {})
    )
    return Answer(response.status_code, response.headers, response.text)


def query(**parameters: Any) -> dict[str, str]:
    """Keyword arguments as they go into a query string."""
    values: Iterable[object] = parameters.pop("params", None) or ()
    numbered = {f"params[{number}]": str(value) for number, value in enumerate(values, 1)}
    given = {name: _flag(value) for name, value in parameters.items() if value is not None}
    return given | numbered


def _flag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Follower:
    """Follows one shape and keeps its rows, by key.

    Every operation must fit what came before: an insert only of an unknown key, an update and a
    delete only of a known one, positions only upwards, an up-to-date only at the end of an answer.
    """

    def __init__(self, url: str, table: str, **parameters: Any) -> None:
        self.url = url
        self.parameters = {"table": table, **parameters}
        self.handle: str | None = None
        self.offset = "-1"
        self.cursor: str | None = None
        self.live = False
        self.rows: dict[str, Message] = {}
        self.changes: list[Message] = []
        self._position = (0, 0)
        self._seen = 0
        self._taken = 0

    def request(self, **parameters: Any) -> Answer:
        """Ask where it stands, without moving on."""
        given: dict[str, Any] = {"handle": self.handle, "offset": self.offset}
        given |= self.parameters | parameters
        return ask(self.url, **given)

    def step(self, *, live: bool = False) -> Answer:
        """One request, moving on to where its answer ends."""
        cursor = (self.cursor or "") if live else None
        answer = self.request(live=True if live else None, cursor=cursor)
        assert answer.status == 200, (answer.status, answer.text)
        assert {name.lower() for name in answer.headers} >= ALWAYS
        assert ("electric-cursor" in answer.headers) == live
        assert ("electric-schema" in answer.headers) != live
        if self.handle is not None:
            assert answer.handle == self.handle
        messages = answer.messages
        assert answer.up_to_date == ends_up_to_date(messages), answer.text[-200:]
        self.take_in(messages)
        self.handle, self.offset = answer.handle, answer.offset
        self.cursor = answer.headers.get("electric-cursor", self.cursor)
        self.live = answer.up_to_date
        return answer

    def sync(self) -> Follower:
        """Catch up: requests until one is up-to-date."""
        while not self.step().up_to_date:
            pass
        self._taken = len(self.changes)
        return self

    def take(self, count: int) -> list[Message]:
        """The next `count` changes, waiting for them; fails if they come with more of them."""
        deadline = time.monotonic() + WAIT_SECONDS
        while len(self.changes) < self._taken + count:
            assert time.monotonic() < deadline, f"only {self.changes[self._taken :]} came"
            self.step(live=self.live)
        taken = self.changes[self._taken :]
        assert len(taken) == count, taken
        self._taken = len(self.changes)
        return taken

    def take_operations(self, count: int) -> list[tuple[str, Message]]:
        """`take` as (operation, value)."""
        return [(one["headers"]["operation"], one["value"]) for one in self.take(count)]

    def values(self) -> list[Message]:
        """The rows it holds, in the order of their keys."""
        return [self.rows[key] for key in sorted(self.rows)]

    def take_in(self, messages: list[Message]) -> None:
        """Apply what an answer or an event brought."""
        for position, message in enumerate(messages):
            control = message["headers"].get("control")
            if control == "up-to-date":
                assert position == len(messages) - 1, messages
                self._see(int(message["headers"]["global_last_seen_lsn"]))
            elif control is None:
                self._apply(message)
            else:
                assert control == "snapshot-end", message

    def _apply(self, message: Message) -> None:
        headers, key = message["headers"], message["key"]
        operation = headers["operation"]
        if operation == "insert":
            assert key not in self.rows, f"inserted twice: {message}"
            self.rows[key] = dict(message["value"])
        elif operation == "update":
            assert key in self.rows, f"updated but unknown: {message}"
            self.rows[key] |= message["value"]
        else:
            assert operation == "delete", message
            assert key in self.rows, f"deleted but unknown: {message}"
            del self.rows[key]
        if "lsn" in headers:
            position = (int(headers["lsn"]), headers["op_position"])
            assert position > self._position, f"not after {self._position}: {message}"
            assert position[0] >= self._seen, f"after an up-to-date of {self._seen}: {message}"
            self._position = position
        self.changes.append(message)

    def _see(self, lsn: int) -> None:
        assert lsn >= self._seen, "global_last_seen_lsn went backwards"
        self._seen = lsn


class Events:
    """An open SSE response. Reading ends with StopIteration when the server closes it."""

    def __init__(self, response: httpx.Response) -> None:
        self.answer = Answer(response.status_code, response.headers, "")
        self.comments: list[str] = []
        self._lines = response.iter_lines()

    def next_batch(self) -> list[Message]:
        """Messages up to and including the next up-to-date."""
        batch: list[Message] = []
        while not ends_up_to_date(batch):
            batch.append(self._next_event())
        return batch

    def next_comment(self) -> str:
        """Skips nothing: the next thing must be a comment."""
        line = next(self._lines)
        assert line.startswith(":"), line
        assert next(self._lines) == ""
        self.comments.append(line[1:].strip())
        return self.comments[-1]

    def rest(self) -> list[Message]:
        """All messages until the server closes the stream."""
        found: list[Message] = []
        while True:
            try:
                found.append(self._next_event())
            except StopIteration:
                return found

    def _next_event(self) -> Message:
        while (line := next(self._lines)).startswith(":"):
            assert next(self._lines) == ""
            self.comments.append(line[1:].strip())
        assert line.startswith("data: "), line
        assert next(self._lines) == ""
        return json.loads(line[6:])


@contextmanager
def events(url: str, **parameters: Any) -> Generator[Events]:
    """Open /v1/shape as a stream of events."""
    asked = query(**{"live": True, "live_sse": True, **parameters})
    headers = {"accept": "text/event-stream"}
    with (
        httpx.Client(timeout=WAIT_SECONDS, verify=UNUSED_TLS) as http,
        http.stream("GET", f"{url}/v1/shape", params=asked, headers=headers) as response,
    ):
        if response.headers["content-type"] != "text/event-stream":
            raise AssertionError((response.status_code, response.read()))
        yield Events(response)


def changes_of(messages: list[Message]) -> list[Message]:
    """Without control messages."""
    return [message for message in messages if "operation" in message["headers"]]


def controls_of(messages: list[Message]) -> list[str]:
    return [message["headers"]["control"] for message in messages if "key" not in message]


def ends_up_to_date(messages: list[Message]) -> bool:
    return bool(messages) and messages[-1]["headers"].get("control") == "up-to-date"
