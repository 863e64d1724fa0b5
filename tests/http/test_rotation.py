"""What ends a shape, and what does not."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import pytest
from follower import Answer, Follower, ask, events
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Row, Subject, difference
from tables import Tables

COLUMNS = "id int primary key, a text not null default 'a', b int, c numeric(9,2) default 1"
ROW = {"id": "1", "a": "x", "b": "1", "c": "1.00"}

# What has other values, another type or another name afterwards, and the row that is left of ROW.
ENDING = {
    "drop b": {"id": "1", "a": "x", "c": "1.00"},
    "rename b to d": {"id": "1", "a": "x", "d": "1", "c": "1.00"},
    "alter b type text": ROW,
    "alter a type varchar(9)": ROW,
    "alter c type numeric(9,1)": ROW | {"c": "1.0"},
    "drop b, add b text default '5'": ROW | {"b": "5"},
}
# The same, and no Relation message can tell.
UNTOLD = {
    "drop b, add b int default 5": ROW | {"b": "5"},
    "alter b type int using b + 7": ROW | {"b": "8"},
    "alter a drop not null": ROW,
    "drop constraint {table}_pkey, add primary key (id, a)": ROW,
}
HARMLESS = [
    "add d text",
    "add d int not null default 7",
    "add d uuid default gen_random_uuid()",
    "alter b set not null",
    "alter a set default 'd', add check (b > 0), add unique (a)",
    "alter a set storage external",
]


def until_it_ends(reader: Follower) -> Answer:
    """Follow until there is nothing more to follow; the answer that says so."""
    for _ in range(10):
        answer = reader.request(live=True)
        if answer.status != 200:
            return answer
        reader.offset = answer.offset
    raise AssertionError("it did not end")


def until_refetch(reader: Follower) -> str | None:
    """The handle to go on with, if there is one yet."""
    answer = until_it_ends(reader)
    assert (answer.status, answer.text) == (409, '[{"headers":{"control":"must-refetch"}}]')
    return answer.headers.get("electric-handle")


def check_successor(
    reader: Follower, handle: str | None, tables: Tables, name: str, row: Mapping[str, str]
) -> None:
    """Everybody is sent to the same place, and stays there."""
    assert handle != reader.handle
    again = Follower(reader.url, name).sync()
    assert again.handle != reader.handle
    assert handle in (again.handle, None)
    assert row in again.values()
    schema = json.loads(again.request(offset="-1").headers["electric-schema"])
    assert set(schema) == set(row)
    for _ in range(4):
        # Both nodes, also those with the old handle who come later.
        assert reader.request().status == 409
        assert again.request().status == 200
    tables.run(f"insert into {name} (id) values (3)")
    assert again.take(1)[0]["value"].keys() == row.keys()


@pytest.mark.parametrize("alteration", ENDING)
def test_an_alteration_that_a_changed_row_tells_of(
    watchful: Serving, watchful_tables: Tables, alteration: str
) -> None:
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(watchful.url, name).sync()
    tables.run(f"alter table {name} {alteration}; insert into {name} (id) values (2)")
    check_successor(reader, until_refetch(reader), tables, name, ENDING[alteration])


@pytest.mark.parametrize("alteration", ENDING | UNTOLD)
def test_an_alteration_without_a_changed_row(
    watchful: Serving, watchful_tables: Tables, alteration: str
) -> None:
    """Whoever waits learns of it too, by long-poll and by events."""
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(watchful.url, name).sync()
    with events(watchful.url, table=name, handle=reader.handle, offset=reader.offset) as stream:
        tables.run(f"alter table {name} {alteration.format(table=name)}")
        assert stream.rest() == []
    check_successor(reader, until_refetch(reader), tables, name, (ENDING | UNTOLD)[alteration])


@pytest.mark.parametrize("alteration", HARMLESS)
def test_an_alteration_that_ends_nothing(
    watchful: Serving, watchful_tables: Tables, alteration: str
) -> None:
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(watchful.url, name).sync()
    canary = tables.make(COLUMNS)
    other = Follower(watchful.url, canary).sync()
    tables.run(f"alter table {name} {alteration}; alter table {canary} drop b")
    until_refetch(other)
    # What ended that one has been seen, so this one has been looked at, too.
    tables.run(f"update {name} set a = 'y'; insert into {name} (id, b) values (2, 2)")
    assert reader.take_operations(2) == [
        ("update", {"id": "1", "a": "y"}),
        ("insert", ROW | {"id": "2", "a": reader.rows[f'"public"."{name}"/"2"']["a"], "b": "2"}),
    ]
    if "add d" in alteration:
        tables.run(f"update {name} set d = default where id = 1")
        tables.run(f"delete from {name} where id = 1")
        assert reader.take_operations(1) == [("delete", {"id": "1"})]


@pytest.mark.parametrize("column", ["text", "int not null default 7"])
def test_who_sees_an_added_column(watchful: Serving, watchful_tables: Tables, column: str) -> None:
    """Whoever has begun goes on without it; whoever begins has it. Each keeps what it has."""
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    before = Follower(watchful.url, name).sync()
    full = Follower(watchful.url, name, replica="full", where="b = 1").sync()
    beginner = Follower(watchful.url, name)
    beginner.step()
    tables.run(f"alter table {name} add d {column}; update {name} set a = 'y'")
    following = in_time(lambda: ask(watchful.url, table=name, offset=-1), before.handle)
    after = Follower(watchful.url, name).sync()
    assert after.handle == following
    assert after.values()[0].keys() == {*ROW, "d"}
    # Who is still at the beginning, or has it from a cache, is sent to where the column is.
    answer = beginner.request()
    assert (answer.status, answer.handle) == (409, after.handle)
    assert before.take_operations(1) == [("update", {"id": "1", "a": "y"})]
    for pid in watchful.node_pids():
        watchful.kill_node(pid)
    tables.run(f"update {name} set d = '8'; update {name} set a = 'z'")
    assert before.take_operations(1) == [("update", {"id": "1", "a": "z"})]
    assert [one["value"] for one in after.take(2)] == [
        {"id": "1", "d": "8"},
        {"id": "1", "a": "z"},
    ]
    assert [one["value"] for one in full.take(2)] == [ROW | {"a": "y"}, ROW | {"a": "z"}]
    for reader in (before, after):
        answer = reader.request()
        assert set(json.loads(answer.headers["electric-schema"])) == reader.values()[0].keys()
    # A column that both have ends both.
    tables.run(f"alter table {name} rename a to e; delete from {name}")
    assert until_refetch(before) != before.handle
    assert until_refetch(after) != after.handle


def test_who_comes_back_later_gets_the_added_column(
    database_of_watchful: str, watchful_tables: Tables, tmp_path: Path
) -> None:
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    with Serving(
        database_of_watchful, tmp_path, added_column_grace=0.001, catalog_interval=0.2
    ) as serving:
        reader = Follower(serving.url, name).sync()
        tables.run(f"alter table {name} add d int default 3")
        in_time(lambda: ask(serving.url, table=name, offset=-1), reader.handle)
        tables.run(f"update {name} set a = 'y'")
        # Live it goes on ...
        assert reader.take_operations(1) == [("update", {"id": "1", "a": "y"})]
        # ... but when it comes back it gets everything: for each node its time begins when it meets it.
        answer = next(one for _ in range(20) if (one := reader.request()).status != 200)
        assert answer.status == 409
        again = Follower(serving.url, name).sync()
        assert again.handle == answer.handle
        assert again.values()[0].keys() == {*ROW, "d"}


def test_an_added_column_of_a_table_without_a_key(
    watchful: Serving, watchful_tables: Tables
) -> None:
    tables, name = watchful_tables, watchful_tables.make("a text, b int")
    tables.run(f"insert into {name} values ('x', 1)")
    before = Follower(watchful.url, name).sync()
    tables.run(f"alter table {name} add c int default 5; update {name} set b = 2, c = 6")
    assert before.take_operations(2) == [
        ("delete", {"a": "x", "b": "1"}),
        ("insert", {"a": "x", "b": "2"}),
    ]
    assert list(before.rows) == [f'"public"."{name}"/"x"/"2"']
    after = Follower(watchful.url, name).sync()
    assert list(after.rows) == [f'"public"."{name}"/"x"/"2"/"6"']
    tables.run(f"update {name} set c = 7")
    assert [one["key"] for one in after.take(2)] == [
        f'"public"."{name}"/"x"/"2"/"{number}"' for number in (6, 7)
    ]


def test_filters_on_an_added_column(watchful: Serving, watchful_tables: Tables) -> None:
    """The old and the new shapes of the table are routed together."""
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    before = Follower(watchful.url, name, where="b = 1").sync()
    tables.run(f"insert into {name} values (1, 'x', 1)")
    before.take(1)
    tables.run(f"alter table {name} add d int")
    after = Follower(watchful.url, name, where="d = 1").sync()
    tables.run(f"update {name} set d = 1")
    assert after.take_operations(1) == [("insert", ROW | {"d": "1"})]
    tables.run(f"update {name} set b = 2")
    assert before.take_operations(1) == [("delete", {"id": "1"})]


@pytest.mark.parametrize(
    "alteration",
    [
        *("add d text", "drop b", "rename b to d", "alter b type text"),
        *("alter c drop not null", "drop b, add b int default 5", "alter b type int using b + 7"),
    ],
)
def test_alteration_of_a_column_that_was_not_asked_for(
    watchful: Serving, watchful_tables: Tables, alteration: str
) -> None:
    tables, name = watchful_tables, watchful_tables.make("id int primary key, a text, b int, c int")
    tables.run(f"alter table {name} alter c set not null; insert into {name} values (1, 'x', 1, 1)")
    reader = Follower(watchful.url, name, columns="id,a").sync()
    whole = Follower(watchful.url, name).sync()
    tables.run(f"alter table {name} {alteration}")
    if "add d" not in alteration:
        until_refetch(whole)
    tables.run(f"update {name} set a = 'y'")
    tables.run(f"insert into {name} (id, a, c) values (2, 'z', 1)")
    assert reader.take_operations(2) == [
        ("update", {"id": "1", "a": "y"}),
        ("insert", {"id": "2", "a": "z"}),
    ]


def test_a_null_that_no_client_expects(server: Serving, tables: Tables) -> None:
    """It comes before anybody has looked at the catalog: clients throw if they get it."""
    name = tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(server.url, name).sync()
    other = Follower(server.url, name, columns="id,b").sync()
    tables.run(f"alter table {name} alter a drop not null; update {name} set a = null, b = 2")
    until_refetch(reader)
    again = Follower(server.url, name).sync()
    assert again.values() == [ROW | {"a": None, "b": "2"}]
    schema = json.loads(again.request().headers["electric-schema"])
    assert "not_null" not in schema["a"]
    assert other.take_operations(1) == [("update", {"id": "1", "b": "2"})]
    tables.run(f"insert into {name} (id, a) values (2, null)")
    assert again.take(1)[0]["value"]["a"] is None


def test_not_null_that_was_lost_while_pgtide_was_down(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Serving(database, tmp_path_factory.mktemp("pgtide-lost"), nodes=1) as serving:
        tables = Tables(database)
        name = tables.make(COLUMNS)
        tables.run(f"insert into {name} values (1, 'x', 1)")
        reader = Follower(serving.url, name).sync()
        added = Follower(serving.url, name, columns="id,b").sync()
        serving.stop()
        tables.run(f"alter table {name} alter a drop not null, add d int")
        serving.start()
        until_refetch(reader)
        tables.run(f"update {name} set b = 5")
        assert added.take_operations(1) == [("update", {"id": "1", "b": "5"})]
        tables.close()


def test_a_renamed_label(watchful: Serving, watchful_tables: Tables) -> None:
    """Rows have another text now; a label that is added is none of their business."""
    tables, kind = watchful_tables, f"mood_{secrets.token_hex(4)}"
    tables.run(f"create type {kind} as enum ('sad', 'glad')")
    name = tables.make(f"id int primary key, m {kind}")
    tables.run(f"insert into {name} values (1, 'sad')")
    reader = Follower(watchful.url, name).sync()
    other = Follower(watchful.url, name, columns="id").sync()
    tables.run(f"alter type {kind} add value 'mad' before 'sad'")
    late = Follower(watchful.url, name, where="m = 'mad'").sync()
    tables.run(f"insert into {name} values (2, 'mad')")
    assert reader.take_operations(1) == [("insert", {"id": "2", "m": "mad"})]
    assert late.take_operations(1) == [("insert", {"id": "2", "m": "mad"})]
    tables.run(f"alter type {kind} rename value 'sad' to 'blue'")
    until_refetch(reader)
    assert Follower(watchful.url, name).sync().values()[0] == {"id": "1", "m": "blue"}
    tables.run(f"delete from {name} where id = 1")
    changes = other.take(2)
    assert [change["headers"]["operation"] for change in changes] == ["insert", "delete"]


def test_changes_before_the_alteration_are_delivered(server: Serving, tables: Tables) -> None:
    name = tables.make(COLUMNS)
    reader = Follower(server.url, name).sync()
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader.take(1)
    tables.run(
        f"insert into {name} values (2, 'x', 1);"
        f"alter table {name} drop b; insert into {name} values (3, 'x', 1)"
    )
    until_refetch(reader)
    assert len(Follower(server.url, name).sync().rows) == 3


def test_column_of_the_filter(server: Serving, tables: Tables) -> None:
    name = tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(server.url, name, columns="id,a", where="b = 1").sync()
    tables.run(f"alter table {name} drop b; update {name} set a = 'y'")
    # With the handle or with the definition, whatever is looked at first.
    assert until_it_ends(reader).status in (400, 409)
    answer = ask(server.url, table=name, offset=-1, columns="id,a", where="b = 1")
    assert (answer.status, list(answer.error["errors"])) == (400, ["where"])


# -- the table itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["", "update {name}_new set a = 'y'"])
def test_renamed_table(watchful: Serving, watchful_tables: Tables, noise: str) -> None:
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(watchful.url, name).sync()
    with events(watchful.url, table=name, handle=reader.handle, offset=reader.offset) as stream:
        tables.run(f"alter table {name} rename to {name}_new; {noise.format(name=name)}")
        assert stream.rest() == []
    assert until_it_ends(reader).status in (400, 409)
    answer = ask(watchful.url, table=name, offset=-1)
    assert answer.status == 400
    assert "does not exist" in answer.error["errors"]["table"][0]
    values = Follower(watchful.url, f"{name}_new").sync().values()
    assert values == [ROW | {"a": "y" if noise else "x"}]


def test_dropped_table(watchful: Serving, watchful_tables: Tables) -> None:
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    reader = Follower(watchful.url, name).sync()
    with events(watchful.url, table=name, handle=reader.handle, offset=reader.offset) as stream:
        tables.run(f"drop table {name}")
        assert stream.rest() == []
    assert until_it_ends(reader).status in (400, 409)
    for _ in range(4):
        assert ask(watchful.url, table=name, offset=-1).status == 400
    # It may come again, years later.
    tables.run(f"create table {name} (id int primary key); insert into {name} values (1)")
    again = Follower(watchful.url, name).sync()
    assert again.values() == [{"id": "1"}]
    tables.run(f"insert into {name} values (2)")
    assert again.take_operations(1) == [("insert", {"id": "2"})]


@pytest.mark.parametrize("noise", ["", "update {name} set a = 'new'"])
def test_table_made_anew(watchful: Serving, watchful_tables: Tables, noise: str) -> None:
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'old', 1)")
    reader = Follower(watchful.url, name).sync()
    with events(watchful.url, table=name, handle=reader.handle, offset=reader.offset) as stream:
        tables.run(
            f"drop table {name}; create table {name} ({COLUMNS});"
            f"insert into {name} values (1, 'new', 2); {noise.format(name=name)}"
        )
        assert stream.rest() == []
    until_refetch(reader)
    again = Follower(watchful.url, name).sync()
    assert again.values() == [{"id": "1", "a": "new", "b": "2", "c": "1.00"}]
    tables.run(f"update {name} set a = 'live'")
    assert again.take_operations(1) == [("update", {"id": "1", "a": "live"})]


def test_table_made_anew_while_pgtide_was_down(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pgtide-anew")
    with Serving(database, folder, nodes=1) as serving:
        tables = Tables(database)
        name = tables.make(COLUMNS)
        tables.run(f"insert into {name} values (1, 'old', 1)")
        reader = Follower(serving.url, name).sync()
        serving.stop()
        tables.run(
            f"drop table {name}; create table {name} ({COLUMNS});"
            f"insert into {name} values (1, 'new', 2)"
        )
        serving.start()
        until_refetch(reader)
        again = Follower(serving.url, name).sync()
        assert again.values() == [{"id": "1", "a": "new", "b": "2", "c": "1.00"}]
        tables.close()


def test_truncate_ends_all_shapes_of_the_table(server: Serving, tables: Tables) -> None:
    name, other = tables.make(COLUMNS), tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1); insert into {other} values (1, 'x', 1)")
    readers = [
        Follower(server.url, name).sync(),
        Follower(server.url, name, where="a = 'none'").sync(),
        Follower(server.url, name, columns="id").sync(),
    ]
    untouched = Follower(server.url, other).sync()
    tables.run(f"truncate {name}; insert into {name} values (2, 'y', 2)")
    for reader in readers:
        until_refetch(reader)
    assert Follower(server.url, name).sync().values() == [ROW | {"id": "2", "a": "y", "b": "2"}]
    tables.run(f"delete from {other}")
    assert untouched.take_operations(1) == [("delete", {"id": "1"})]


def test_truncate_before_the_shape_was_opened(server: Serving, tables: Tables) -> None:
    """It is in the log before the shape's snapshot and does not concern it."""
    name = tables.make(COLUMNS)
    Follower(server.url, name, columns="id").sync()
    tables.run(f"truncate {name}; insert into {name} values (1, 'x', 1)")
    reader = Follower(server.url, name).sync()
    tables.run(f"delete from {name}")
    assert reader.take_operations(1) == [("delete", {"id": "1"})]


@pytest.mark.parametrize("upkeep", ["vacuum full {name}", "analyze {name}", "reindex table {name}"])
def test_upkeep_ends_nothing(watchful: Serving, watchful_tables: Tables, upkeep: str) -> None:
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(watchful.url, name).sync()
    canary = tables.make(COLUMNS)
    other = Follower(watchful.url, canary).sync()
    tables.run(upkeep.format(name=name))
    tables.run(f"alter table {canary} drop b")
    until_refetch(other)
    tables.run(f"update {name} set a = 'y'")
    assert reader.take_operations(1) == [("update", {"id": "1", "a": "y"})]


# -- everything at once ----------------------------------------------------------------------------

HISTORY = [
    *(("add d int default 4", False), ("drop b, add b int default 5", True)),
    *(("alter c type text", True), ("alter a drop not null", True), ("rename c to e", True)),
    *(("add f text not null default 'f'", False), ("alter d type int using d * 2", True)),
    *(("drop e", True), ("alter d set default 9", False)),
]


class Writer(threading.Thread):
    """Inserts, updates and deletes until stopped, whatever the table looks like."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._name = name
        self._end = threading.Event()
        self.written = 0

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True, prepare_threshold=None) as connection:
            # Not faster than all its readers can follow.
            while not self._end.wait(0.01):
                for statement in (
                    f"insert into {self._name} (id) values ({self.written + 100})",
                    f"update {self._name} set a = '{self.written}' where id % 7 = 3",
                    f"delete from {self._name} where id = {self.written + 60}",
                ):
                    connection.execute(statement.encode())
                self.written += 1

    def stop(self) -> None:
        self._end.set()
        self.join()


async def test_alterations_while_everybody_writes_and_reads(
    watchful: Serving, watchful_tables: Tables
) -> None:
    """Two nodes, and clients that change between them: nobody is sent to and fro, or left behind."""
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    whole = ShapeClient(watchful.url, Subject(name), wander=True)
    clients = [
        whole,
        ShapeClient(watchful.url, Subject(name), sse=True),
        ShapeClient(watchful.url, Subject(name, columns=("id", "a")), wander=True),
        ShapeClient(watchful.url, Subject(name, where="id % 2 = 0"), wander=True),
    ]
    for client in clients:
        client.start()
    writer = Writer(tables.url, name)
    writer.start()
    ending = 0
    for alteration, ends in HISTORY:
        begun = refetches(whole)
        written = writer.written
        while writer.written < written + 10:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(tables.run, f"alter table {name} {alteration}")
        ending += ends
        if ends:
            noticed = await whole.until(lambda: refetches(whole) > begun)  # noqa: B023
            assert noticed, whole.describe()
        for client in clients:
            # However often it began anew: it has begun now.
            assert await client.until(lambda: client.up_to_date), client.describe()  # noqa: B023
    await asyncio.to_thread(writer.stop)
    for client in clients:
        expected = select(tables, name, client)
        assert await client.until(lambda: not difference(client.rows, expected), 20), (  # noqa: B023
            difference(client.rows, expected) + client.describe()
        )
        await client.stop()
        client.check()
        if client.subject.columns:
            # Of all this only the column that lost NOT NULL is its own.
            assert refetches(client) == 1, client.describe()
        else:
            # A new snapshot may begin before an alteration and end after it, but not twice.
            assert refetches(client) <= 2 * ending, client.describe()


def refetches(client: ShapeClient) -> int:
    return client.counts.conflicts + client.counts.restarts


def select(tables: Tables, name: str, client: ShapeClient) -> dict[str, Row]:
    """What the client should have of the table: the columns that it knows."""
    columns = sorted(next(iter(client.rows.values())))
    listed = ", ".join(f"'{column}', {column}::text" for column in columns)
    where = f"where {client.subject.where}" if client.subject.where else ""
    rows = tables.run(f"select id, json_build_object({listed}) from {name} {where}")
    return {f'"public"."{name}"/"{number}"': row for number, row in rows}


def test_what_nodes_say_of_an_alteration(watchful: Serving, watchful_tables: Tables) -> None:
    """From the moment that any node has given out the new handle the old one is good nowhere."""
    tables, name = watchful_tables, watchful_tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    for number in range(6):
        readers = [Follower(watchful.url, name).sync() for _ in range(4)]
        assert len({reader.handle for reader in readers}) == 1
        tables.run(f"alter table {name} drop b, add b int default {number}")
        following = in_time(lambda: ask(watchful.url, table=name, offset=-1), readers[0].handle)
        for _ in range(8):
            for reader in readers:
                answer = reader.request()
                assert (answer.status, answer.headers.get("electric-handle")) == (409, following)
            assert ask(watchful.url, table=name, offset=-1).handle == following


def in_time(request: Callable[[], Answer], former: str | None) -> str:
    """The first handle that is another one."""
    for _ in range(2000):
        answer = request()
        if answer.status == 200 and answer.handle != former:
            return answer.handle
    raise AssertionError("nobody noticed")
