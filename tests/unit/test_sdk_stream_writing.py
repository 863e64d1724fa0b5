"""How the Python SDK writes to streams of runs when answers are not what they should be."""

from __future__ import annotations

import pytest
from scripted_server import LOST, RUN, Server, answer

from pgtide.errors import (
    InvalidRequestError,
    ProducerReplacedError,
    StreamClosedError,
    StreamStoppedError,
    UnexpectedAnswerError,
)
from pgtide.protocol import run_streams
from pgtide.protocol.channels import RunChannel
from pgtide.protocol.exchange import Patience
from pgtide.protocol.outbox import MOST_BYTES, Outbox, Outgoing
from pgtide.protocol.run_streams import Registered, Stop


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
