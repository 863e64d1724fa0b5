"""Equal long polls are served as one; each client gets an answer of its own all the same."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import pytest
from follower import Follower
from raw import RawAnswer, RawConnection, connected
from serving import Serving
from tables import Tables

COUNT = 12


@pytest.fixture
def reader(lone: Serving, lone_tables: Tables) -> Follower:
    return Follower(lone.url, lone_tables.make("id int primary key, body text")).sync()


def poll(reader: Follower, *headers: str, **more: str) -> bytes:
    pairs = {
        "table": reader.parameters["table"],
        "handle": reader.handle,
        "offset": reader.offset,
        "live": "true",
        **more,
    }
    query = "&".join(f"{name}={value}" for name, value in pairs.items())
    lines = [f"GET /v1/shape?{query} HTTP/1.1", "host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()


@contextmanager
def crowd(server: Serving, request: bytes, count: int = COUNT) -> Generator[list[RawConnection]]:
    """Connections that have all sent the request and wait."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(server.url)) for _ in range(count)]
        for connection in connections:
            connection.send(request)
        settle(server)
        yield connections


def settle(server: Serving) -> None:
    """Returns when a node has dealt with everything that was sent to it before, about."""
    for _ in range(3):
        with connected(server.url) as connection:
            connection.send(b"GET /v1/health HTTP/1.1\r\n\r\n")
            assert connection.answer().status == 200
        time.sleep(0.02)


def check_equal(answers: list[RawAnswer]) -> None:
    """But for their ids."""
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers)
    for one in ids:
        assert re.fullmatch(r"[!-~]{20,200}", one)
    for answer in answers:
        assert answer.body == answers[0].body
        assert list(answer.headers) == list(answers[0].headers)
        assert dict(answer.headers, **{"x-request-id": ""}) == dict(
            answers[0].headers, **{"x-request-id": ""}
        )


def insert(tables: Tables, reader: Follower, number: int, size: int = 1) -> None:
    table = reader.parameters["table"]
    tables.run(f"insert into {table} values ({number}, repeat('x', {size}))")


@pytest.mark.parametrize("size", [1, 100_000, 600_000])
def test_all_get_the_same(lone: Serving, lone_tables: Tables, reader: Follower, size: int) -> None:
    with crowd(lone, poll(reader)) as connections:
        insert(lone_tables, reader, 1, size)
        answers = [connection.answer() for connection in connections]
        check_equal(answers)
        assert answers[0].status == 200
        assert b'"operation":"insert"' in answers[0].body
        assert len(answers[0].body) > size
        # They are still good for more requests.
        for connection in connections:
            connection.send(b"GET /v1/health HTTP/1.1\r\n\r\n")
            assert connection.answer().body == b'{"status":"active"}'


def test_the_answer_is_what_one_alone_gets(
    lone: Serving, lone_tables: Tables, reader: Follower
) -> None:
    alone = poll(reader, "if-none-match: nothing")
    with crowd(lone, poll(reader), 3) as connections, crowd(lone, alone, 1) as others:
        insert(lone_tables, reader, 1)
        check_equal([connection.answer() for connection in (*connections, *others)])


def test_ids_and_origins_are_ones_own(lone: Serving, lone_tables: Tables, reader: Follower) -> None:
    with ExitStack() as stack:
        connections: list[tuple[RawConnection, str, str]] = []
        for number in range(6):
            origin = f"https://{number % 2}.example"
            request_id = f"request-{number}-of-a-crowd"
            connection = stack.enter_context(connected(lone.url))
            connection.send(poll(reader, f"origin: {origin}", f"x-request-id: {request_id}"))
            connections.append((connection, origin, request_id))
        settle(lone)
        insert(lone_tables, reader, 1)
        for connection, origin, request_id in connections:
            headers = connection.answer().headers
            assert headers["x-request-id"] == request_id
            assert headers["access-control-allow-origin"] == origin


def test_the_first_leaves(lone: Serving, lone_tables: Tables, reader: Follower) -> None:
    """However many do, the others are served."""
    with crowd(lone, poll(reader)) as connections:
        for connection in connections[:3]:
            connection.socket.close()
        settle(lone)
        connections[5].socket.close()
        for connection in (connections[3], connections[4]):
            connection.socket.close()
        insert(lone_tables, reader, 1)
        answers = [connection.answer() for connection in connections[6:]]
        check_equal(answers)
        assert b'"operation":"insert"' in answers[0].body


def test_all_leave(lone: Serving, lone_tables: Tables, reader: Follower) -> None:
    with crowd(lone, poll(reader)):
        pass
    settle(lone)
    with crowd(lone, poll(reader), 2) as connections:
        insert(lone_tables, reader, 1)
        check_equal([connection.answer() for connection in connections])


def test_nothing_comes(lone: Serving, reader: Follower) -> None:
    with crowd(lone, poll(reader)) as connections:
        answers = [connection.answer() for connection in connections]
        check_equal(answers)
        assert answers[0].headers["electric-has-data"] == "false"
        assert answers[0].headers["electric-offset"] == reader.offset


def test_the_shape_ends(lone: Serving, lone_tables: Tables, reader: Follower) -> None:
    with crowd(lone, poll(reader)) as connections:
        lone_tables.run(f"truncate {reader.parameters['table']}")
        answers = [connection.answer() for connection in connections]
        check_equal(answers)
        assert answers[0].status == 409
        assert answers[0].headers["electric-handle"] != reader.handle


def test_what_is_refused(lone: Serving, reader: Follower) -> None:
    with crowd(lone, poll(reader, where="nonsense(")) as connections:
        answers = [connection.answer() for connection in connections]
        check_equal(answers)
        assert answers[0].status in (400, 409)


def test_others_in_the_pipeline(lone: Serving, lone_tables: Tables, reader: Follower) -> None:
    health = b"GET /v1/health HTTP/1.1\r\n\r\n"
    with crowd(lone, poll(reader) + health + poll(reader) + health, 4) as connections:
        insert(lone_tables, reader, 1)
        for connection in connections:
            assert b'"operation":"insert"' in connection.answer().body
            assert connection.answer().body == b'{"status":"active"}'
            # At the same offset as before there is something at once now.
            assert b'"operation":"insert"' in connection.answer().body
            assert connection.answer().body == b'{"status":"active"}'
