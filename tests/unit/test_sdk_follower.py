"""How the Python SDK follows a shape when answers are not what they should be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from pgtide.errors import (
    AuthenticationError,
    ConnectionLostError,
    InvalidRequestError,
    PgtideError,
    ServerError,
    UnexpectedAnswerError,
)
from pgtide.protocol.definition import Definition, Following
from pgtide.protocol.follower import Follower
from pgtide.protocol.messages import Batch, Change
from pgtide.protocol.steps import (
    Answer,
    Clock,
    Close,
    Credential,
    Emit,
    Fetch,
    Open,
    Pause,
    Read,
    Request,
)

UP_TO_DATE = {"headers": {"control": "up-to-date", "global_last_seen_lsn": "90"}}


def change(number: int, lsn: int | None = None, operation: str = "insert") -> dict[str, Any]:
    headers: dict[str, Any] = {"operation": operation}
    if lsn is not None:
        headers |= {"lsn": str(lsn), "op_position": 0}
    return {"key": str(number), "value": {"id": str(number)}, "headers": headers}


def answer(
    messages: Sequence[object] | None = None,
    status: int = 200,
    handle: str = "h1",
    offset: str = "0_0",
    **headers: str,
) -> Answer:
    known = {
        "electric-handle": handle,
        "electric-offset": offset,
        "electric-schema": '{"id":{"type":"int4"}}',
        "electric-cursor": "7",
        "content-type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    body = b"" if messages is None else json.dumps(messages).encode()
    return Answer(status, known, body, 0.0)


class Server:
    """Performs a follower's steps: answers come from a list, in order; the end of the list ends it.

    An exception in the list is what happens to the connection. `tokens` are those that a function
    makes, one after the other.
    """

    def __init__(self, *answers: Answer | Exception | bytes, tokens: Sequence[str] = ()) -> None:
        self.answers = list(answers)
        self.tokens = list(tokens)
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.batches: list[Batch] = []
        self.time = 0.0

    def follow(self, **options: Any) -> Follower:
        definition = Definition("/v1/shape", (("table", "t"),))
        follower = Follower(definition, Following(**options))
        plan = follower.plan()
        result: Any = None
        error: Exception | None = None
        while True:
            try:
                step = plan.send(result) if error is None else plan.throw(error)
            except StopIteration:
                return follower
            result = error = None
            match step:
                case Fetch(request) | Open(request):
                    self.requests.append(request)
                    if not self.answers:
                        return follower
                    result = self.answers.pop(0)
                case Read():
                    piece = self.answers.pop(0) if self.answers else b""
                    if isinstance(piece, Answer):
                        self.answers.insert(0, piece)
                        piece = b""
                    result = piece
                case Pause(seconds):
                    self.pauses.append(seconds)
                case Clock():
                    result = self.time
                case Credential(refused):
                    result = self.tokens.pop(0) if self.tokens else refused
                case Emit(value):
                    self.batches.append(value)
                case Close():
                    pass
            if isinstance(result, Exception):
                result, error = None, result

    def query(self, at: int) -> dict[str, str]:
        return dict(self.requests[at].query)

    @property
    def ids(self) -> list[int]:
        return [change.value["id"] for batch in self.batches for change in batch.changes]


def test_an_answer_of_another_shape_is_not_mixed_in() -> None:
    server = Server(
        answer([change(1)]),
        answer([change(2, 50), UP_TO_DATE], handle="h2", offset="50_0"),
        answer([change(3), UP_TO_DATE], handle="h3", offset="60_0"),
    )
    server.follow(live=False)
    assert server.ids == [1, 3]
    assert server.batches[1].must_refetch
    assert server.query(2)["offset"] == "-1"
    assert server.query(2)["expired_handle"] == "h1"
    assert server.query(2)["cache-buster"]


def test_a_cache_that_keeps_an_expired_handle_is_gone_around() -> None:
    server = Server(
        answer([change(1)]),
        answer(status=409, handle="h2"),
        answer([change(1)], handle="h1"),
        answer([change(5), UP_TO_DATE], handle="h2", offset="9_0"),
    )
    server.follow(live=False)
    assert server.ids == [1, 5]
    assert server.query(2)["handle"] == "h2"
    assert [server.query(at)["expired_handle"] for at in (2, 3)] == ["h1", "h1"]
    assert server.query(2)["cache-buster"] != server.query(3)["cache-buster"]


def test_whoever_is_sent_in_circles_waits_and_gives_up_if_told_to() -> None:
    circles = [answer(status=409, handle=f"h{at}") for at in range(20)]
    server = Server(*circles)
    server.follow()
    assert len(server.pauses) == 19
    assert server.pauses[-1] > server.pauses[0]
    with pytest.raises(UnexpectedAnswerError, match="409"):
        Server(*circles).follow(max_retries=3)


def test_answers_that_say_nothing_make_no_busy_loop() -> None:
    nothing = [answer([UP_TO_DATE]) for _ in range(40)]
    server = Server(answer([change(1), UP_TO_DATE]), *nothing)
    server.follow()
    assert len(server.pauses) > 30
    assert max(server.pauses) > 1


def test_the_server_is_left_alone_for_as_long_as_it_says() -> None:
    busy = answer(status=503, retry_after="8")
    server = Server(busy, busy, answer(status=429), answer([UP_TO_DATE]))
    server.follow(live=False)
    assert all(seconds >= 8 for seconds in server.pauses[:2])
    assert server.pauses[2] < 8
    with pytest.raises(ServerError):
        Server(busy, busy, busy).follow(max_retries=2)


@pytest.mark.parametrize(
    ("status", "error"), [(400, InvalidRequestError), (401, AuthenticationError)]
)
def test_refusals_are_not_repeated(status: int, error: type[PgtideError]) -> None:
    server = Server(answer(status=status), answer([UP_TO_DATE]))
    with pytest.raises(error):
        server.follow()
    assert len(server.requests) == 1


def test_a_token_is_asked_for_once_per_refusal() -> None:
    refused = answer(status=401)
    tokens = ["first", "second", "third", "fourth"]
    ends = answer([UP_TO_DATE])
    server = Server(refused, answer([change(1)]), refused, ends, tokens=tokens)
    server.follow(live=False)
    sent = [dict(request.headers)["authorization"] for request in server.requests]
    assert sent == [f"Bearer {token}" for token in ("first", "second", "second", "third")]
    with pytest.raises(AuthenticationError) as error:
        Server(refused, refused, tokens=tokens).follow()
    assert "second" not in str(error.value)


def test_a_log_that_is_shorter_than_it_was_is_read_anew() -> None:
    beyond = {"message": "Invalid request", "errors": {"offset": ["out of bounds for this shape"]}}
    gone = Answer(400, {}, json.dumps(beyond).encode(), 0.0)
    server = Server(
        answer([change(1)]), gone, answer([change(2), UP_TO_DATE], handle="h2", offset="3_0")
    )
    server.follow(live=False)
    assert server.ids == [1, 2]


def event(message: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(message).encode() + b"\n\n"


STREAM = answer(content_type="text/event-stream", offset="5_0")


def test_a_torn_event_stream_is_asked_for_again_and_repeats_are_left_out() -> None:
    server = Server(
        answer([UP_TO_DATE], offset="5_0"),
        STREAM,
        event(change(1, 80)) + event(UP_TO_DATE) + event(change(2, 95)),
        ConnectionLostError("cut"),
        STREAM,
        # The server repeats what the client may not have seen.
        event(change(1, 80)) + event(change(2, 95)),
        event(change(3, 96)) + event(UP_TO_DATE),
    )
    server.follow(live_sse=True)
    assert server.ids == [1, 2, 3]
    assert [len(batch.changes) for batch in server.batches] == [0, 1, 2]
    assert server.query(1)["offset"] == "5_0"
    assert server.query(2)["offset"] == "90_0"


def test_streams_that_something_swallows_give_way_to_long_polls() -> None:
    server = Server(
        answer([UP_TO_DATE], offset="5_0"),
        *(STREAM, ConnectionLostError("cut")),
        *(STREAM, b""),
        *(STREAM, ConnectionLostError("cut")),
        answer([change(1, 80), UP_TO_DATE], offset="80_0"),
    )
    server.follow(live_sse=True)
    assert server.ids == [1]
    assert ["live_sse" in server.query(at) for at in range(1, 6)] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_schema_that_grows_is_used_from_then_on() -> None:
    wider = '{"id":{"type":"int4"},"n":{"type":"numeric"}}'
    row = {"key": "2", "value": {"id": "2", "n": "1.5"}, "headers": {"operation": "insert"}}
    server = Server(answer([change(1)]), answer([row, UP_TO_DATE], electric_schema=wider))
    server.follow(live=False)
    changes = [change for batch in server.batches for change in batch.changes]
    assert [type(one.value.get("n")).__name__ for one in changes] == ["NoneType", "Decimal"]
    assert all(isinstance(one, Change) for one in changes)


@pytest.mark.parametrize(
    "strange",
    [
        Answer(200, {}, b"<html>", 0.0),
        Answer(302, {"location": "/"}, b"", 0.0),
        answer([{"no": "headers"}]),
        Answer(200, answer([]).headers, b"<html>", 0.0),
        Answer(200, answer([]).headers, b"{}", 0.0),
    ],
)
def test_what_is_not_pgtide_is_said_to_be_something_else(strange: Answer) -> None:
    with pytest.raises(UnexpectedAnswerError, match=r"pgtide's address\?"):
        Server(strange).follow()
