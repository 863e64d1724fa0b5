"""Only so many requests at a time, over all nodes; and every place is given back."""

from __future__ import annotations

import random
import socket
import time
from contextlib import ExitStack, suppress

from follower import Answer, Follower, ask
from metrics_page import admitted, scrape
from raw import RawConnection, connected
from serving import Serving
from tables import Tables

INITIAL, EXISTING, LIVE = 2, 8, 24
"""As `strict` has them."""


def live(reader: Follower, **more: str) -> bytes:
    pairs = {
        "table": reader.parameters["table"],
        "handle": reader.handle,
        "offset": reader.offset,
        "live": "true",
        **more,
    }
    query = "&".join(f"{name}={value}" for name, value in pairs.items())
    return f"GET /v1/shape?{query} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def until_admitted(server: Serving, initial: int, existing: int) -> None:
    deadline = time.monotonic() + 15
    while (now := admitted(server)) != (initial, existing):
        assert time.monotonic() < deadline, now
        time.sleep(0.02)


def until_waiting(server: Serving, readers: int) -> None:
    """Until so many wait for news; this is looked at once a second only."""
    deadline = time.monotonic() + 15
    while waiting(server) != readers:
        assert time.monotonic() < deadline, waiting(server)
        time.sleep(0.02)


def waiting(server: Serving) -> float:
    values = scrape(server)
    return sum(values[f'pgtide_readers{{mode="{mode}"}}'] for mode in ("long_poll", "sse"))


def check_refusal(answer: Answer, pool: str, limit: int) -> None:
    assert answer.status == 503
    assert answer.error == {
        "code": "concurrent_request_limit_exceeded",
        "message": f"Concurrent {pool} request limit exceeded (limit: {limit}), please retry",
    }
    assert 6 <= int(answer.headers["retry-after"]) <= 10
    assert answer.headers["electric-internal-known-error"] == "true"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["surrogate-control"] == "no-store"
    assert "retry-after" in answer.headers["access-control-expose-headers"]
    assert "electric-handle" not in answer.headers


def test_known_shapes(strict: Serving, strict_tables: Tables) -> None:
    """So many are worked on at a time, wherever they are, and whatever they ask for."""
    name = strict_tables.make("id int primary key")
    reader = Follower(strict.url, name).sync()
    until_admitted(strict, 0, 0)
    rejected = 'electric_admission_control_reject_count{kind="existing"}'
    before = scrape(strict)[rejected]
    part = f"table={name}&handle={reader.handle}&offset={reader.offset}&subset__order_by=id"
    request = f"GET /v1/shape?{part}&subset__limit=1 HTTP/1.1\r\n\r\n".encode()
    with ExitStack() as stack:
        with strict_tables.transaction() as blocker:
            blocker.execute(f"lock table {name} in access exclusive mode".encode())
            connections = [stack.enter_context(connected(strict.url)) for _ in range(EXISTING)]
            for connection in connections:
                connection.send(request)
            until_admitted(strict, 0, EXISTING)
            check_refusal(_poll(strict, reader), "existing", EXISTING)
            # Wrong ones, too, before anything else is looked at; but not what needs no place.
            wrong = ask(strict.url, table="nothing", offset="x", handle=reader.handle)
            check_refusal(wrong, "existing", EXISTING)
            assert ask(strict.url, method="OPTIONS").status == 204
            connections.pop(0).socket.close()
            until_admitted(strict, 0, EXISTING - 1)
            connections.append(stack.enter_context(connected(strict.url)))
            connections[-1].send(request)
            until_admitted(strict, 0, EXISTING)
        for connection in connections:
            assert connection.answer().status == 200
    until_admitted(strict, 0, 0)
    assert scrape(strict)[rejected] == before + 2


def _poll(server: Serving, reader: Follower) -> Answer:
    return ask(
        server.url,
        table=reader.parameters["table"],
        handle=reader.handle,
        offset=reader.offset,
        live=True,
    )


def test_first_snapshots(strict: Serving, strict_tables: Tables) -> None:
    """A place is held until the snapshot has begun."""
    name = strict_tables.make("id int primary key")
    until_admitted(strict, 0, 0)
    with ExitStack() as stack:
        with strict_tables.transaction() as blocker:
            blocker.execute(f"lock table {name} in access exclusive mode".encode())
            connections = [stack.enter_context(connected(strict.url)) for _ in range(INITIAL)]
            for number, connection in enumerate(connections):
                query = f"table={name}&offset=-1&where=id%3E{number}"
                connection.send(f"GET /v1/shape?{query} HTTP/1.1\r\n\r\n".encode())
            until_admitted(strict, INITIAL, 0)
            check_refusal(ask(strict.url, table=name, offset=-1), "initial", INITIAL)
            unknown = ask(strict.url, table=name, offset="0_0", handle="12-34")
            check_refusal(unknown, "initial", INITIAL)
            posted = ask(strict.url, method="POST", table=name, offset=-1)
            assert posted.status == 503
            assert posted.headers["cache-control"] == "no-cache"
            # Who gives up gives its place back, though the snapshot goes on.
            connections[0].socket.close()
            until_admitted(strict, INITIAL - 1, 0)
        for connection in connections[1:]:
            assert connection.answer().status == 200
    until_admitted(strict, 0, 0)


def test_no_place_is_lost(strict: Serving, strict_tables: Tables) -> None:
    """Requests of all kinds, most of them broken off anywhere."""
    name = strict_tables.make("id int primary key, body text")
    strict_tables.run(
        f"insert into {name} select i, repeat('x', 3000) from generate_series(1, 500) i"
    )
    reader = Follower(strict.url, name).sync()
    choose = random.Random(5)
    requests = [
        live(reader),
        live(reader, live_sse="true"),
        f"GET /v1/shape?table={name}&offset=-1 HTTP/1.1\r\n\r\n".encode(),
        f"GET /v1/shape?table={name}&offset=nonsense HTTP/1.1\r\n\r\n".encode(),
        f"GET /v1/shape?table={name}&offset=0_0&handle=1-1 HTTP/1.1\r\n\r\n".encode(),
        f"POST /v1/shape?table={name}&offset=-1 HTTP/1.1\r\ncontent-length: 9\r\n\r\n".encode(),
    ]
    for number in range(150):
        with connected(strict.url) as connection:
            request = choose.choice(requests)
            connection.send(request[: len(request) - choose.choice((0, 0, 0, 1, 30))])
            _leave(connection, choose)
        if number % 10 == 0:
            strict_tables.run(f"update {name} set body = '{number}' where id = 1")
    until_admitted(strict, 0, 0)
    assert ask(strict.url, table=name, offset=-1).status == 200


def _leave(connection: RawConnection, choose: random.Random) -> None:
    """Sooner or later, in order or not."""
    match choose.randrange(4):
        case 0:
            pass
        case 1:
            reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        case 2:
            time.sleep(choose.random() * 0.02)
        case _:
            connection.socket.settimeout(0.05)
            with suppress(TimeoutError):
                connection.socket.recv(choose.choice((1, 100_000)))


def test_those_who_wait_keep_nobody_out(strict: Serving, strict_tables: Tables) -> None:
    """Equal polls, different ones and event streams: there is a limit for them alone. It comes last
    here, so that it also shows whether a place of theirs was lost before."""
    name = strict_tables.make("id int primary key")
    reader = Follower(strict.url, name).sync()
    groups = (
        [live(reader)] * EXISTING,
        [live(reader, cursor=str(number)) for number in range(EXISTING)],
        [live(reader, live_sse="true")] * (LIVE - 2 * EXISTING),
    )
    with ExitStack() as stack:
        connections: list[RawConnection] = []
        for group in groups:
            # More than so many cannot begin at a time.
            for request in group:
                connections.append(stack.enter_context(connected(strict.url)))
                connections[-1].send(request)
            until_waiting(strict, len(connections))
        assert admitted(strict) == (0, 0)
        check_refusal(_poll(strict, reader), "live", LIVE)
        there = ask(strict.url, table=name, handle=reader.handle, offset=reader.offset)
        assert (there.status, there.up_to_date) == (200, True)
        assert ask(strict.url, table=name, offset=-1).status == 200
        strict_tables.run(f"insert into {name} values (1)")
        for connection in connections:
            assert connection.head()[0] == 200
            connection.until(b'"insert"')
    until_admitted(strict, 0, 0)
