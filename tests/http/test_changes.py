"""What the operations of a table become in a shape's log."""

from __future__ import annotations

import pytest
from follower import Follower, Message, ask
from serving import Serving
from tables import Tables

PARCEL = "id int8 primary key, label text not null, weight numeric(6,2), fragile bool"


@pytest.fixture
def parcels(tables: Tables) -> str:
    name = tables.make(PARCEL)
    tables.run(f"insert into {name} values (41, 'lamp', 2, true)")
    return name


def key_of(table: str, *values: str) -> str:
    return f'"public"."{table}"' + "".join(f'/"{value}"' for value in values)


def test_insert_update_delete(server: Serving, tables: Tables, parcels: str) -> None:
    reader = Follower(server.url, parcels).sync()
    tables.run(f"insert into {parcels} values (42, 'cup', null, false)")
    tables.run(f"update {parcels} set weight = 3.5 where id = 41")
    tables.run(f"update {parcels} set weight = null, label = 'big lamp' where id = 41")
    tables.run(f"delete from {parcels} where id = 41")
    assert reader.take_operations(4) == [
        ("insert", {"id": "42", "label": "cup", "weight": None, "fragile": "f"}),
        ("update", {"id": "41", "weight": "3.50"}),
        ("update", {"id": "41", "label": "big lamp", "weight": None}),
        ("delete", {"id": "41"}),
    ]
    for change in reader.changes[-4:]:
        assert change["key"] == key_of(parcels, change["value"]["id"])
        assert change["headers"]["relation"] == ["public", parcels]
        assert "old_value" not in change


def test_headers_of_a_change(server: Serving, tables: Tables, parcels: str) -> None:
    reader = Follower(server.url, parcels).sync()
    with tables.transaction() as connection:
        row = connection.execute("select pg_current_xact_id()::xid::text").fetchone()
        assert row is not None
        connection.execute(f"delete from {parcels}".encode())
    headers = reader.take(1)[0]["headers"]
    assert headers.keys() == {"operation", "relation", "txids", "lsn", "op_position", "last"}
    assert headers["txids"] == [int(row[0])]
    assert headers["last"] is True
    assert headers["lsn"].isdigit()


def test_update_that_changes_nothing(server: Serving, tables: Tables, parcels: str) -> None:
    reader = Follower(server.url, parcels).sync()
    tables.run(f"update {parcels} set label = label, weight = 2.00")
    tables.run(f"update {parcels} set label = 'end'")
    assert reader.take_operations(1) == [("update", {"id": "41", "label": "end"})]


def test_full_replica(server: Serving, tables: Tables, parcels: str) -> None:
    reader = Follower(server.url, parcels, replica="full").sync()
    tables.run(f"update {parcels} set weight = 3.5, label = 'x'")
    tables.run(f"update {parcels} set id = 42")
    tables.run(f"delete from {parcels}")
    first, left, entered, deleted = reader.take(4)
    row = {"id": "41", "label": "x", "weight": "3.50", "fragile": "t"}
    moved = row | {"id": "42"}
    assert first["value"] == row
    assert first["old_value"] == {"label": "lamp", "weight": "2.00"}
    assert (left["headers"]["operation"], left["value"]) == ("delete", row)
    assert (entered["headers"]["operation"], entered["value"]) == ("insert", moved)
    assert (deleted["headers"]["operation"], deleted["value"]) == ("delete", moved)
    assert all("old_value" not in change for change in (left, entered, deleted))


def test_replica_modes_are_different_shapes(server: Serving, parcels: str) -> None:
    handles = {
        ask(server.url, table=parcels, offset=-1, replica=mode).handle
        for mode in (None, "default", "full")
    }
    assert len(handles) == 2


def test_columns(server: Serving, tables: Tables, parcels: str) -> None:
    reader = Follower(server.url, parcels, columns='label,"id"').sync()
    assert reader.values() == [{"id": "41", "label": "lamp"}]
    tables.run(f"update {parcels} set weight = 9")
    tables.run(f"update {parcels} set weight = 8, label = 'x'")
    tables.run(f"insert into {parcels} values (42, 'cup', 1, false)")
    assert reader.take_operations(2) == [
        ("update", {"id": "41", "label": "x"}),
        ("insert", {"id": "42", "label": "cup"}),
    ]
    same = ask(server.url, table=parcels, offset=-1, columns="id,label")
    assert same.handle == reader.handle, "their order does not matter"


def test_key_change(server: Serving, tables: Tables, parcels: str) -> None:
    reader = Follower(server.url, parcels).sync()
    tables.run(f"update {parcels} set id = 42, label = 'moved'")
    left, entered = reader.take(2)
    assert left["key"] == key_of(parcels, "41")
    assert left["value"] == {"id": "41"}
    assert left["headers"]["operation"] == "delete"
    assert left["headers"]["key_change_to"] == key_of(parcels, "42")
    assert "last" not in left["headers"]
    assert entered["key"] == key_of(parcels, "42")
    assert entered["value"] == {"id": "42", "label": "moved", "weight": "2.00", "fragile": "t"}
    assert entered["headers"]["operation"] == "insert"
    assert entered["headers"]["key_change_from"] == key_of(parcels, "41")
    assert entered["headers"]["last"] is True
    position = left["headers"]["op_position"]
    assert entered["headers"]["op_position"] == position + 1
    assert reader.offset == f"{entered['headers']['lsn']}_{position + 1}"


def test_key_change_of_which_one_side_is_in_the_shape(
    server: Serving, tables: Tables, parcels: str
) -> None:
    reader = Follower(server.url, parcels, where="label = 'lamp'").sync()
    tables.run(f"update {parcels} set id = 42, label = 'cup'")
    tables.run(f"update {parcels} set id = 43, label = 'lamp'")
    left, entered = reader.take(2)
    assert left["value"] == {"id": "41"}
    assert entered["value"] == {"id": "43", "label": "lamp", "weight": "2.00", "fragile": "t"}
    for change in (left, entered):
        assert not change["headers"].keys() & {"key_change_to", "key_change_from"}


def test_rows_move_in_and_out(server: Serving, tables: Tables, parcels: str) -> None:
    tables.run(f"insert into {parcels} values (1, 'cup', 1, false)")
    reader = Follower(server.url, parcels, where="weight > $1", params=["1.5"]).sync()
    assert [row["id"] for row in reader.values()] == ["41"]
    tables.run(f"update {parcels} set label = 'still out' where id = 1")
    tables.run(f"update {parcels} set weight = 7 where id = 1")
    tables.run(f"update {parcels} set weight = 8 where id = 1")
    tables.run(f"update {parcels} set weight = null where id = 1")
    tables.run(f"insert into {parcels} values (2, 'never in', 0, null)")
    tables.run(f"delete from {parcels} where id = 2")
    tables.run(f"update {parcels} set weight = 1.51 where id = 1")
    whole = {"id": "1", "label": "still out", "fragile": "f"}
    assert reader.take_operations(4) == [
        ("insert", whole | {"weight": "7.00"}),
        ("update", {"id": "1", "weight": "8.00"}),
        ("delete", {"id": "1"}),
        ("insert", whole | {"weight": "1.51"}),
    ]


def test_columns_without_the_filters_column(server: Serving, tables: Tables, parcels: str) -> None:
    reader = Follower(server.url, parcels, where="weight > 1", columns="id,label").sync()
    tables.run(f"update {parcels} set weight = 5")
    tables.run(f"update {parcels} set weight = 0")
    tables.run(f"update {parcels} set weight = 6")
    assert reader.take_operations(2) == [
        ("delete", {"id": "41"}),
        ("insert", {"id": "41", "label": "lamp"}),
    ]


def test_composite_key(server: Serving, tables: Tables) -> None:
    name = tables.make("a text, b int, c text, primary key (c, a)")
    tables.run(f"insert into {name} values ('x', 1, 'y')")
    reader = Follower(server.url, name).sync()
    assert list(reader.rows) == [key_of(name, "y", "x")]
    tables.run(f"update {name} set b = 2")
    tables.run(f"update {name} set a = 'z'")
    tables.run(f"delete from {name}")
    assert reader.take_operations(4) == [
        ("update", {"a": "x", "b": "2", "c": "y"}),
        ("delete", {"a": "x", "c": "y"}),
        ("insert", {"a": "z", "b": "2", "c": "y"}),
        ("delete", {"a": "z", "c": "y"}),
    ]


def test_table_without_primary_key(server: Serving, tables: Tables) -> None:
    name = tables.make("a text, b int")
    tables.run(f"insert into {name} values ('x', null)")
    reader = Follower(server.url, name).sync()
    assert list(reader.rows) == [key_of(name, "x") + "/_"]
    tables.run(f"update {name} set b = 1")
    tables.run(f"insert into {name} values (null, null)")
    tables.run(f"delete from {name} where a = 'x'")
    changes = reader.take(4)
    assert [(one["headers"]["operation"], one["key"], one["value"]) for one in changes] == [
        ("delete", key_of(name, "x") + "/_", {"a": "x", "b": None}),
        ("insert", key_of(name, "x", "1"), {"a": "x", "b": "1"}),
        ("insert", key_of(name) + "/_/_", {"a": None, "b": None}),
        ("delete", key_of(name, "x", "1"), {"a": "x", "b": "1"}),
    ]


def test_unchanged_large_values(server: Serving, tables: Tables) -> None:
    """They are not in the WAL a second time; Postgres sends them with the old row."""
    name = tables.make("id int primary key, small text, large text")
    tables.run(f"alter table {name} alter large set storage external")
    tables.run(f"insert into {name} values (1, 'a', repeat('large', 5000))")
    default = Follower(server.url, name).sync()
    full = Follower(server.url, name, replica="full").sync()
    part = Follower(server.url, name, where="small = 'c'").sync()
    tables.run(f"update {name} set small = 'b'")
    tables.run(f"update {name} set small = 'c'")
    tables.run(f"update {name} set id = 2")
    tables.run(f"delete from {name}")
    large = "large" * 5000
    assert default.take_operations(5) == [
        ("update", {"id": "1", "small": "b"}),
        ("update", {"id": "1", "small": "c"}),
        ("delete", {"id": "1"}),
        ("insert", {"id": "2", "small": "c", "large": large}),
        ("delete", {"id": "2"}),
    ]
    changes = full.take(5)
    assert [change["value"]["large"] for change in changes] == [large] * 5
    assert changes[0]["old_value"] == {"small": "a"}
    entered = part.take(4)[0]
    assert (entered["headers"]["operation"], entered["value"]["large"]) == ("insert", large)


def test_generated_column(server: Serving, tables: Tables) -> None:
    version = int(tables.run("show server_version_num")[0][0])
    name = tables.make("id int primary key, twice int generated always as (id * 2) stored")
    tables.run(f"insert into {name} values (1)")
    if version < 180000:
        refused = ask(server.url, table=name, offset=-1)
        assert refused.status == 400
        reader = Follower(server.url, name, columns="id").sync()
        tables.run(f"insert into {name} values (2)")
        assert reader.take_operations(1) == [("insert", {"id": "2"})]
        return
    reader = Follower(server.url, name).sync()
    tables.run(f"insert into {name} values (2)")
    tables.run(f"update {name} set id = 3 where id = 1")
    assert reader.take_operations(3) == [
        ("insert", {"id": "2", "twice": "4"}),
        ("delete", {"id": "1"}),
        ("insert", {"id": "3", "twice": "6"}),
    ]


def test_shapes_see_only_their_table(server: Serving, tables: Tables) -> None:
    one, other = (tables.make("id int primary key") for _ in range(2))
    readers = [Follower(server.url, name).sync() for name in (one, other)]
    tables.run(f"insert into {one} values (1); insert into {other} values (2)")
    changes: list[Message] = [reader.take(1)[0] for reader in readers]
    assert [change["value"] for change in changes] == [{"id": "1"}, {"id": "2"}]
    first, second = (change["headers"] for change in changes)
    assert first["lsn"] == second["lsn"]
    assert first["op_position"] < second["op_position"], "counted over the whole transaction"
    assert first["last"] is second["last"] is True
