"""Queries and snapshots through a real PgBouncer that keeps nothing between transactions."""

from __future__ import annotations

from pathlib import Path

import httpx
import psycopg
import pytest
from load import CREATE
from pooler import pgbouncer
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject

from engine.configuration.settings import Settings
from engine.doctor import doctor
from engine.postgres.migrate import migrate

ROWS = 3000
TEXT = {"content-type": "text/plain"}
VALUES = """
    create table odd (
        id int primary key, moment timestamptz, span interval, raw bytea, day date, big float8
    );
    insert into odd
    select i, timestamptz '2026-03-04 05:06:07+00' + i * interval '1 hour', i * interval '90 min',
        decode(lpad(to_hex(i), 8, '0'), 'hex'), date '2026-03-04' + i, i / 3.0
    from generate_series(1, 3) i
"""


async def test_everything_but_replication_through_a_pooler(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
        connection.execute(VALUES.encode())
        await migrate(database)
        # The pooler's connections begin with settings that pgtide must not rely on.
        name = connection.info.dbname
        for setting in (
            "intervalstyle = postgres_verbose",
            "bytea_output = escape",
            "datestyle = 'SQL'",
            "client_encoding = 'latin1'",
            "search_path = nowhere",
        ):
            connection.execute(f"alter database {name} set {setting}".encode())
    with (
        pgbouncer(database) as pooler,
        Serving(
            database, tmp_path / "pgtide", pooled_database_url=pooler.url, long_poll_timeout=2
        ) as server,
        psycopg.connect(database, autocommit=True) as connection,
    ):
        odd = ShapeClient(server.url, Subject("odd"))
        await odd.catch_up()
        assert odd.rows['"public"."odd"/"3"'] == {
            "id": "3",
            "moment": "2026-03-04 08:06:07+00",
            "span": "PT4H30M",
            "raw": "\\x00000003",
            "day": "2026-03-07",
            "big": "1",
        }
        # More shapes than the pooler has connections, one after the other and all at once.
        clients = [ShapeClient(server.url, Subject("jobs", f"id = {i}")) for i in range(1, 41)]
        for client in clients[:10]:
            await client.catch_up()
        for client in clients[10:]:
            client.start()
        for client in clients[10:]:
            assert await client.until(lambda c=client: c.up_to_date), client.describe()
            await client.stop()
        connection.execute("set search_path = public")
        # Committed, visible, and not on the disk: the snapshot has it flushed, through the pooler.
        connection.execute("set synchronous_commit = off")
        connection.execute("update jobs set progress = 55 where id = 41")
        late = ShapeClient(server.url, Subject("jobs", "id = 41"))
        await late.catch_up()
        assert late.rows['"public"."jobs"/"41"']["progress"] == "55"
        connection.execute("create table later (id int primary key, line text)")
        connection.execute("insert into later values (1, 'x')")
        new = ShapeClient(server.url, Subject("later"))
        await new.catch_up()
        assert len(new.rows) == 1
        # What goes to Postgres as bytes is UTF-8.
        async with httpx.AsyncClient(base_url=server.url, headers=TEXT, timeout=20) as http:
            answers = [
                await http.put("/v1/stream/sträme"),
                await http.post("/v1/stream/sträme", content="ö"),
            ]
        assert [answer.status_code for answer in answers] == [201, 204]
        paths = connection.execute(b"select path, tail from pgtide.streams").fetchall()
        assert paths == [("sträme", 1)]
        # Nobody of ours is left in a transaction, and nothing was prepared for later.
        rows = connection.execute(
            "select state from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and state like 'idle in%'"
        ).fetchall()
        assert rows == []
        for client in (odd, *clients, late, new):
            assert not client.counts.refusals, client.describe()
        assert "ERROR" not in server.log


async def test_the_doctor_tells_a_pooler_from_the_server(
    database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pgbouncer(database) as pooler:
        here = Settings(database_url=pooler.url, data_dir=tmp_path)
        assert await doctor(here) == 1
        assert "a connection pooler answers at the database URL" in capsys.readouterr().out
        there = Settings(database_url=database, pooled_database_url=pooler.url, data_dir=tmp_path)
        await doctor(there)
        assert "✓ the pooled database URL leads to the same database" in capsys.readouterr().out
