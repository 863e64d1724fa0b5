"""Streams that lose their first messages, and streams that come and go, over HTTP."""

from __future__ import annotations

import contextlib
import secrets
import time

import httpx
import psycopg
from back_ends import KEY, BackEnd

from shapes.streams.stream import offset_of

TEXT = {"content-type": "text/plain"}
PATIENCE = 60.0


def drop_old_parts(back_end: BackEnd) -> None:
    """Whatever was appended is in an old part now, and old parts are gone."""
    database = back_end.db
    [(part,)] = database.run("select pgtide.open_stream_part()")
    database.run("update pgtide.stream_parts set used_from = now() - interval '1 min'")
    deadline = time.monotonic() + PATIENCE
    while part > (first := database.run("select min(part) from pgtide.stream_parts")[0][0]):
        assert time.monotonic() < deadline
        # Others may be reading or appending just now.
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            database.run("select pgtide.drop_stream_part(%s)", first)


def test_what_was_dropped_is_gone_and_the_rest_is_there(back_end: BackEnd) -> None:
    path = f"/v1/stream/retention/{secrets.token_hex(6)}"
    for text in ("a", "b"):
        back_end.ask("PUT", path, headers=TEXT)
        assert back_end.ask("POST", path, text, TEXT).status_code == 204
    fork = {**TEXT, "stream-forked-from": path, "stream-fork-offset": offset_of(1)}
    assert back_end.ask("PUT", f"{path}/fork", "f", fork).status_code == 201
    # Both nodes know it with all it has.
    for _ in range(8):
        key = {"authorization": f"Bearer {KEY}"}
        assert httpx.get(f"{back_end.url}{path}?offset=-1", headers=key).text == "ab"
    drop_old_parts(back_end)
    assert back_end.ask("POST", path, "c", TEXT).status_code == 204
    assert back_end.ask("POST", f"{path}/fork", "g", TEXT).status_code == 204
    for place in (path, f"{path}/fork"):
        for live in ("", "&live=sse", "&live=long-poll"):
            answer = back_end.ask("GET", f"{place}?offset={offset_of(0)}{live}")
            assert answer.status_code == 410, live
    for place, offset, text in (
        (path, "-1", "c"),
        (path, offset_of(2), "c"),
        (f"{path}/fork", "-1", "g"),
    ):
        answer = back_end.ask("GET", f"{place}?offset={offset}")
        assert (answer.status_code, answer.text) == (200, text)
        assert "stream-up-to-date" in answer.headers
    new = back_end.ask("PUT", f"{path}/x", headers={**fork, "stream-fork-offset": offset_of(0)})
    assert new.status_code == 400


def test_whoever_deletes_is_not_answered_before_it_is_gone(back_end: BackEnd) -> None:
    path = f"/v1/stream/retention/{secrets.token_hex(6)}"
    key = {"authorization": f"Bearer {KEY}"}
    for turn in range(10):
        assert back_end.ask("PUT", path, str(turn), TEXT).status_code == 201
        # A connection of its own may reach either node.
        url = f"{back_end.url}{path}?offset={offset_of(0)}&live=long-poll"
        assert httpx.get(url, headers=key).text == str(turn)
        assert back_end.ask("DELETE", path).status_code == 204
        assert back_end.ask("GET", f"{path}?offset=-1").status_code == 404
