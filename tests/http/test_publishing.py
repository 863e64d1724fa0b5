"""The publication, and what others do to it: noticed without traffic, said in the known words."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from follower import Answer, Follower, ask, events
from serving import Serving, fresh_database
from tables import Tables

COLUMNS = "id int primary key, a text"


@pytest.fixture(scope="module")
def database_here(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="module")
def here(database_here: str) -> Generator[Tables]:
    with closing(Tables(database_here)) as tables:
        yield tables


@pytest.fixture(scope="module")
def owner(database_here: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """May do all that it wants."""
    folder = tmp_path_factory.mktemp("pgtide-owner")
    with Serving(database_here, folder, catalog_interval=0.2) as serving:
        yield serving


@pytest.fixture(scope="module")
def manual(database_here: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """Must leave publications alone."""
    serving = Serving(
        *(database_here, tmp_path_factory.mktemp("pgtide-manual")),
        catalog_interval=0.2,
        manual_table_publishing=True,
    )
    with closing(Tables(database_here)) as tables:
        tables.run(f"create publication pgtide_{serving.stream_id}")
    with serving:
        yield serving


@pytest.fixture(scope="module")
def guest(
    server_url: str, database_here: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Serving]:
    """Its role owns its publication and none of the tables, and may not even read them."""
    role = f"guest_{secrets.token_hex(4)}"
    with psycopg.connect(database_here, autocommit=True) as admin:
        admin.execute(f"create role {role} login replication password 'secret'".encode())
        admin.execute(f"grant create on database {admin.info.dbname} to {role}".encode())
    parts = urlsplit(database_here)
    address = f"{role}:secret@{parts.hostname}:{parts.port}"
    url = urlunsplit(parts._replace(netloc=address))
    with Serving(url, tmp_path_factory.mktemp("pgtide-guest"), nodes=1) as serving:
        yield serving


def publication(serving: Serving) -> str:
    return f"pgtide_{serving.stream_id}"


def members(tables: Tables, serving: Serving) -> set[str]:
    query = "select tablename from pg_publication_tables where pubname = %s"
    return {row[0] for row in tables.run(query, publication(serving))}


def check_refusal(answer: Answer, message: str) -> None:
    """What is temporary, and known to be nobody's mistake but the operator's."""
    assert (answer.status, answer.error) == (503, {"message": message})
    assert answer.headers["retry-after"] == "10"
    assert answer.headers["electric-internal-known-error"] == "true"
    assert answer.headers["cache-control"] == "no-store"


@contextmanager
def ends(reader: Follower) -> Generator[None]:
    """What is done inside ends the shape, for a reader who waits and for one who comes back."""
    given = reader.parameters | {"handle": reader.handle, "offset": reader.offset}
    with events(reader.url, **given) as stream:
        yield
        assert stream.rest() == []
    assert reader.request().status == 409


def until_served(url: str, table: str, former: str | None) -> Follower:
    """A reader of the table's next handle."""
    answers: list[Answer] = []
    while len(answers) < 1000:
        answers.append(ask(url, table=table, offset=-1))
        if answers[-1].status == 200 and answers[-1].handle != former:
            return Follower(url, table).sync()
    raise AssertionError(answers[-1])


def check_live(reader: Follower, tables: Tables, name: str) -> None:
    number = str(len(reader.rows) + 1)
    tables.run(f"insert into {name} values ({number}, 'live')")
    assert reader.take_operations(1) == [("insert", {"id": number, "a": "live"})]


@pytest.mark.parametrize("added_again", [False, True])
def test_a_table_that_somebody_takes_out(owner: Serving, here: Tables, added_again: bool) -> None:
    """What is written meanwhile is in no log: readers begin anew."""
    name, other = here.make(COLUMNS), here.make(COLUMNS)
    reader, untouched = Follower(owner.url, name).sync(), Follower(owner.url, other).sync()
    with ends(reader):
        here.run(f"alter publication {publication(owner)} drop table {name}")
        here.run(f"insert into {name} values (1, 'unheard')")
        if added_again:
            here.run(f"alter publication {publication(owner)} add table {name}")
    again = until_served(owner.url, name, reader.handle)
    assert again.values() == [{"id": "1", "a": "unheard"}]
    assert name in members(here, owner)
    check_live(again, here, name)
    check_live(untouched, here, other)


def test_a_publication_that_lacks_operations(owner: Serving, here: Tables) -> None:
    name = here.make(COLUMNS)
    reader = Follower(owner.url, name).sync()
    with ends(reader):
        here.run(f"alter publication {publication(owner)} set (publish = 'insert, update')")
    check_refusal(
        ask(owner.url, table=name, offset=-1),
        f'Publication "{publication(owner)}" does not publish all required operations: '
        "INSERT, UPDATE, DELETE, TRUNCATE",
    )
    every = "insert, update, delete, truncate"
    here.run(f"alter publication {publication(owner)} set (publish = '{every}')")
    check_live(until_served(owner.url, name, reader.handle), here, name)


def test_generated_columns_that_are_not_published(owner: Serving, here: Tables) -> None:
    if int(here.run("show server_version_num")[0][0]) < 180000:
        pytest.skip("no publication sends them")
    name = here.make(f"{COLUMNS}, twice int generated always as (id * 2) stored")
    reader = Follower(owner.url, name).sync()
    without = Follower(owner.url, name, columns="id,a").sync()
    setting = f"alter publication {publication(owner)} set (publish_generated_columns = {{}})"
    here.run(setting.format("none"))
    here.run(f"insert into {name} values (1, 'unheard')")
    assert reader.request(live=True).status in (409, 503)
    message = f'Publication "{publication(owner)}" does not publish generated columns'
    answer = ask(owner.url, table=name, offset=-1)
    while answer.status == 200:
        answer = ask(owner.url, table=name, offset=-1)
    check_refusal(answer, message)
    assert without.take_operations(1) == [("insert", {"id": "1", "a": "unheard"})]
    here.run(setting.format("stored"))
    again = until_served(owner.url, name, reader.handle)
    assert again.values() == [{"id": "1", "a": "unheard", "twice": "2"}]
    here.run(f"update {name} set id = 2")
    assert again.take(2)[1]["value"] == {"id": "2", "a": "unheard", "twice": "4"}


def test_virtual_columns_are_never_sent(owner: Serving, here: Tables) -> None:
    if int(here.run("show server_version_num")[0][0]) < 180000:
        pytest.skip("there are none")
    name = here.make(f"{COLUMNS}, twice int generated always as (id * 2) virtual")
    answer = ask(owner.url, table=name, offset=-1)
    assert (answer.status, list(answer.error["errors"])) == (400, ["columns"])
    check_live(Follower(owner.url, name, columns="id,a").sync(), here, name)


def test_a_replica_identity_that_is_not_full_any_more(owner: Serving, here: Tables) -> None:
    """It is set again, and readers lose nothing meanwhile."""
    name = here.make(COLUMNS)
    reader = Follower(owner.url, name).sync()
    here.run(f"insert into {name} values (1, 'x')")
    reader.take(1)
    here.run(f"alter table {name} replica identity default")
    here.run(f"update {name} set a = 'y'")
    while here.run(f"select relreplident from pg_class where oid = '{name}'::regclass") != [("f",)]:
        pass
    here.run(f"update {name} set a = 'z'")
    reader.take(2)
    assert reader.values() == [{"id": "1", "a": "z"}]


def test_a_replica_identity_without_the_key(owner: Serving, here: Tables) -> None:
    """Another index's columns do not tell which row was deleted."""
    name = here.make("id int primary key, a text not null unique")
    here.run(f"insert into {name} values (1, 'x')")
    reader = Follower(owner.url, name).sync()
    with ends(reader):
        here.run(f"alter table {name} replica identity using index {name}_a_key;delete from {name}")
    assert until_served(owner.url, name, reader.handle).values() == []


def test_a_publication_that_is_dropped(owner: Serving, here: Tables) -> None:
    name = here.make(COLUMNS)
    reader = Follower(owner.url, name).sync()
    with ends(reader):
        here.run(f"drop publication {publication(owner)}")
    here.run(f"insert into {name} values (1, 'unheard')")
    # The engine may find that it cannot go on with its slot, and begin the log anew.
    while (former := reader.handle) is not None:
        reader = until_served(owner.url, name, former)
        here.run(f"insert into {name} select count(*) + 1, 'live' from {name}")
        if reader.request(live=True).status == 200:
            break
    written = here.run(f"select id::text, a from {name} order by id")
    while len(reader.rows) < len(written):
        reader.step(live=reader.live)
    assert [(row["id"], row["a"]) for row in reader.values()] == written


def test_manual_publishing(manual: Serving, here: Tables) -> None:
    name = here.make(COLUMNS)
    missing = (
        f'Database table "public.{name}" is missing from the publication "{publication(manual)}" and '
        "the PGTIDE_MANUAL_TABLE_PUBLISHING setting prevents pgtide from adding it"
    )
    for offset in ("-1", "now"):
        check_refusal(ask(manual.url, table=name, offset=offset), missing)
    here.run(f"alter publication {publication(manual)} add table {name}")
    identity = f'Database table "public.{name}" does not have its replica identity set to FULL'
    check_refusal(ask(manual.url, table=name, offset=-1), identity)
    here.run(f"alter table {name} replica identity full")
    reader = until_served(manual.url, name, None)
    check_live(reader, here, name)
    # Who has begun can go on; whoever begins must not be promised what may not come.
    here.run(f"alter table {name} replica identity default; update {name} set a = 'y'")
    assert reader.take(1)[0]["value"] == {"id": "1", "a": "y"}
    check_refusal(ask(manual.url, table=name, where="id > 0", offset=-1), identity)
    here.run(f"alter table {name} replica identity full")
    with ends(reader):
        here.run(f"alter publication {publication(manual)} drop table {name}")
    check_refusal(ask(manual.url, table=name, offset=-1), missing)
    assert name not in members(here, manual)


def test_no_privileges(guest: Serving, here: Tables) -> None:
    name = here.make(COLUMNS)
    check_refusal(
        ask(guest.url, table=name, offset=-1),
        f'Database table "public.{name}" is missing from the publication "{publication(guest)}" and '
        "pgtide lacks privileges to add it",
    )
    here.run(f"alter publication {publication(guest)} add table {name}")
    here.run(f"alter table {name} replica identity full")
    check_refusal(
        ask(guest.url, table=name, offset=-1),
        f"Unable to create initial snapshot: permission denied for table {name}",
    )
    here.run(f"grant select on {name} to public")
    check_live(until_served(guest.url, name, None), here, name)
