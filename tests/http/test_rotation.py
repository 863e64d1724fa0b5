"""What ends a shape, and what does not."""

from __future__ import annotations

import json

import pytest
from follower import Answer, Follower, ask
from serving import Serving
from tables import Tables

COLUMNS = "id int primary key, a text, b int"


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


@pytest.mark.parametrize(
    ("alteration", "row"),
    [
        ("add c text default 'c'", {"id": "1", "a": "x", "b": "1", "c": "c"}),
        ("drop b", {"id": "1", "a": "x"}),
        ("rename b to c", {"id": "1", "a": "x", "c": "1"}),
        ("alter b type text", {"id": "1", "a": "x", "b": "1"}),
        ("alter a type varchar(9)", {"id": "1", "a": "x", "b": "1"}),
        ("drop a, add a int default 5", {"id": "1", "a": "5", "b": "1"}),
    ],
)
def test_altered_table(
    server: Serving, tables: Tables, alteration: str, row: dict[str, str]
) -> None:
    name = tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(server.url, name).sync()
    tables.run(f"alter table {name} {alteration}; insert into {name} (id) values (2)")
    handle = until_refetch(reader)
    assert handle != reader.handle
    again = Follower(server.url, name).sync()
    assert again.handle != reader.handle
    assert handle in (again.handle, None)
    assert again.rows[f'"public"."{name}"/"1"'] == row
    schema = json.loads(again.request(offset="-1").headers["electric-schema"])
    assert set(schema) == set(row)
    # Everybody with the old handle is sent on, also those who come later.
    assert reader.request().status == 409
    tables.run(f"insert into {name} (id) values (3)")
    assert again.take(1)[0]["value"].keys() == row.keys()


@pytest.mark.parametrize(
    "alteration", ["add c text", "drop b", "rename b to c", "alter b type text"]
)
def test_alteration_of_a_column_that_was_not_asked_for(
    server: Serving, tables: Tables, alteration: str
) -> None:
    name = tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(server.url, name, columns="id,a").sync()
    tables.run(f"alter table {name} {alteration}")
    tables.run(f"update {name} set a = 'y'")
    tables.run(f"insert into {name} (id, a) values (2, 'z')")
    assert reader.take_operations(2) == [
        ("update", {"id": "1", "a": "y"}),
        ("insert", {"id": "2", "a": "z"}),
    ]


def test_alterations_without_effect_on_rows(server: Serving, tables: Tables) -> None:
    name = tables.make(COLUMNS)
    reader = Follower(server.url, name).sync()
    tables.run(
        f"alter table {name} alter a set default 'd';"
        f"alter table {name} add check (b > 0);"
        f"create index on {name} (a);"
        f"comment on table {name} is 'a table'"
    )
    tables.run(f"insert into {name} (id, b) values (1, 1)")
    assert reader.take_operations(1) == [("insert", {"id": "1", "a": "d", "b": "1"})]


def test_changes_before_the_alteration_are_delivered(server: Serving, tables: Tables) -> None:
    name = tables.make(COLUMNS)
    reader = Follower(server.url, name).sync()
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader.take(1)
    tables.run(
        f"insert into {name} values (2, 'x', 1);"
        f"alter table {name} add c int; insert into {name} values (3, 'x', 1, 1)"
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


def test_renamed_table(server: Serving, tables: Tables) -> None:
    name = tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'x', 1)")
    reader = Follower(server.url, name).sync()
    tables.run(f"alter table {name} rename to {name}_new; update {name}_new set a = 'y'")
    assert until_it_ends(reader).status in (400, 409)
    assert ask(server.url, table=name, offset=-1).status == 400
    assert Follower(server.url, f"{name}_new").sync().values() == [{"id": "1", "a": "y", "b": "1"}]


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
        assert again.values() == [{"id": "1", "a": "new", "b": "2"}]
        tables.run(f"update {name} set a = 'live'")
        assert again.take_operations(1) == [("update", {"id": "1", "a": "live"})]
        tables.close()


def test_table_made_anew(server: Serving, tables: Tables) -> None:
    """Nodes that never heard of the old one, as nodes with it know it a minute later."""
    name = tables.make(COLUMNS)
    tables.run(f"insert into {name} values (1, 'old', 1)")
    reader = Follower(server.url, name).sync()
    tables.run(
        f"drop table {name}; create table {name} ({COLUMNS});"
        f"insert into {name} values (1, 'new', 2)"
    )
    for pid in server.node_pids():
        # Nodes that have never heard of the old one.
        server.kill_node(pid)
    until_refetch(reader)
    assert Follower(server.url, name).sync().values() == [{"id": "1", "a": "new", "b": "2"}]


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
    assert Follower(server.url, name).sync().values() == [{"id": "2", "a": "y", "b": "2"}]
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
