"""Which headers an answer has, and what they say."""

from __future__ import annotations

import time

import pytest
from follower import Answer, Follower, ask, events
from serving import Serving
from tables import Tables

CURSOR_EPOCH = 1_728_432_000
LOG = {"electric-handle", "electric-offset", "electric-has-data"}


@pytest.fixture
def items(tables: Tables) -> str:
    """A table with one row."""
    name = tables.make("id int primary key, label text")
    tables.run(f"insert into {name} values (1, 'one')")
    return name


@pytest.fixture
def reader(server: Serving, items: str) -> Follower:
    """Up to date."""
    return Follower(server.url, items).sync()


def max_age(answer: Answer) -> str:
    return answer.headers["cache-control"]


def test_first_answer(server: Serving, items: str) -> None:
    answer = ask(server.url, table=items, offset=-1)
    assert answer.status == 200
    assert answer.electric() == LOG | {"electric-schema"}
    assert answer.offset == "0_0"
    assert answer.headers["electric-has-data"] == "true"
    assert answer.headers["etag"] == f'"{answer.handle}:-1:0_0"'
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert (
        max_age(answer) == "public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746"
    )


def test_answer_to_now(server: Serving, items: str) -> None:
    answer = ask(server.url, table=items, offset="now")
    assert answer.status == 200
    assert answer.electric() == LOG | {"electric-schema", "electric-up-to-date"}
    assert answer.headers["electric-up-to-date"] == ""
    assert answer.headers["electric-has-data"] == "false"
    assert max_age(answer) == "public, max-age=60, stale-while-revalidate=300"
    assert [message["headers"]["control"] for message in answer.messages] == ["up-to-date"]


def test_catch_up_answer(server: Serving, items: str, reader: Follower, tables: Tables) -> None:
    before = reader.offset
    tables.run(f"insert into {items} values (2, 'two')")
    reader.take(1)
    answer = reader.request(offset=before)
    assert answer.status == 200
    assert answer.electric() == LOG | {"electric-schema", "electric-up-to-date"}
    assert answer.headers["electric-has-data"] == "true"
    assert answer.offset == reader.offset
    assert answer.headers["etag"] == f'"{answer.handle}:{before}:{answer.offset}"'
    assert max_age(answer) == "public, max-age=60, stale-while-revalidate=300"


def test_live_answer(server: Serving, items: str, reader: Follower, tables: Tables) -> None:
    before = reader.offset
    tables.run(f"insert into {items} values (2, 'two')")
    reader.take(1)
    answer = reader.request(offset=before, live=True)
    assert answer.status == 200
    assert answer.electric() == LOG | {"electric-cursor", "electric-up-to-date"}
    assert answer.headers["electric-has-data"] == "true"
    assert answer.headers["etag"] == f'"{answer.handle}:{before}:{answer.offset}"'
    assert max_age(answer) == "public, max-age=5, stale-while-revalidate=5"


def test_live_answer_without_news(brief: Serving, brief_tables: Tables) -> None:
    reader = Follower(brief.url, brief_tables.make("id int primary key")).sync()
    answers = [reader.request(live=True) for _ in range(2)]
    for answer in answers:
        assert answer.status == 200
        assert answer.electric() == LOG | {"electric-cursor", "electric-up-to-date"}
        assert answer.headers["electric-has-data"] == "false"
        assert answer.offset == reader.offset
        assert [message["headers"]["control"] for message in answer.messages] == ["up-to-date"]
        assert max_age(answer) == "public, max-age=5, stale-while-revalidate=5"
    assert answers[0].headers["etag"] != answers[1].headers["etag"], "caches would confirm it"


def test_stream_of_events(server: Serving, items: str, reader: Follower) -> None:
    with events(server.url, table=items, offset=reader.offset, handle=reader.handle) as stream:
        answer = stream.answer
        assert answer.status == 200
        # Whether it is at the tail when it opens is for the first up-to-date to say.
        assert answer.electric() - {"electric-up-to-date"} == LOG | {"electric-cursor"}
        assert answer.offset == reader.offset
        assert answer.headers["electric-has-data"] == "true"
        assert max_age(answer) == "public, max-age=59"


def test_not_modified(server: Serving, items: str) -> None:
    first = ask(server.url, table=items, offset=-1)
    etag = first.headers["etag"]
    for given in (etag, f'"other", {etag}', etag.strip('"')):
        again = ask(server.url, table=items, offset=-1, headers={"if-none-match": given})
        assert (again.status, again.text) == (304, "")
        assert again.electric() == LOG
        assert again.headers["etag"] == etag
        assert (again.handle, again.offset) == (first.handle, "0_0")
        assert max_age(again) == max_age(first)
    other = ask(server.url, table=items, offset=-1, headers={"if-none-match": '"other"'})
    assert other.status == 200


def test_first_etag_stays_while_data_is_appended(
    server: Serving, items: str, reader: Follower, tables: Tables
) -> None:
    etag = ask(server.url, table=items, offset=-1).headers["etag"]
    tables.run(f"insert into {items} values (2, 'two')")
    reader.take(1)
    again = ask(server.url, table=items, offset=-1, headers={"if-none-match": etag})
    assert again.status == 304


def test_not_modified_in_the_log(
    server: Serving, items: str, reader: Follower, tables: Tables
) -> None:
    before = reader.offset
    tables.run(f"insert into {items} values (2, 'two')")
    reader.take(1)
    lsn, index = reader.offset.split("_")
    between = f"{lsn}_{int(index) - 1}"
    etags: dict[str, str] = {}
    for offset in (before, between):
        etag = etags[offset] = reader.request(offset=offset).headers["etag"]
        again = reader.request(offset=offset, headers={"if-none-match": etag})
        assert (again.status, again.text) == (304, "")
        assert again.electric() == LOG | {"electric-up-to-date"}
        live = reader.request(offset=offset, live=True, headers={"if-none-match": etag})
        assert live.status == 304
        assert live.electric() == LOG | {"electric-up-to-date", "electric-cursor"}
    tables.run(f"insert into {items} values (3, 'three')")
    reader.take(1)
    for offset, etag in etags.items():
        assert reader.request(offset=offset, headers={"if-none-match": etag}).status == 200


def test_must_refetch(server: Serving, items: str) -> None:
    handle = ask(server.url, table=items, offset=-1).handle
    answer = ask(server.url, table=items, offset="0_0", handle="1-1")
    assert answer.status == 409
    assert answer.text == '[{"headers":{"control":"must-refetch"}}]'
    assert answer.electric() == {"electric-handle"}
    assert answer.handle == handle
    assert answer.headers["etag"] == f'"{handle}::"'
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert max_age(answer) == "public, max-age=60, must-revalidate"


def test_error(server: Serving) -> None:
    answer = ask(server.url, table="nowhere", offset=-1)
    assert answer.status == 400
    assert answer.electric() == set()
    assert "etag" not in answer.headers
    assert max_age(answer) == "no-store"
    assert answer.headers["surrogate-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


def test_head_is_a_get_without_body(server: Serving, items: str) -> None:
    answer = ask(server.url, table=items, offset=-1)
    head = ask(server.url, method="HEAD", table=items, offset=-1)
    assert (head.status, head.text) == (200, "")
    same = {*LOG, "electric-schema", "etag", "cache-control", "content-type"}
    for name in same:
        assert head.headers[name] == answer.headers[name], name


def test_cursors_collapse_requests_and_always_grow(
    server: Serving, items: str, reader: Follower, tables: Tables
) -> None:
    before = reader.offset
    tables.run(f"insert into {items} values (2, 'two')")
    reader.take(1)

    def cursor(previous: object) -> int:
        answer = reader.request(offset=before, live=True, cursor=previous)
        return int(answer.headers["electric-cursor"])

    def period_end() -> int:
        return -(-(int(time.time()) - CURSOR_EPOCH) // 20) * 20

    begin = period_end()
    given = [cursor(previous) for previous in ("", "not-a-number", begin - 20)]
    if period_end() != begin:
        # The 20 s ended in between.
        begin = period_end()
        given = [cursor(previous) for previous in ("", "not-a-number", begin - 20)]
    assert given == [begin] * 3
    far = begin + 7200
    assert far < cursor(far)
    assert cursor(far) == cursor(far), "other groups of clients would never meet again"
