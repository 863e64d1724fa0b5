"""The table that most benchmarks write to: a row of eight columns, and procedures that write many.

A write is one transaction per `per` rows, made inside the server, so that preparing half a million
changes takes seconds.
"""

from __future__ import annotations

from typing import Literal

import psycopg

Kind = Literal["insert", "update"]

COLUMNS = 8

_SCHEMA = """
create table if not exists items (
    id bigint primary key,
    run text not null,
    status text not null,
    progress integer not null,
    cost numeric(12, 4) not null,
    score double precision,
    note text,
    updated_at timestamptz not null
) with (autovacuum_enabled = false);

alter table items replica identity full;

create or replace procedure insert_items(first bigint, total bigint, per bigint)
language plpgsql as $$
begin
    for start in 0 .. (total - 1) / per loop
        insert into items
        select n, 'run_' || n % 1000, 'QUEUED', 0, n % 977 * 1.25, n * 0.001,
            'a note about item ' || n, now()
        from generate_series(
            first + start * per, first + least(start * per + per, total) - 1
        ) as n;
        commit;
    end loop;
end
$$;

create or replace procedure update_items(first bigint, total bigint, per bigint)
language plpgsql as $$
begin
    for start in 0 .. (total - 1) / per loop
        update items set status = 'EXECUTING', progress = progress + 1, updated_at = now()
        where id between first + start * per and first + least(start * per + per, total) - 1;
        commit;
    end loop;
end
$$;
"""


def create_items(connection: psycopg.Connection) -> None:
    for statement in _SCHEMA.split("\n\n"):
        connection.execute(statement.encode())


def write_items(
    connection: psycopg.Connection, kind: Kind, first: int, total: int, per: int
) -> None:
    """Write items `first` to `first + total - 1`, `per` rows per transaction.

    Commits do not wait for the disk: what comes is the same, only sooner.
    """
    connection.execute("set synchronous_commit = off")
    connection.execute(f"call {kind}_items({first}, {total}, {per})".encode())
    connection.execute("reset synchronous_commit")


def publish(connection: psycopg.Connection, publication: str, table: str) -> None:
    """A publication as the engine makes it, with a table in it."""
    connection.execute(
        f"create publication {publication} for table {table} "
        "with (publish = 'insert, update, delete, truncate')".encode()
    )
