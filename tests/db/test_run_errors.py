"""Errors of runs in the form that clients parse, and triggers for tables of one's own."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

pytestmark = pytest.mark.migrated


@pytest.fixture
async def backend(database: str, connection: psycopg.AsyncConnection) -> psycopg.AsyncConnection:
    await connection.execute("set timezone = 'Asia/Tokyo'")
    return connection


async def row(
    connection: psycopg.AsyncConnection, statement: str, *values: object
) -> tuple[Any, ...]:
    found = await (await connection.execute(statement.encode(), values)).fetchone()
    assert found is not None
    return found


def built_in(name: str, message: str, stack: str = "", **more: object) -> dict[str, object]:
    return {
        "type": "BUILT_IN_ERROR",
        "name": name,
        "message": message,
        "stackTrace": stack,
        **more,
    }


def internal(**members: object) -> dict[str, object]:
    return {"type": "INTERNAL_ERROR", **members}


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("no such image", {"type": "STRING_ERROR", "raw": "no such image"}),
        (7, {"type": "STRING_ERROR", "raw": "7"}),
        ([1], {"type": "STRING_ERROR", "raw": "[1]"}),
        ({"code": 5}, {"type": "STRING_ERROR", "raw": '{"code": 5}'}),
        ({"type": "STRING_ERROR", "raw": "x"}, {"type": "STRING_ERROR", "raw": "x"}),
        ({"type": "STRING_ERROR", "message": "x"}, {"type": "STRING_ERROR", "raw": "x"}),
        ({"type": "CUSTOM_ERROR", "raw": {"a": 1}}, {"type": "CUSTOM_ERROR", "raw": '{"a": 1}'}),
        ({"message": "m"}, built_in("Error", "m")),
        ({"name": "ValueError", "traceback": "at 1"}, built_in("ValueError", "", "at 1")),
        ({"type": "ValueError", "name": None, "message": 1}, built_in("Error", "1")),
        (built_in("E", "m", "s"), built_in("E", "m", "s")),
        (
            built_in("E", "m", causes=["c", {"message": "d", "name": None}, None]),
            built_in("E", "m", causes=[{"message": "c"}, {"message": "d"}]),
        ),
        (internal(code="TASK_RUN_CRASHED"), internal(code="TASK_RUN_CRASHED")),
        (
            internal(code="SLEEPY", message="m", stackTrace=None),
            internal(code="UNSPECIFIED_ERROR", message="SLEEPY: m"),
        ),
    ],
)
async def test_the_form_of_errors(
    backend: psycopg.AsyncConnection, written: object, kept: object
) -> None:
    failed = (
        "insert into pgtide.runs (task, status, error) values ('t', 'FAILED', %s) returning error"
    )
    assert await row(backend, failed, Jsonb(written)) == (kept,)
    again = "update pgtide.runs set error = %s returning error, status"
    await backend.execute("update pgtide.runs set error = null")
    assert await row(backend, again, Jsonb(written)) == (kept, "FAILED")


async def test_no_error_stays_none(backend: psycopg.AsyncConnection) -> None:
    assert await row(
        backend,
        "insert into pgtide.runs (task, error) values ('t', 'null') returning error is null",
    ) == (True,)


JOBS = """
create table jobs (
    id int primary key, state {state} not null, changed_at {time}, finished_at {time},
    failure {failure}, data bytea
);
create trigger keep before insert or update on jobs for each row execute function pgtide.keep(
    'status=state', 'updated_at=changed_at', 'completed_at=finished_at', 'error=failure',
    'over=done,broken'
)
"""
NOW = {"timestamptz": "now()", "timestamp": "(now() at time zone 'utc')"}


@pytest.mark.parametrize("time", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("failure", ["jsonb", "json", "text"])
@pytest.mark.parametrize("state", ["text", "state"])
async def test_a_table_of_ones_own(
    backend: psycopg.AsyncConnection, time: str, failure: str, state: str
) -> None:
    now = NOW[time]
    await backend.execute("create type state as enum ('todo', 'done', 'broken')")
    await backend.execute(JOBS.format(state=state, time=time, failure=failure).encode())
    await backend.execute("insert into jobs (id, state, data) values (1, 'todo', '\\xff00')")
    assert await row(backend, "select changed_at is null, finished_at is null from jobs") == (
        True,
        True,
    )
    assert await row(
        backend,
        "update jobs set state = 'broken', failure = '\"no\"'"
        f" returning changed_at = {now}, finished_at = {now}, failure::jsonb, data",
    ) == (True, True, {"type": "STRING_ERROR", "raw": "no"}, b"\xff\x00")
    assert await row(
        backend, f"update jobs set id = 2 returning changed_at = {now}, finished_at < {now}"
    ) == (True, True)
    assert await row(
        backend, "update jobs set state = 'todo' returning finished_at is null, failure is null"
    ) == (True, False)
    assert await row(
        backend,
        "update jobs set state = 'done', finished_at = '2020-01-01'"
        " returning finished_at::date::text",
    ) == ("2020-01-01",)


async def test_a_plain_text_for_an_error(backend: psycopg.AsyncConnection) -> None:
    await backend.execute(JOBS.format(state="text", time="timestamptz", failure="text").encode())
    assert await row(
        backend,
        "insert into jobs (id, state, failure) values (1, 'broken', 'it broke: \"x\"')"
        " returning failure::jsonb, finished_at is not null",
    ) == ({"type": "STRING_ERROR", "raw": 'it broke: "x"'}, True)


async def test_columns_with_the_names_of_fields(backend: psycopg.AsyncConnection) -> None:
    await backend.execute(
        "create table plain (status text, updated_at timestamptz, completed_at timestamptz);"
        "create trigger keep before insert or update on plain for each row"
        " execute function pgtide.keep('status', 'updated_at', 'completed_at')"
    )
    assert await row(
        backend, "insert into plain (status) values ('succeeded') returning completed_at is null"
    ) == (False,)
    assert await row(
        backend,
        "update plain set status = 'running' returning completed_at is null, updated_at = now()",
    ) == (True, True)


async def test_a_trigger_that_was_spelt_wrong_says_so(backend: psycopg.AsyncConnection) -> None:
    await backend.execute(
        "create table plain (status text);"
        "create trigger keep before insert on plain for each row"
        " execute function pgtide.keep('state=status')"
    )
    with pytest.raises(errors.RaiseException, match='does not know "state=status"'):
        await backend.execute("insert into plain values ('x')")
