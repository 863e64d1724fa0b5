"""How the Python SDK reads and writes streams when answers are not what they should be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from pgtide.errors import (
    ConnectionLostError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    ProducerReplacedError,
    StreamClosedError,
    StreamStoppedError,
    UnexpectedAnswerError,
)
from pgtide.protocol import durable_streams, run_streams
from pgtide.protocol.channels import RunChannel
from pgtide.protocol.durable_channel import DurableChannel
from pgtide.protocol.event_stream import Event, EventStream
from pgtide.protocol.exchange import Patience
from pgtide.protocol.outbox import MOST_BYTES, Outbox, Outgoing
from pgtide.protocol.record_reading import Record, read_input, read_stream, watch_stop
from pgtide.protocol.run_streams import Registered, Stop
from pgtide.protocol.steps import (
    Answer,
    Clock,
    Close,
    Credential,
    Emit,
    Fetch,
    Open,
    Pause,
    Plan,
    Read,
    Request,
)

EVENTS = {"content-type": "text/event-stream", "x-stream-version": "v2"}
LOST = ConnectionLostError("cut")
RUN = {"id": "run_1", "status": "EXECUTING", "createdAt": "2026-01-01T00:00:00.000Z"}


def answer(status: int = 200, body: object = b"", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    known = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, known, data, 0.0)


def batch(first: int, *values: object) -> bytes:
    records = [
        {"seq_num": first + place, "timestamp": 1000, "body": json.dumps({"data": value})}
        for place, value in enumerate(values)
    ]
    return f"event: batch\ndata: {json.dumps({'records': records})}\n\n".encode()


def end(reason: str) -> bytes:
    return f'event: end\ndata: {{"reason":"{reason}"}}\n\n'.encode()


def connection(*pieces: bytes | Exception) -> list[Answer | bytes | Exception]:
    """An event stream that ends after these pieces, or breaks with an exception."""
    return [Answer(200, EVENTS, b"", 0.0), *pieces, b""]


class Server:
    """Performs a plan's steps: answers, and the pieces of their bodies, come from a list, in order.

    The end of the list is the end of the test; an exception is what happens to the connection, which
    takes a tenth of a second to make.
    """

    def __init__(self, *answers: Answer | bytes | Exception, tokens: Sequence[str] = ()) -> None:
        self.answers = list(answers)
        self.tokens = list(tokens)
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.emitted: list[Any] = []
        self.time = 0.0
        self.reading_seconds = 0.0

    def perform(self, plan: Plan[Any]) -> Any:
        result: Any = None
        error: Exception | None = None
        while True:
            try:
                step = plan.send(result) if error is None else plan.throw(error)
            except StopIteration as ended:
                return ended.value
            result = error = None
            if isinstance(step, Fetch | Open):
                self.requests.append(step.request)
                self.time += 0.1
                while self.answers and isinstance(self.answers[0], bytes):
                    del self.answers[0]  # The rest of a body that was left.
                if not self.answers:
                    return plan.close()
            if isinstance(step, Read):
                self.time += self.reading_seconds
            match step:
                case Fetch() | Open() | Read():
                    result = self.answers.pop(0)
                    if isinstance(result, Exception):
                        result, error = None, result
                case Pause(seconds):
                    self.pauses.append(seconds)
                    self.time += seconds
                case Clock():
                    result = self.time
                case Credential():
                    result = self.tokens.pop(0) if self.tokens else None
                case Emit(value):
                    self.emitted.append(value)
                case Close():
                    pass

    def headers(self, name: str) -> list[str | None]:
        return [dict(request.headers).get(name) for request in self.requests]

    @property
    def values(self) -> list[Any]:
        return [record.value for record in self.emitted]


# -- reading ---------------------------------------------------------------------------------------


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


# -- writing ---------------------------------------------------------------------------------------


def test_an_outbox_gives_the_same_until_it_is_settled() -> None:
    outbox = Outbox(most_together=2)
    outbox.position = 5
    for value in (b"a", b"b", b"c"):
        outbox.add(value)
    assert outbox.take() == outbox.take() == Outgoing(5, (b"a", b"b"))
    outbox.add(b"d")
    outbox.settled()
    assert outbox.take() == Outgoing(7, (b"c", b"d"))
    assert not outbox.is_empty
    outbox.settled()
    assert outbox.take() is None
    assert outbox.is_empty
    assert outbox.position == 9


def test_an_outbox_is_full_before_it_is_large() -> None:
    outbox = Outbox()
    while not outbox.is_full:
        outbox.add(b"x" * 10_000)
    assert outbox.position <= MOST_BYTES // 10_000 + 1
    for _ in range(3):
        assert outbox.take() is not None
        outbox.settled()
    assert not outbox.is_full


def channel(producer: str | None = None) -> RunChannel:
    return RunChannel(Registered(), "run_1", "tokens", producer)


def test_a_writer_registers_its_stream_and_numbers_its_values() -> None:
    server = Server(answer(202), LOST, answer(503), answer())
    writing = channel()
    assert server.perform(writing.open()) == 0
    server.perform(writing.send(Outgoing(3, (b'"a"', b'{"b":1}')), Patience(None)))
    assert [request.method for request in server.requests] == ["PUT", "POST", "POST", "POST"]
    assert server.requests[1:] == [server.requests[1]] * 3, "repeated as it was"
    sent = server.requests[1]
    assert sent.path == "/realtime/v1/streams/run_1/self/tokens"
    assert sent.body == b'"a"\n{"b":1}\n'
    assert dict(sent.headers)["x-resume-from-chunk"] == "3"


def test_a_named_producer_takes_over_with_a_higher_epoch() -> None:
    earlier = 10**15
    server = Server(
        answer(202),
        answer(409, x_producer_epoch=str(earlier), x_last_chunk_index="6"),
        answer(x_last_chunk_index="7"),
        answer(x_last_chunk_index="8"),
    )
    writing = channel("worker-1")
    assert server.perform(writing.open()) == 8
    server.perform(writing.send(Outgoing(8, (b"1",)), Patience()))
    assert server.headers("x-client-id")[1:] == ["worker-1"] * 3
    first, *others = server.headers("x-producer-epoch")[1:]
    assert first is not None
    assert 10**12 < int(first) < earlier
    assert others == [str(earlier + 1)] * 2
    assert [request.body for request in server.requests[1:]] == [b"", b"", b"1\n"]


def test_what_a_producer_is_refused_for() -> None:
    for refused, error in (
        (answer(409, b"stale", x_producer_epoch="9"), ProducerReplacedError),
        (answer(409, b"a gap", x_last_chunk_index="3"), UnexpectedAnswerError),
        (answer(409, b"closed", x_last_chunk_index="4"), StreamClosedError),
        (answer(409, b"closed"), StreamClosedError),
        (answer(413, b"too large"), InvalidRequestError),
    ):
        with pytest.raises(error):
            Server(refused).perform(channel().send(Outgoing(5, (b"1",)), Patience()))


def test_a_run_that_is_over_stops_its_writer() -> None:
    over = RUN | {"status": "CANCELED", "finishedAt": "2026-01-01T00:00:01.000Z"}
    with pytest.raises(StreamStoppedError) as stopped:
        Server(answer(400), answer(body=over)).perform(
            channel().send(Outgoing(0, (b"1",)), Patience())
        )
    assert stopped.value.stop == Stop("the run is over", run_is_over=True)
    with pytest.raises(InvalidRequestError):
        Server(answer(400), answer(body=RUN)).perform(channel().open())


def test_appends_register_a_stream_once() -> None:
    registered = Registered()
    server = Server(answer(202), answer(), answer())
    for value in ("a", ["b"]):
        server.perform(run_streams.append(registered, "run_1", "logs", value))
    assert [request.method for request in server.requests] == ["PUT", "POST", "POST"]
    assert [request.body for request in server.requests[1:]] == [b'"a"\n', b'["b"]\n']
    first, second = server.headers("x-client-id")[1:]
    assert first != second


def test_closing_what_nobody_has_written_to_makes_it_closed() -> None:
    server = Server(answer(404), answer(201))
    server.perform(run_streams.close("run_1", "tokens"))
    assert [request.method for request in server.requests] == ["POST", "PUT"]
    assert server.headers("stream-closed") == ["true", "true"]


# -- streams by their path -------------------------------------------------------------------------


def page(
    body: object, offset: str, *, tail: bool = True, kind: str = "application/json", **more: str
) -> Answer:
    if tail:
        more["stream_up_to_date"] = "true"
    return answer(200, body, stream_next_offset=offset, content_type=kind, **more)


def test_pages_and_then_polls() -> None:
    server = Server(
        page([1, 2], "0_2", tail=False),
        page([[3]], "0_3"),
        LOST,
        answer(204, stream_next_offset="0_3", stream_up_to_date="true", stream_cursor="5"),
        page([{"a": 1}], "0_4", stream_closed="true"),
    )
    server.perform(durable_streams.read("chats/4 2").plan)
    assert [part.data for part in server.emitted] == [[1, 2], [[3]], [{"a": 1}]]
    assert [part.is_last for part in server.emitted] == [False, False, True]
    assert [dict(request.query) for request in server.requests] == [
        {"offset": "-1"},
        {"offset": "0_2"},
        {"live": "long-poll", "offset": "0_3"},
        {"live": "long-poll", "offset": "0_3"},
        {"cursor": "5", "live": "long-poll", "offset": "0_3"},
    ]
    assert server.requests[0].path == "/v1/stream/chats/4%202"


def test_without_live_it_ends_at_the_present() -> None:
    server = Server(page(b"x", "0_1", kind="text/plain"))
    server.perform(durable_streams.read("log", live=False).plan)
    (part,) = server.emitted
    assert (part.data, part.offset, part.is_last) == ("x", "0_1", False)


def test_a_character_that_is_cut_is_put_together() -> None:
    text = "a€b".encode()
    server = Server(
        page(text[:2], "0_1", kind="text/plain"),
        page(text[2:], "0_2", kind="text/plain", stream_closed="true"),
    )
    server.perform(durable_streams.read("log").plan)
    assert [(part.data, part.offset) for part in server.emitted] == [("a€b", "0_2")]


def test_polls_that_do_not_wait_are_slowed_down() -> None:
    idle = answer(204, stream_next_offset="0_0", stream_up_to_date="true")
    server = Server(page([], "0_0"), *[idle] * 10)
    server.perform(durable_streams.read("log").plan)
    assert len(server.pauses) >= 9


def test_a_named_producer_asks_where_it_was() -> None:
    for asked, expected in (
        (answer(409, producer_expected_seq="7", producer_received_seq="9"), 7),
        (answer(400), 0),
    ):
        server = Server(
            answer(content_type="application/json", stream_next_offset="0_9"), asked, answer(200)
        )
        writing = DurableChannel("chats/42", producer="w", epoch=3)
        assert server.perform(writing.open()) == expected
        server.perform(writing.send(Outgoing(expected, (b"1",)), Patience()))
        assert server.headers("producer-seq") == [None, str(2**53 - 1), str(expected)]
        assert server.requests[2].body == b"[1]"


def test_a_producer_without_a_name_counts_its_requests() -> None:
    server = Server(answer(200), answer(204), answer(403, producer_epoch="4"))
    writing = DurableChannel("log", "text/plain")
    assert server.perform(writing.open()) == 0
    server.perform(writing.send(Outgoing(0, (b"a", b"b")), Patience()))
    server.perform(writing.send(Outgoing(2, (b"c",)), Patience()))
    with pytest.raises(ProducerReplacedError):
        server.perform(writing.send(Outgoing(3, (b"d",)), Patience()))
    assert server.headers("producer-seq") == ["0", "1", "2"]
    assert server.requests[0].body == b"ab"
    closed = answer(409, stream_closed="true", stream_next_offset="0_1")
    with pytest.raises(StreamClosedError):
        Server(closed).perform(writing.send(Outgoing(3, (b"d",)), Patience()))


def test_what_a_stream_cannot_hold_is_refused_before_it_is_sent() -> None:
    assert (
        durable_streams.encoded([1, "ü"], "application/json; charset=utf-8") == '[1,"ü"]'.encode()
    )
    for value, kind in ((3, "text/plain"), ("", "text/plain"), (object(), "application/json")):
        with pytest.raises(InvalidRequestError):
            durable_streams.encoded(value, kind)
    for path in ("", "a//b", "../x"):
        with pytest.raises(InvalidRequestError):
            durable_streams.stream_path(path)


def test_records_may_stand_for_positions() -> None:
    first = Server(*connection(batch(0, "a", "b"), end("closed")))
    first.perform(read_stream("run_1").plan)
    record: Record[Any] = first.emitted[1]
    second = Server(*connection(end("closed")))
    second.perform(read_stream("run_1", after=record).plan)
    assert second.headers("last-event-id") == ["1"]
