"""The streams of a run: where they are, and the calls that concern one as a whole."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pgtide.errors import InvalidRequestError
from pgtide.protocol.exchange import Patience, attempt, call, dump
from pgtide.protocol.run_following import Identity, identity_of, token_of
from pgtide.protocol.steps import Plan, Request

DEFAULT_KEY = "default"
STOP_PREFIX = "stop:"
"""Of the input stream through which the producers of a stream are asked to stop."""

RUN_IS_OVER = "the run is over"
REMEMBERED = 10_000
ONE_PART = "part:"
"""Before the id of who appends one value and nothing more: the server soon forgets where it was."""
TEXT_LINES = ("content-type", "application/x-ndjson")
EMPTY = ("content-type", "application/json")
CLOSED = ("stream-closed", "true")
JSON_TYPE = ("content-type", "application/json")


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a stream shall end: somebody asked for it (`reason` and `data` are what they said), or its
    run is over (`run_is_over`)."""

    reason: str | None = None
    data: Any = field(default=None, repr=False)
    run_is_over: bool = False


class Registered:
    """Which streams were registered with their runs lately, so that it is not done for every append."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()

    def register(self, run: Identity, key: str, token: str | None) -> Plan[None]:
        """Tell the run of its stream, and its followers through it. Raises InvalidRequestError if the
        run is over."""
        path = writing_path(run, key)
        if path not in self._known:
            yield from attempt(Request("PUT", path, (), (EMPTY,), b""), Patience(), token=token)
        self._known[path] = None
        self._known.move_to_end(path)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def append(
    registered: Registered,
    run: Identity,
    key: str,
    value: Any,
    *,
    access_token: str | None = None,
) -> Plan[None]:
    """Append one value, whatever happens to the connection: once."""
    line = dump(value) + b"\n"
    yield from registered.register(run, key, access_token)
    headers = (
        TEXT_LINES,
        ("x-client-id", ONE_PART + uuid.uuid4().hex),
        ("x-resume-from-chunk", "0"),
        ("x-stream-version", "v1"),
    )
    request = Request("POST", writing_path(run, key), (), headers, line)
    yield from attempt(request, Patience(), token=access_token)


def stop(
    run: Identity,
    key: str = DEFAULT_KEY,
    *,
    reason: str | None = None,
    data: Mapping[str, Any] | None = None,
    access_token: str | None = None,
) -> Plan[None]:
    """Ask whoever writes this stream, wherever that is, to stop: within a second `pipe` ends its
    source and `writer` refuses more. It holds for good, also for a producer that starts again later;
    a next answer goes into a stream of another key.

    What the producer shall know besides `reason` goes into `data`. A browser does the same with
    `useInputStreamSend("stop:<key>", runId)`. The run's handle has a token that suffices.
    """
    message = dict(data or {})
    if reason is not None:
        message["reason"] = reason
    yield from send_input(run, STOP_PREFIX + checked_key(key), message, access_token=access_token)


def send_input(
    run: Identity, key: str, data: Any, *, access_token: str | None = None
) -> Plan[None]:
    """Send a value to a run while it runs; its worker reads with `streams.read_input`."""
    token = access_token or token_of(run)
    yield from call("POST", input_path(run, key), body={"data": data}, token=token)


def close(run: Identity, key: str = DEFAULT_KEY, *, access_token: str | None = None) -> Plan[None]:
    """Close a stream: readers get what there is, and end. Nothing can be appended any more."""
    path = stored_path(run, key)
    request = Request("POST", path, (), (CLOSED,), b"")
    answer = yield from attempt(request, Patience(), token=access_token, accept=(404,))
    if answer.status == 404:
        request = Request("PUT", path, (), (JSON_TYPE, CLOSED), b"")
        yield from attempt(request, Patience(), token=access_token)


def reading_path(run: Identity, key: str) -> str:
    return f"{_streams_of(run)}/{quote(checked_key(key), safe='')}"


def writing_path(run: Identity, key: str) -> str:
    return f"{_streams_of(run)}/self/{quote(checked_key(key), safe='')}"


def input_path(run: Identity, key: str) -> str:
    return f"{_streams_of(run)}/input/{quote(checked_key(key), safe='')}"


def stored_path(run: Identity, key: str) -> str:
    """The same stream as one of Durable Streams."""
    return f"/v1/stream/runs/{quote(identity_of(run), safe='')}/{quote(checked_key(key), safe='')}"


def checked_key(key: str) -> str:
    if not key.strip() or "/" in key or key in (".", ".."):
        raise InvalidRequestError(
            f"a stream's key is a name without slashes, e.g. 'tokens': {key!r}"
        )
    return key


def _streams_of(run: Identity) -> str:
    return f"/realtime/v1/streams/{quote(identity_of(run), safe='')}"
