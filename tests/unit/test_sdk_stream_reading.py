"""How the Python SDK reads streams of runs when answers are not what they should be."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_server import LOST, RUN, Server, answer, batch, connection, end

from pgtide.errors import (
    ConnectionLostError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    UnexpectedAnswerError,
)
from pgtide.protocol.event_stream import Event, EventStream
from pgtide.protocol.record_reading import Record, read_input, read_stream, watch_stop
from pgtide.protocol.run_streams import Stop


def test_a_cut_connection_is_resumed_behind_the_last_record() -> None:
    server = Server(
        *connection(batch(0, "a", "b") + batch(2, "c")[:20], LOST)[:-1],
        LOST,
        *connection(batch(1, "b", "c"), end("closed")),
    )
    server.perform(read_stream("run_1", "tokens").plan)
    assert server.values == ["a", "b", "c"]
    assert [record.position for record in server.emitted] == [0, 1, 2]
    assert server.headers("last-event-id") == [None, "1", "1"]
    assert len(server.pauses) == 2
    assert {request.path for request in server.requests} == {"/realtime/v1/streams/run_1/tokens"}


@pytest.mark.parametrize("reason", ["closed", "finished"])
def test_it_ends_where_the_stream_does(reason: str) -> None:
    server = Server(*connection(batch(0, 1), end("idle")), *connection(batch(1, 2), end(reason)))
    server.perform(read_stream("run_1").plan)
    assert server.values == [1, 2]
    assert server.headers("last-event-id") == [None, "0"]


def test_a_server_that_gives_no_reason_is_asked_for_the_run() -> None:
    over = RUN | {"status": "COMPLETED", "finishedAt": "2026-01-01T00:00:01.000Z"}
    server = Server(
        *connection(batch(0, 1)),
        answer(body=RUN),
        *connection(),
        answer(body=over),
        # What was appended just before the run ended comes with a connection after that.
        *connection(batch(1, 2)),
        answer(body=over),
        *connection(),
        answer(body=over),
    )
    server.perform(read_stream("run_1").plan)
    assert server.values == [1, 2]
    assert server.answers == []


def test_the_latest_is_asked_for_until_it_has_come() -> None:
    server = Server(LOST, *connection(batch(6, "g"), LOST), *connection(end("closed")))
    server.perform(read_stream("run_1", start="latest").plan)
    assert server.headers("x-trigger-stream-start") == ["latest", "latest", None]
    assert server.headers("last-event-id") == [None, None, "6"]


def test_what_comes_into_an_empty_stream_is_not_skipped() -> None:
    """A stream that was empty for a while: what it has after a cut is new, all of it."""
    server = Server(*connection(b": ping\n\n", LOST), *connection(batch(0, 1, 2), end("closed")))
    server.reading_seconds = 2.0
    server.perform(read_stream("run_1", start="latest").plan)
    assert server.values == [1, 2]
    assert server.headers("x-trigger-stream-start") == ["latest", None]


def test_what_will_not_pass_raises_at_once() -> None:
    for status, error in ((404, NotFoundError), (410, GoneError), (400, InvalidRequestError)):
        server = Server(answer(status), b"")
        with pytest.raises(error):
            server.perform(read_stream("run_1", after=4).plan)
        assert server.headers("last-event-id") == ["4"]


def test_what_may_pass_is_tried_again_as_often_as_allowed() -> None:
    busy = (answer(503, retry_after="7"), b"busy", b"")
    server = Server(*busy, *connection(batch(0, 1), end("closed")))
    server.perform(read_stream("run_1").plan)
    assert server.values == [1]
    assert server.pauses[0] >= 7
    with pytest.raises(ConnectionLostError):
        Server(LOST, LOST, LOST).perform(read_stream("run_1", max_retries=2).plan)


def test_a_refused_token_is_replaced_once() -> None:
    server = Server(
        *(answer(401), b"", *connection(end("closed"))),
        tokens=["old", "new"],
    )
    server.perform(read_stream("run_1").plan)
    assert server.headers("authorization") == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize(
    "pieces",
    [
        b"event: batch\ndata: {}\n\n",
        b"event: batch\ndata: nonsense\n\n",
        b'event: batch\ndata: {"records":[{"seq_num":"x","timestamp":1,"body":"{}"}]}\n\n',
        b'event: batch\ndata: {"records":[{"seq_num":0,"timestamp":1e99,"body":"{\\"data\\":1}"}]}\n\n',
    ],
)
def test_nonsense_is_no_stream(pieces: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError):
        Server(*connection(pieces)).perform(read_stream("run_1").plan)
    with pytest.raises(UnexpectedAnswerError):
        Server(answer(200, content_type="text/html")).perform(read_stream("run_1").plan)


def test_control_records_and_unknown_events_are_no_values() -> None:
    control = b'{"records":[{"seq_num":0,"timestamp":1,"body":"","headers":[]}]}'
    others = b"event: batch\ndata: " + control + b"\n\nevent: ping\ndata: 1\n\n"
    server = Server(*connection(others + batch(1, "a"), end("closed")))
    server.perform(read_stream("run_1").plan)
    assert server.values == ["a"]


def test_input_is_what_was_sent() -> None:
    server = Server(*connection(batch(0, '{"a": [1]}', '"text"', "no json"), end("finished")))
    server.perform(read_input("run_1", "answers").plan)
    assert server.values == [{"a": [1]}, "text", "no json"]
    assert server.requests[0].path == "/realtime/v1/streams/run_1/input/answers"


def test_a_stop_is_a_message_or_the_end_of_the_run() -> None:
    server = Server(*connection(batch(0, '{"reason": "enough"}')))
    server.perform(watch_stop("run_1", "tokens").plan)
    assert server.emitted == [Stop("enough", {"reason": "enough"})]
    assert server.requests[0].path == "/realtime/v1/streams/run_1/input/stop%3Atokens"
    server = Server(*connection(end("finished")))
    server.perform(watch_stop("run_1", "tokens").plan)
    assert server.emitted == [Stop("the run is over", run_is_over=True)]


def test_events_have_names_wherever_they_are_cut() -> None:
    text = b": ping\n\nevent: batch\ndata: 1\ndata: 2\n\ndata:3\r\n\r\nevent: end\ndata: {}\n\n"
    for size in range(1, len(text)):
        stream = EventStream()
        found = [
            event
            for at in range(0, len(text), size)
            for event in stream.events(text[at : at + size])
        ]
        assert found == [Event("batch", b"1\n2"), Event("", b"3"), Event("end", b"{}")]


def test_a_position_is_checked_before_anything_is_asked() -> None:
    for wrong in ({"after": -5}, {"after": 1, "start": "latest"}):
        with pytest.raises(InvalidRequestError):
            read_stream("run_1", **wrong)  # pyright: ignore[reportArgumentType]
    for key in ("", "a/b", "..", " "):
        with pytest.raises(InvalidRequestError):
            read_stream("run_1", key)


def test_records_may_stand_for_positions() -> None:
    first = Server(*connection(batch(0, "a", "b"), end("closed")))
    first.perform(read_stream("run_1").plan)
    record: Record[Any] = first.emitted[1]
    second = Server(*connection(end("closed")))
    second.perform(read_stream("run_1", after=record).plan)
    assert second.headers("last-event-id") == ["1"]
