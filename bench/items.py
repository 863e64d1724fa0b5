"""The table that the benchmarks write to: runs with an id, a batch and tags, in eight columns.

Procedures in the server write many rows, so that preparing half a million changes takes seconds.
"""

from __future__ import annotations

from typing import Literal

import psycopg

Kind = Literal["insert", "update"]

BATCH_SIZE = 1000
"""Rows per batch: row n belongs to `batch_<n / BATCH_SIZE>`."""

TAGS = 1000
"""Row n has the tags `user_<n mod TAGS>` and `kind_<n mod 10>`."""

_SCHEMA = """
create table items (
    id text primary key,
    batch_id text not null,
    tags text[] not null,
    status text not null,
    progress integer not null,
    seq bigint not null,
    note text,
    updated_at timestamptz not null
) with (autovacuum_enabled = false);

alter table items replica identity full;

-- Rows `first` to `first + total - 1`, `per` of them per transaction.
create procedure insert_items(first bigint, total bigint, per bigint)
language plpgsql as $$
begin
    for start in 0 .. (total - 1) / per loop
        insert into items
        select 'run_' || n, 'batch_' || n / 1000,
            array['user_' || n % 1000, 'kind_' || n % 10], 'QUEUED', 0, n,
            'a note about run ' || n, now()
        from generate_series(
            first + start * per, first + least(start * per + per, total) - 1
        ) as n;
        commit;
    end loop;
end
$$;

create procedure update_items(first bigint, total bigint, per bigint)
language plpgsql as $$
begin
    for start in 0 .. (total - 1) / per loop
        update items
        set status = 'EXECUTING', progress = progress + 1, seq = n, updated_at = now()
        from generate_series(
            first + start * per, first + least(start * per + per, total) - 1
        ) as n
        where id = 'run_' || n;
        commit;
    end loop;
end
$$;
"""


def create_items(connection: psycopg.Connection, rows: int = 0) -> None:
    """Make the table, with rows 1 to `rows`."""
    connection.execute(_SCHEMA)
    if rows:
        write_items(connection, "insert", 1, rows, rows)
        connection.execute("analyze items")


def write_items(
    connection: psycopg.Connection, kind: Kind, first: int, total: int, per: int
) -> None:
    """Write rows `first` to `first + total - 1`, `per` rows per transaction.

    Commits do not wait for the disk: what comes is the same, only sooner.
    """
    # The update finds its rows by the primary key, however many it takes the table to have.
    settings = {"synchronous_commit": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
    for name, value in settings.items():
        connection.execute("select set_config(%s, %s, false)", (name, value))
    connection.execute(f"call {kind}_items({first}, {total}, {per})".encode())
    for name in settings:
        connection.execute(f"reset {name}".encode())


def publish(connection: psycopg.Connection, publication: str) -> None:
    """Make the publication beforehand, with the table in it."""
    connection.execute(
        f"create publication {publication} for table items "
        "with (publish = 'insert, update, delete, truncate')".encode()
    )
