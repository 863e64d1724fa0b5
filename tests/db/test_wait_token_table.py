"""Wait tokens, packets and metadata as writers in plain SQL use them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_side import Connect
from psycopg import errors

pytestmark = pytest.mark.migrated


@pytest.fixture
async def backend(database: str, connection: psycopg.AsyncConnection) -> psycopg.AsyncConnection:
    return connection


async def row(
    connection: psycopg.AsyncConnection, statement: str, *values: object
) -> tuple[Any, ...]:
    found = await (await connection.execute(statement.encode(), values)).fetchone()
    assert found is not None
    return found


async def token(connection: psycopg.AsyncConnection, timeout: str = "1 hour") -> str:
    found = await row(
        connection,
        "insert into pgtide.wait_tokens (timeout_at) values (now() + %s::interval) returning id",
        timeout,
    )
    return found[0]


async def test_the_life_of_a_token(backend: psycopg.AsyncConnection) -> None:
    name = await token(backend)
    assert name.startswith("waitpoint_")
    assert await row(backend, "select status, output from pgtide.wait_token(%s)", name) == (
        "WAITING",
        None,
    )
    complete = "select pgtide.complete_wait_token(%s, %s)"
    assert await row(backend, complete, name, '{"ok": true}') == (True,)
    assert await row(backend, complete, name, '{"ok": false}') == (False,)
    assert await row(
        backend,
        "select status, output::jsonb, output_type, completed_at is not null"
        " from pgtide.wait_tokens where id = %s",
        name,
    ) == ("COMPLETED", {"ok": True}, "application/json", True)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="COMPLETED already"):
        await backend.execute("update pgtide.wait_tokens set output = '1' where id = %s", (name,))


async def test_a_token_times_out_by_the_clock(backend: psycopg.AsyncConnection) -> None:
    name = await token(backend, "0 seconds")
    status = "select status from pgtide.wait_token(%s)"
    assert await row(backend, status, name) == ("TIMED_OUT",)
    assert await row(backend, "select pgtide.complete_wait_token(%s)", name) == (False,)
    assert await row(backend, status, name) == ("TIMED_OUT",)


async def test_whoever_waits_is_woken(backend: psycopg.AsyncConnection, connect: Connect) -> None:
    name = await token(backend)
    worker = await connect()
    await worker.execute("listen pgtide_wait_tokens")
    await backend.execute("update pgtide.wait_tokens set tags = '{a}'")
    await backend.execute("select pgtide.complete_wait_token(%s)", (name,))
    heard = [one.payload async for one in worker.notifies(timeout=10, stop_after=1)]
    assert heard == [name]


def documented() -> Callable[[psycopg.Connection, str], str | None]:
    """The function that docs/runs.md gives workers for waiting."""
    text = (Path(__file__).parents[2] / "docs/runs.md").read_text()
    found = re.search(r"```python\n([^`]*?def wait_for.*?)```", text, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"psycopg": psycopg}
    exec(found[1], names)
    return names["wait_for"]


async def test_waiting_as_the_documentation_says(
    database: str, backend: psycopg.AsyncConnection
) -> None:
    wait_for = documented()

    def wait(name: str) -> str | None:
        with psycopg.connect(database, autocommit=True) as worker:
            return wait_for(worker, name)

    name = await token(backend)
    waiting = asyncio.create_task(asyncio.to_thread(wait, name))
    listens = (
        "select count(*) from pg_stat_activity"
        " where query like '%%from pgtide.wait_token(%%' and state = 'idle'"
    )
    while await row(backend, listens) == (0,):
        assert not waiting.done()
    await backend.execute("select pgtide.complete_wait_token(%s, '[1]')", (name,))
    assert await waiting == "[1]"
    assert await asyncio.to_thread(wait, name) == "[1]"
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(wait, await token(backend, "0.2 seconds"))
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(wait, "waitpoint_none")


async def test_packets_are_forgotten_by_age(backend: psycopg.AsyncConnection) -> None:
    await backend.execute(
        "insert into pgtide.packets (path, content_type, data, created_at) values"
        " ('a', 'x', '', now() - interval '2 days'), ('b', 'x', '', now())"
    )
    assert await row(backend, "select pgtide.forget_packets('1 day')") == (1,)
    assert await row(backend, "select array_agg(path) from pgtide.packets") == (["b"],)


async def test_metadata_in_plain_sql(backend: psycopg.AsyncConnection) -> None:
    await backend.execute("insert into pgtide.runs (id, task) values ('r', 't'), ('other', 't')")
    for statement in (
        "set_metadata('r', 'progress', '40')",
        "set_metadata('r', 'step', to_jsonb('resizing'::text))",
        "increment_metadata('r', 'done')",
        "increment_metadata('r', 'done', 1.5)",
        "increment_metadata('r', 'done', 0.5)",
        "increment_metadata('r', 'step.count', -1)",
        "append_metadata('r', 'log', '\"a\"')",
        "append_metadata('r', 'log', '[1]')",
        "append_metadata('r', 'progress', 'null')",
    ):
        await backend.execute(f"select pgtide.{statement}".encode())
    assert await row(
        backend,
        "select metadata, metadata::text ~ '\"done\": 3,', metadata_version from pgtide.runs"
        " where id = 'r'",
    ) == (
        {
            "progress": [40, None],
            "step": "resizing",
            "done": 3,
            "step.count": -1,
            "log": ["a", [1]],
        },
        True,
        9,
    )
    assert await row(backend, "select metadata from pgtide.runs where id = 'other'") == ({},)


@pytest.mark.parametrize(
    "call",
    [
        "set_metadata('x', 'a', '1')",
        "increment_metadata('x', 'a')",
        "append_metadata('x', 'a', '1')",
    ],
)
async def test_metadata_of_a_run_that_is_not_there(
    backend: psycopg.AsyncConnection, call: str
) -> None:
    with pytest.raises(errors.NoDataFound, match="there is no run x"):
        await backend.execute(f"select pgtide.{call}".encode())


async def test_every_column_and_function_is_explained(backend: psycopg.AsyncConnection) -> None:
    assert await row(
        backend,
        """
        select array_agg(attrelid::regclass || '.' || attname)
        from pg_attribute join pg_class as c on c.oid = attrelid
        where c.relnamespace = 'pgtide'::regnamespace and c.relkind = 'r' and attnum > 0
            and c.relname in ('wait_tokens', 'packets') and col_description(attrelid, attnum) is null
        """,
    ) == (None,)
    assert await row(
        backend,
        """
        select array_agg(proname) from pg_proc
        where pronamespace = 'pgtide'::regnamespace and prorettype <> 'trigger'::regtype
            and obj_description(oid) is null
        """,
    ) == (None,)
