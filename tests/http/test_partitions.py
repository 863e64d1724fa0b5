"""Partitioned tables: shapes of the root and of a partition."""

from __future__ import annotations

import pytest
from follower import Follower, ask, events
from serving import Serving
from tables import Tables


@pytest.fixture
def root(tables: Tables) -> str:
    return make_root(tables)


def make_root(tables: Tables) -> str:
    """With the partitions <name>_1 (below 100) and <name>_2 (below 200), a row in each."""
    name = tables.make("id int, label text, primary key (id)").replace("t_", "p_")
    tables.run(
        f"create table {name} (id int, label text, primary key (id)) partition by range (id);"
        f"create table {name}_1 partition of {name} for values from (0) to (100);"
        f"create table {name}_2 partition of {name} for values from (100) to (200);"
        f"insert into {name} values (1, 'a'), (101, 'a')"
    )
    return name


def test_root(server: Serving, tables: Tables, root: str) -> None:
    reader = Follower(server.url, root).sync()
    assert sorted(reader.rows) == [f'"public"."{root}"/"1"', f'"public"."{root}"/"101"']
    tables.run(f"update {root} set label = 'b' where id = 1")
    tables.run(f"insert into {root} values (102, 'c')")
    tables.run(f"insert into {root}_1 values (2, 'straight')")
    tables.run(f"delete from {root} where id = 101")
    assert reader.take_operations(4) == [
        ("update", {"id": "1", "label": "b"}),
        ("insert", {"id": "102", "label": "c"}),
        ("insert", {"id": "2", "label": "straight"}),
        ("delete", {"id": "101"}),
    ]
    for change in reader.changes:
        assert change["headers"]["relation"] == ["public", root]


def test_partition(server: Serving, tables: Tables, root: str) -> None:
    leaf = f"{root}_1"
    reader = Follower(server.url, leaf).sync()
    assert list(reader.rows) == [f'"public"."{leaf}"/"1"']
    tables.run(f"insert into {root} values (102, 'elsewhere')")
    tables.run(f"insert into {root} values (2, 'here')")
    change = reader.take(1)[0]
    assert change["value"] == {"id": "2", "label": "here"}
    assert change["headers"]["relation"] == ["public", leaf]
    assert change["key"] == f'"public"."{leaf}"/"2"'


def test_both_at_once(server: Serving, tables: Tables, root: str) -> None:
    whole = Follower(server.url, root, where="label <> 'x'").sync()
    leaf = Follower(server.url, f"{root}_2").sync()
    tables.run(f"update {root} set label = 'y' where id = 101")
    assert whole.take(1)[0]["headers"]["relation"] == ["public", root]
    assert leaf.take(1)[0]["headers"]["relation"] == ["public", f"{root}_2"]


def test_row_that_goes_to_another_partition(server: Serving, tables: Tables, root: str) -> None:
    reader = Follower(server.url, root).sync()
    leaf = Follower(server.url, f"{root}_1").sync()
    tables.run(f"update {root} set id = 150 where id = 1")
    assert reader.take_operations(2) == [
        ("delete", {"id": "1"}),
        ("insert", {"id": "150", "label": "a"}),
    ]
    assert leaf.take_operations(1) == [("delete", {"id": "1"})]


def test_partition_that_is_added_later(server: Serving, tables: Tables, root: str) -> None:
    reader = Follower(server.url, root, where="id > 0").sync()
    tables.run(
        f"create table {root}_3 partition of {root} for values from (200) to (300);"
        f"insert into {root} values (201, 'a')"
    )
    assert reader.take_operations(1) == [("insert", {"id": "201", "label": "a"})]
    tables.run(f"create table {root}_4 (label text, filler int, id int not null)")
    tables.run(f"alter table {root}_4 drop filler")
    tables.run(f"alter table {root} attach partition {root}_4 for values from (300) to (400)")
    tables.run(f"insert into {root} values (301, 'other order of columns')")
    assert reader.take_operations(1) == [
        ("insert", {"id": "301", "label": "other order of columns"})
    ]


def test_partition_that_is_added_with_its_first_rows(
    server: Serving, tables: Tables, root: str
) -> None:
    """In one transaction: who looks it up while that ends may not see it yet."""
    reader = Follower(server.url, root).sync()
    for number in range(2, 7):
        low = number * 100
        tables.run(
            f"create table {root}_n{number} (id int not null, label text);"
            f"alter table {root} attach partition {root}_n{number}"
            f" for values from ({low}) to ({low + 100});"
            f"insert into {root} values ({low}, 'a')"
        )
        assert reader.take_operations(1) == [("insert", {"id": str(low), "label": "a"})]


def test_partition_that_is_added_in_a_large_transaction(
    server: Serving, tables: Tables, root: str
) -> None:
    """So large that Postgres sends the beginning before the commit."""
    reader = Follower(server.url, root, columns="id,label", where="label like 'x%'").sync()
    tables.run(
        f"create table {root}_big partition of {root} for values from (1000) to (100000);"
        f"insert into {root} select i, repeat('a', 300) from generate_series(1000, 60000) i;"
        f"insert into {root} values (70000, 'x')"
    )
    assert reader.take_operations(1) == [("insert", {"id": "70000", "label": "x"})]


def test_rows_of_a_partition_that_is_added_later_change(
    server: Serving, tables: Tables, root: str
) -> None:
    reader = Follower(server.url, root).sync()
    tables.run(
        f"create table {root}_3 partition of {root} for values from (200) to (300);"
        f"insert into {root} values (201, 'a'), (202, 'a')"
    )
    reader.take(2)
    tables.run(f"update {root} set label = 'b' where id = 201")
    tables.run(f"delete from {root} where id = 202")
    changes = reader.take(2)
    assert reader.rows[f'"public"."{root}"/"201"'] == {"id": "201", "label": "b"}
    assert changes[1]["headers"]["operation"] == "delete"


@pytest.mark.parametrize(
    "event",
    [
        "alter table {root} detach partition {root}_2",
        "drop table {root}_2",
        "alter table {root} attach partition {root}_old for values from (500) to (600)",
        "alter table {root} attach partition {root}_sub for values from (600) to (700)",
    ],
)
def test_rows_that_come_or_go_with_their_partition(
    watchful: Serving, watchful_tables: Tables, event: str
) -> None:
    """The log says nothing of them, so the root's readers begin anew, and nobody else does."""
    root = make_root(watchful_tables)
    watchful_tables.run(
        f"create table {root}_old (like {root} including all);"
        f"insert into {root}_old values (500, 'old');"
        f"create table {root}_sub (like {root} including all) partition by range (id);"
        f"create table {root}_sub_1 partition of {root}_sub for values from (600) to (650);"
        f"insert into {root}_sub values (600, 'old')"
    )
    reader, leaf = Follower(watchful.url, root).sync(), Follower(watchful.url, f"{root}_1").sync()
    with events(watchful.url, table=root, handle=reader.handle, offset=reader.offset) as stream:
        watchful_tables.run(event.format(root=root))
        assert stream.rest() == []
    assert reader.request().status == 409
    again = Follower(watchful.url, root).sync()
    present = watchful_tables.run(f"select id::text from {root} order by id::text")
    assert sorted([row["id"] for row in again.values()]) == [row[0] for row in present]
    watchful_tables.run(f"update {root} set label = 'new' where id <> 101")
    again.take(len([row for row in present if row != ("101",)]))
    assert leaf.take_operations(1) == [("update", {"id": "1", "label": "new"})]


def test_partitions_that_come_empty_end_nothing(watchful: Serving, watchful_tables: Tables) -> None:
    root, canary = make_root(watchful_tables), watchful_tables.make("id int primary key, a int")
    reader, other = Follower(watchful.url, root).sync(), Follower(watchful.url, canary).sync()
    watchful_tables.run(f"create table {root}_new (like {root} including all)")
    watchful_tables.run(
        f"alter table {root} attach partition {root}_new for values from (500) to (600)"
    )
    watchful_tables.run(
        f"create table {root}_3 partition of {root} for values from (200) to (300);"
        f"insert into {root} values (200, 'a'), (500, 'a')"
    )
    watchful_tables.run(f"alter table {canary} drop a")
    # Once that has been seen, the partitions have been seen too.
    assert other.request(live=True).status == 409
    watchful_tables.run(f"delete from {root} where id = 500")
    assert reader.take_operations(3) == [
        ("insert", {"id": "200", "label": "a"}),
        ("insert", {"id": "500", "label": "a"}),
        ("delete", {"id": "500"}),
    ]


@pytest.mark.parametrize("victim", ["{}", "{}_1"])
def test_truncate(server: Serving, tables: Tables, root: str, victim: str) -> None:
    reader = Follower(server.url, root).sync()
    leaf = Follower(server.url, f"{root}_1").sync()
    tables.run(f"truncate {victim.format(root)}")
    for one in (reader, leaf):
        answer = one.request(live=True)
        assert answer.status == 409
    left = tables.run(f"select id::text from {root}")
    assert [(row["id"],) for row in Follower(server.url, root).sync().values()] == left


def test_views_are_refused(server: Serving, tables: Tables, root: str) -> None:
    tables.run(f"create view {root}_view as table {root}")
    answer = ask(server.url, table=f"{root}_view", offset=-1)
    assert answer.status == 400
    assert answer.error["errors"]["table"][0].startswith(
        f'Table "public"."{root}_view" does not exist.'
    )
