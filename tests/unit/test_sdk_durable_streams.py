"""How the Python SDK reads and writes streams by their path when answers are not as they should be."""

from __future__ import annotations

import pytest
from scripted_server import LOST, Server, answer

from pgtide.errors import InvalidRequestError, ProducerReplacedError, StreamClosedError
from pgtide.protocol import durable_streams
from pgtide.protocol.durable_channel import DurableChannel
from pgtide.protocol.exchange import Patience
from pgtide.protocol.outbox import Outgoing
from pgtide.protocol.steps import Answer


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
