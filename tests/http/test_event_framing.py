"""Server-sent events byte by byte."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

from follower import Follower
from serving import Serving
from tables import Tables


@contextmanager
def opened(
    server: Serving, reader: Follower, accept: str = "text/event-stream"
) -> Generator[socket.socket]:
    """A connection over which a stream was asked for."""
    given = {**reader.parameters, "offset": reader.offset, "handle": reader.handle}
    query = urlencode({**given, "live": "true", "live_sse": "true"})
    parts = urlsplit(server.url)
    assert parts.port is not None
    with socket.create_connection(("127.0.0.1", parts.port), timeout=20) as connection:
        request = f"GET /v1/shape?{query} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n"
        connection.sendall(request.encode())
        yield connection


def read_until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def unchunked(data: bytes) -> bytes:
    """A body without the lengths of its chunks; it may end anywhere."""
    found = b""
    while b"\r\n" in data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        found += rest[:length]
        data = rest[length + 2 :]
    return found


def test_events_are_lines_of_data(brief: Serving, brief_tables: Tables) -> None:
    """With whatever is in a row: a line break in it would end the event."""
    name = brief_tables.make("id int primary key, label text")
    reader = Follower(brief.url, name).sync()
    with opened(brief, reader) as connection:
        head, _, body = read_until(connection, b"\r\n\r\n").partition(b"\r\n\r\n")
        assert b"\r\ncontent-type: text/event-stream\r\n" in head + b"\r\n"
        brief_tables.run(f"insert into {name} values (1, e'two\\nlines\\r\\n\\n\\u2028 data: x')")
        while b"up-to-date" not in body or not body.endswith(b"\n\n\r\n"):
            body += connection.recv(65536)
    text = unchunked(body).decode()
    events = [one for one in text.split("\n\n") if one and not one.startswith(":")]
    assert len(events) == 2
    for event in events:
        assert event.startswith("data: {")
        assert "\n" not in event
        assert "\r" not in event
    assert '"up-to-date"' in events[1]


def test_silence_is_broken_by_comments_and_the_end_is_clean(
    brief: Serving, brief_tables: Tables
) -> None:
    reader = Follower(brief.url, brief_tables.make("id int primary key")).sync()
    with opened(brief, reader) as connection:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            piece = connection.recv(65536)
            assert piece, "it was cut off instead of ended"
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"must-refetch" not in body
    comments = unchunked(body).split(b"\n\n")
    assert comments.count(b": keep-alive") >= 2
    assert {one for one in comments if one and not one.startswith(b"data: ")} == {b": keep-alive"}
    assert b"content-length" not in head.lower()


def test_what_the_client_accepts_does_not_matter(brief: Serving, brief_tables: Tables) -> None:
    """The parameter decides."""
    reader = Follower(brief.url, brief_tables.make("id int primary key")).sync()
    with opened(brief, reader, accept="application/json") as connection:
        head = read_until(connection, b"\r\n\r\n")
        assert b"text/event-stream" in head
    answer = reader.request(live=True, headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
