"""What is not sent a second time."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from follower import Follower, ask
from serving import Serving
from tables import Tables


@pytest.fixture(scope="module")
def items(brief_tables: Tables) -> str:
    name = brief_tables.make("id int primary key, label text")
    brief_tables.run(f"insert into {name} values (1, 'one')")
    return name


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{}", 304),
        ('"x", {}', 304),
        ('{},"x"', 304),
        ('"x" ,\t{} , "y"', 304),
        ("{bare}", 304),
        ("", 200),
        ('""', 200),
        ('"x"', 200),
        ("W/{}", 200),
        ("{bare}x", 200),
        ('"{bare},"', 304),
    ],
)
def test_if_none_match(brief: Serving, items: str, header: str, status: int) -> None:
    """A list, with quotes and blanks or without; compared strongly."""
    etag = ask(brief.url, table=items, offset=-1).headers["etag"]
    given = {"if-none-match": header.format(etag, bare=etag.strip('"'))}
    answer = ask(brief.url, table=items, offset=-1, headers=given)
    assert answer.status == status
    assert (answer.text == "") == (status == 304)
    assert answer.headers["etag"] == etag


def test_every_chunk_has_its_own(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key, label text")
    brief_tables.run(
        f"insert into {name} select i, repeat('x', 150) from generate_series(1, 200) i"
    )
    reader = Follower(brief.url, name)
    etags: dict[str, str] = {}
    while not reader.live:
        offset = reader.offset
        etags[offset] = reader.step().headers["etag"]
    assert len(set(etags.values())) == len(etags) > 4
    for offset, etag in etags.items():
        given = {"if-none-match": etag}
        assert reader.request(offset=offset, headers=given).status == 304
        others = ", ".join(one for one in etags.values() if one != etag)
        assert reader.request(offset=offset, headers={"if-none-match": others}).status == 200


def test_a_chunk_in_the_middle_of_the_log(brief: Serving, brief_tables: Tables) -> None:
    """Completed, it stays as it is; the last one does not."""
    name = brief_tables.make("id int primary key, label text")
    reader = Follower(brief.url, name).sync()
    start = reader.offset
    insert = f"insert into {name} select i, repeat('x', 150) from generate_series"
    brief_tables.run(f"{insert}(1, 100) i")
    while len(reader.changes) < 100:
        reader.step(live=reader.live)
    middle = reader.request(offset=start)
    assert not middle.up_to_date
    last = reader.request(offset=middle.offset)
    place = middle.offset
    while not last.up_to_date:
        place, last = last.offset, reader.request(offset=last.offset)
    end = {"if-none-match": last.headers["etag"]}
    assert reader.request(offset=place, headers=end).status == 304
    brief_tables.run(f"{insert}(101, 101) i")
    reader.take(101)
    again = {"if-none-match": middle.headers["etag"]}
    assert reader.request(offset=start, headers=again).status == 304
    assert reader.request(offset=place, headers=end).status == 200


def test_nothing_new_is_never_confirmed(brief: Serving, items: str) -> None:
    """A cache would take the old answer, and with it the old cursor, for a new one."""
    reader = Follower(brief.url, items).sync()
    silent = reader.request(live=True)
    given = {"if-none-match": silent.headers["etag"]}
    assert reader.request(live=True, headers=given).status == 200
    now = reader.request(offset="now")
    given = {"if-none-match": now.headers["etag"]}
    assert reader.request(offset="now", headers=given).status == 200


def test_tags_in_several_lines(brief: Serving, items: str) -> None:
    etag = ask(brief.url, table=items, offset=-1).headers["etag"]
    lines = [("if-none-match", '"x"'), ("if-none-match", etag), ("if-none-match", '"y"')]
    url = f"{brief.url}/v1/shape?table={items}&offset=-1"
    with httpx.Client() as http:
        assert http.get(url, headers=lines).status_code == 304


def test_a_live_request_is_compared_before_it_waits(server: Serving, tables: Tables) -> None:
    reader = Follower(server.url, tables.make("id int primary key")).sync()
    etag = reader.request().headers["etag"]
    begin = time.monotonic()
    answer = reader.request(live=True, headers={"if-none-match": etag})
    assert (answer.status, answer.text) == (304, "")
    assert time.monotonic() - begin < 10, "it has waited for changes"
    assert answer.headers["electric-cursor"].isdigit()


def test_subsets_and_redirections_are_sent_again(brief: Serving, items: str) -> None:
    first = ask(brief.url, table=items, offset=-1)
    given = {"if-none-match": f'{first.headers["etag"]}, "{first.handle}::"'}
    answer = ask(brief.url, table=items, offset="0_0", handle="1-1", headers=given)
    assert answer.status == 409
    reader = Follower(brief.url, items).sync()
    subset = reader.request(headers=given, subset__where="true")
    assert subset.status == 200


def test_another_shape_has_others(brief: Serving, items: str) -> None:
    others: list[dict[str, Any]] = [{}, {"where": "id = 1"}, {"columns": "id"}, {"replica": "full"}]
    etags = {ask(brief.url, table=items, offset=-1, **more).headers["etag"] for more in others}
    assert len(etags) == 4
