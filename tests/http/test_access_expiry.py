"""Reads under way end with the credential that they hang on."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from access_tokens import SECRET_KEY, public_token
from follower import Events, Follower, ask, events
from guarded import SECRET, Guarded

AT_MOST = 15.0
"""Seconds after its expiry in which nothing may be read with a token any more. Polls last longer."""

LIFE = 1.5


def short(table: str, seconds: float = LIFE) -> tuple[str, float]:
    """A token, and when it expires by this clock."""
    expires = time.time() + seconds
    return public_token(SECRET_KEY, [f"read:shapes:{table}"], exp=expires), expires


def place(follower: Follower) -> dict[str, Any]:
    return {"handle": follower.handle, "offset": follower.offset}


@contextmanager
def stream(guarded: Guarded, table: str, token: str | None = None) -> Generator[Events]:
    """Without a token it has one that lives shortly, made when all else is there."""
    follower = Follower(guarded.url, table, secret=SECRET).sync()
    token = token or short(table)[0]
    with events(guarded.url, table=table, token=token, **place(follower)) as opened:
        yield opened


def statuses(guarded: Guarded, table: str, token: str) -> set[int]:
    """Of several requests, of which each may reach another node."""
    asked: dict[str, Any] = {"table": table, "offset": -1, "token": token}
    return {ask(guarded.url, **asked).status for _ in range(8)}


def test_a_held_poll_returns_when_its_token_expires(guarded: Guarded) -> None:
    table = guarded.tables.make("id int primary key")
    follower = Follower(guarded.url, table, secret=SECRET).sync()
    token, expires = short(table)
    given: dict[str, Any] = {"table": table, "token": token, **place(follower)}
    answer = ask(guarded.url, live=True, **given)
    assert expires <= time.time() < expires + AT_MOST
    assert (answer.status, answer.changes, answer.up_to_date) == (200, [], True)
    answer = ask(guarded.url, live=True, **given)
    assert answer.status == 401
    assert "expired" in answer.error["message"]
    # Another token goes on from there.
    fresh, _ = short(table, 600)
    guarded.tables.run(f"insert into {table} values (1)")
    given["token"] = fresh
    answer = ask(guarded.url, live=True, **given)
    assert [change["value"] for change in answer.changes] == [{"id": "1"}]


def test_a_stream_ends_when_its_token_expires(guarded: Guarded) -> None:
    table = guarded.tables.make("id int primary key")
    begin = time.time()
    with stream(guarded, table) as opened:
        expires = time.time() + LIFE
        guarded.tables.run(f"insert into {table} values (1)")
        assert len(opened.next_batch()) == 2
        # The body's end is a proper one: nothing is raised.
        assert opened.rest() == []
        assert begin + LIFE <= time.time() < expires + AT_MOST


def test_other_reads_go_on(guarded: Guarded) -> None:
    table = guarded.tables.make("id int primary key")
    longer, _ = short(table, 600)
    with stream(guarded, table, longer) as lasting, stream(guarded, table) as ending:
        assert ending.rest() == []
        guarded.tables.run(f"insert into {table} values (1)")
        assert len(lasting.next_batch()) == 2


def test_reads_end_when_the_key_of_their_token_is_taken_away(guarded: Guarded) -> None:
    table = guarded.tables.make("id int primary key")
    token = guarded.files.token(f"read:shapes:{table}")
    kept, _ = short(table, 600)
    with (
        stream(guarded, table, token) as ending,
        stream(guarded, table, kept) as lasting,
        guarded.files.another_key(),
    ):
        changed = time.time()
        assert ending.rest() == []
        assert time.time() < changed + AT_MOST
        while 200 in statuses(guarded, table, token):
            assert time.time() < changed + AT_MOST
        guarded.tables.run(f"insert into {table} values (1)")
        assert len(lasting.next_batch()) == 2
    back = time.time()
    while 401 in statuses(guarded, table, token):
        assert time.time() < back + AT_MOST
