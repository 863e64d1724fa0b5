"""Rows leave a shape with a window as time goes by, as deletes, for everybody at the same place.

Most windows here are moved by the tests: a tick is a message in the WAL, whoever writes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import closing, suppress

import httpx
import pytest
from serving import Serving, fresh_database
from shape_client import ShapeClient
from shape_rows import ViolationError
from tables import Tables
from window_subject import WindowSubject

from engine.postgres.table import Column, Table
from shapes.database import SNAPSHOT_SETTINGS
from shapes.windows.moves import WindowMove
from shapes.windows.window import Window

COLUMNS = "id int primary key, at timestamptz, tag text"


@pytest.fixture(scope="module")
def database(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="module")
def serving(database: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """Two nodes whose windows move every second, if they are short; those of days nearly never."""
    folder = tmp_path_factory.mktemp("pgtide-windows")
    with Serving(database, folder, window_step=100000, long_poll_timeout=2) as serving:
        yield serving


@pytest.fixture(scope="module")
def tables(database: str, serving: Serving) -> Generator[Tables]:
    assert serving.url
    with closing(Tables(database)) as made:
        yield made


def move(serving: Serving, tables: Tables, name: str, days: int, hours: float) -> None:
    """Let what is older than so many hours leave the window of so many days."""
    ((oid, kind),) = tables.run(
        f"select oid::int8, relkind::text from pg_class where oid = '{name}'::regclass"
    )
    columns = (
        Column("id", "int4", 23, not_null=True, key_index=0),
        Column("at", "timestamptz", 1184),
        Column("tag", "text", 25),
    )
    table = Table(oid, "public", name, columns, kind)
    mover = WindowMove(table, Window("at", days * 86400), {"tag"})
    with tables.transaction() as connection:
        for setting, value in SNAPSHOT_SETTINGS.items():
            connection.execute(f"set local {setting} = '{value}'".encode())
        row = connection.execute(
            "select to_char(now() - %s * interval '1 hour', 'YYYY-MM-DD HH24:MI:SS')", (hours,)
        ).fetchone()
        assert row is not None
        emit = mover.emit(f"pgtide_{serving.stream_id}", "2000-01-01 00:00:00", row[0])
        connection.execute(emit.encode())


def ids(client: ShapeClient) -> list[int]:
    return sorted(int(row["id"] or "") for row in client.rows.values())


async def test_rows_leave_by_themselves(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The only one of these tests that waits for time to go by."""
    folder = tmp_path_factory.mktemp("pgtide-moving")
    with (
        Serving(database, folder, window_step=1, long_poll_timeout=2) as serving,
        closing(Tables(database)) as tables,
    ):
        name = tables.make("id int primary key, at timestamptz, local timestamp, day date")
        tables.run(
            f"insert into {name} select id, at, at at time zone 'UTC', (at at time zone 'UTC')::date "
            "from (values (1, now()), (2, now() - interval '59m 57s'), (3, now() - interval '2d'), "
            "(4, null), (5, 'infinity'), (6, now() - interval '5s'), (7, '-infinity'), "
            "(8, '0044-03-15 BC')) v (id, at)"
        )
        clients = {
            (column, length): ShapeClient(
                serving.url, WindowSubject(name, column=column, length=length), wander=True
            )
            for column, length in (("at", "1h"), ("local", "1h"), ("day", "1d"), ("at", "3s"))
        }
        expected = {
            ("at", "1h"): [1, 5, 6],
            ("local", "1h"): [1, 5, 6],
            ("day", "1d"): [1, 2, 5, 6],
            ("at", "3s"): [5],
        }
        # More than leave at one place: these are many of few moments, and many of the same.
        many = tables.make("id int primary key, at timestamptz")
        tables.run(
            f"insert into {many} select i, now() - i * interval '0.2 ms'"
            " from generate_series(1, 6500) i"
        )
        tables.run(f"insert into {many} select i, now() from generate_series(6501, 14000) i")
        crowd = ShapeClient(serving.url, WindowSubject(many, length="5s"))
        crowd.start()
        assert await crowd.until(lambda: len(crowd.rows) == 14000), len(crowd.rows)
        for client in clients.values():
            client.start()
        await clients["at", "3s"].until(lambda: 1 in ids(clients["at", "3s"]))
        for key, client in clients.items():
            agreed = await client.until(lambda c=client, k=key: ids(c) == expected[k])
            assert agreed, f"{client.describe()} {client.rows}"
        tables.run(
            f"update {name} set at = now() where id in (2, 4); delete from {name} where id = 3"
        )
        one = clients["at", "1h"]
        assert await one.until(lambda: ids(one) == [1, 2, 4, 5, 6]), one.describe()
        assert await crowd.until(lambda: not crowd.rows), len(crowd.rows)
        for client in (crowd, *clients.values()):
            await client.stop()
            client.check()
            assert not client.counts.conflicts
        await leave_while_another_one_moves(tables, many, name, crowd, one)
        serving.check_log()


async def leave_while_another_one_moves(
    tables: Tables, first: str, second: str, lasting: ShapeClient, leaving: ShapeClient
) -> None:
    """The window of `second` loses all who follow it while that of `first` cannot go on."""
    with tables.transaction() as connection:
        connection.execute(f"lock table {first} in access exclusive mode".encode())
        while not tables.run("select pid from pg_stat_activity where wait_event_type = 'Lock'"):
            await asyncio.sleep(0.02)
        tables.run(
            f"alter table {second} drop column at, drop column local, drop column day;"
            f"insert into {second} values (100)"
        )
        while not leaving.counts.conflicts and leaving.violation is None:
            with suppress(ViolationError):
                await leaving.catch_up()
            await asyncio.sleep(0.02)
    tables.run(f"insert into {first} values (20000, 'infinity')")
    lasting.start()
    assert await lasting.until(lambda: ids(lasting) == [20000])
    await lasting.stop()


@pytest.mark.parametrize("kind", ["r", "p"])
async def test_who_is_away_hears_of_it_later(serving: Serving, tables: Tables, kind: str) -> None:
    name = tables.make(COLUMNS if kind == "r" else f"{COLUMNS}) partition by range (id")
    if kind == "p":
        tables.run(
            f"create table {name}_a partition of {name} for values from (0) to (5); "
            f"create table {name}_b partition of {name} default"
        )
    tables.run(
        f"insert into {name} select i, now() - i * interval '1 hour', 'a' "
        "from generate_series(1, 9) i"
    )
    subject = WindowSubject(name, "tag = 'a'", length="30d")
    first, away, old = (ShapeClient(serving.url, subject, wander=True) for _ in range(3))
    for client in (first, away, old):
        await client.catch_up()
        assert ids(client) == list(range(1, 10))
    first.start()
    move(serving, tables, name, 30, 7.5)
    assert await first.until(lambda: ids(first) == list(range(1, 8))), first.describe()
    # While one is away a row comes back, one is deleted, and one changes without coming back.
    tables.run(f"update {name} set at = now() where id = 9")
    tables.run(f"update {name} set tag = 'a', at = now() - interval '9h' where id = 8")
    tables.run(f"delete from {name} where id = 7")
    assert await first.until(lambda: ids(first) == [1, 2, 3, 4, 5, 6, 9]), first.describe()
    await away.catch_up()
    assert ids(away) == ids(first)
    move(serving, tables, name, 30, 4.5)
    assert await first.until(lambda: ids(first) == [1, 2, 3, 4, 9]), first.describe()
    for _ in range(2):
        await old.catch_up()
    await away.catch_up()
    assert ids(old) == ids(away) == ids(first)
    await first.stop()
    for client in (first, away, old):
        client.check()
        assert not client.counts.conflicts
        assert client.handle == first.handle


async def test_nodes_and_engine_may_die(serving: Serving, tables: Tables) -> None:
    name = tables.make(COLUMNS)
    tables.run(
        f"insert into {name} select i, now() - i * interval '1 hour', 'a' "
        "from generate_series(1, 9) i"
    )
    client = ShapeClient(serving.url, WindowSubject(name, length="30d"))
    await client.catch_up()
    move(serving, tables, name, 30, 7.5)
    serving.kill_engine()
    for pid in serving.node_pids():
        serving.kill_node(pid)
    move(serving, tables, name, 30, 5.5)
    tables.run(f"insert into {name} values (20, now() - interval '7h', 'a'), (21, now(), 'a')")
    client.start()
    assert await client.until(lambda: ids(client) == [1, 2, 3, 4, 5, 21]), client.describe()
    await client.stop()
    client.check()
    assert not client.counts.conflicts


async def test_all_who_ask_share_a_shape(serving: Serving, tables: Tables) -> None:
    name = tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, now(), 'a'), (2, now() - interval '8d', 'a')")
    async with httpx.AsyncClient(base_url=serving.url) as http:
        handles: set[str] = set()
        for length in ("1w", "7d", "168h"):
            answer = await http.get(
                "/v1/shape", params={"table": name, "offset": "-1", "window[at]": length}
            )
            handles.add(answer.headers["electric-handle"])
            rows = [one["value"]["id"] for one in answer.json() if "value" in one]
            assert rows == ["1"]
            await asyncio.sleep(0.01)
    assert len(handles) == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window[tag]": "1h"}, "needs a timestamp or date"),
        ({"window[nowhere]": "1h"}, "does not exist"),
        ({"window[at]": "soon"}, "must be a duration"),
        ({"window[at]": "0s"}, "at least a second"),
        ({"window[at]": "1h", "window[id]": "1h"}, "one only"),
        ({"window[at]": "1h", "subset__where": "id = 1"}, "has no subsets"),
    ],
)
def test_windows_that_there_are_not(
    serving: Serving, tables: Tables, parameters: dict[str, str], message: str
) -> None:
    name = tables.make(COLUMNS)
    answer = httpx.get(
        f"{serving.url}/v1/shape", params={"table": name, "offset": "-1", **parameters}
    )
    assert answer.status_code == 400
    assert message in answer.text
