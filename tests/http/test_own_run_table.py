"""A table of the user's as the table of runs, in which nothing is called as in pgtide's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from back_ends import OTHER_KEY, SETTINGS
from run_reader import RunReader, get
from serving import Serving, fresh_database
from tables import Tables

from engine.configuration.settings import Settings
from engine.doctor.runs import check_runs

SECTION = """
[runs]
table = "work.Jobs"

[runs.columns]
id = "job no"
status = "state"
created_at = "made"
tags = "labels"
batch_id = "import"
metadata = "details"
output = "result"
error = "problem"
task = "kind"

[runs.values]
environment_id = "default"

[runs.statuses]
waiting = "QUEUED"
busy = "EXECUTING"
done = "COMPLETED"
broken = "FAILED"
"""
TABLE = """
create schema work;
create type work.state as enum ('waiting', 'busy', 'done', 'broken');
create table work."Jobs" (
    pk bigint generated always as identity primary key,
    "job no" uuid not null unique default gen_random_uuid(),
    state work.state not null default 'waiting',
    made timestamp not null default (now() at time zone 'utc'),
    labels varchar(50)[],
    import int,
    details json,
    result jsonb,
    problem text,
    kind varchar(20) not null default 'print',
    hidden text default 'nobody sees this'
)
"""
LIMIT = 2
JOBS = 'work."Jobs"'


@pytest.fixture(scope="module")
def database(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        with closing(Tables(url)) as tables:
            tables.run(TABLE)
        yield url


@pytest.fixture(scope="module")
def jobs(database: str) -> Generator[Tables]:
    with closing(Tables(database)) as made:
        yield made


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own-table") / "pgtide.toml"
    path.write_text(SETTINGS + SECTION)
    return path


@pytest.fixture(scope="module")
def shop(
    database: str, settings_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Serving]:
    """Two nodes that serve the table, to a few at a time."""
    with Serving(
        database,
        tmp_path_factory.mktemp("pgtide-own-table"),
        long_poll_timeout=3,
        config_file=settings_file,
        insecure=False,
        max_live_requests=LIMIT,
    ) as serving:
        yield serving


def make_job(jobs: Tables, columns: str = "kind", values: str = "'print'") -> str:
    rows = jobs.run(f'insert into {JOBS} ({columns}) values ({values}) returning "job no"')
    return str(rows[0][0])


def follow(shop: Serving, job: str) -> RunReader:
    return RunReader(shop.url, f"/realtime/v1/runs/{job}")


def test_a_job_is_a_run(shop: Serving, jobs: Tables) -> None:
    job = make_job(jobs, "labels, details", """'{a,"b c"}', '{"step": 1}'""")
    reader = follow(shop, job).sync()
    row = reader.row
    assert (row["id"], row["friendlyId"], row["taskIdentifier"]) == (job, job, "print")
    assert (row["status"], row["runTags"]) == ("PENDING", '{a,"b c"}')
    assert (row["metadata"], row["metadataType"]) == ('{"step": 1}', "application/json")
    assert row["createdAt"] == row["updatedAt"]
    assert row["completedAt"] is None
    assert reader.last is not None
    assert "nobody sees" not in reader.last.text
    assert "payload" not in reader.schema

    jobs.run(f"""update {JOBS} set state = 'busy', details = '[]' where "job no" = '{job}'""")
    assert reader.live()
    assert (reader.row["status"], reader.row["metadata"]) == ("EXECUTING", None)
    assert list(reader.rows) == [f'"work"."Jobs"/"{job}"']

    jobs.run(
        f"update {JOBS} set state = 'broken', problem = 'out of paper', result = '\"half\"' "
        f"where \"job no\" = '{job}'"
    )
    assert reader.live()
    assert reader.row["status"] == "COMPLETED_WITH_ERRORS"
    assert reader.row["completedAt"] is not None
    assert reader.row["error"] == '{"type":"STRING_ERROR","raw":"out of paper"}'
    assert (reader.row["output"], reader.row["outputType"]) == ('"half"', "application/json")


def test_lists_of_jobs(shop: Serving, jobs: Tables) -> None:
    job = make_job(jobs, "labels, import", "'{lists,x}', 7")
    for path, query in (
        ("/realtime/v1/runs", {"tags": "x,lists"}),
        ("/realtime/v1/batches/7", {}),
    ):
        reader = RunReader(shop.url, path, **query).sync()
        assert set(reader.runs) == {job}
    jobs.run(f"""update {JOBS} set made = made - interval '2 days' where "job no" = '{job}'""")
    reader = RunReader(shop.url, "/realtime/v1/runs", tags="x,lists").sync()
    while reader.runs.keys() - reader.deleted:
        assert reader.live()


@pytest.mark.parametrize(
    "job", ["run_1", "7", "00000000-0000-0000-0000-000000000000", "no'thing", "x" * 500], ids=repr
)
def test_what_is_no_job_is_not_there(shop: Serving, job: str) -> None:
    assert get(shop.url, f"/realtime/v1/runs/{job}").status_code == 404
    assert get(shop.url, f"/realtime/v1/batches/{job}9").status_code == 404


def test_an_id_has_one_spelling(shop: Serving, jobs: Tables) -> None:
    job = make_job(jobs)
    assert get(shop.url, f"/realtime/v1/runs/{job}").status_code == 200
    assert get(shop.url, f"/realtime/v1/runs/{job.upper()}").status_code == 404
    assert get(shop.url, f"/realtime/v1/runs/{job.replace('-', '')}").status_code == 404


def test_its_environment_is_the_one_that_is_said(shop: Serving, jobs: Tables) -> None:
    job = make_job(jobs, "labels", "'{mine}'")
    assert get(shop.url, f"/realtime/v1/runs/{job}", key=OTHER_KEY).status_code == 404
    reader = RunReader(shop.url, "/realtime/v1/runs", key=OTHER_KEY, tags="mine").sync()
    assert reader.rows == {}


def test_there_are_only_so_many_live_requests(shop: Serving, jobs: Tables) -> None:
    readers = [follow(shop, make_job(jobs)).sync() for _ in range(LIMIT + 1)]

    def poll(reader: RunReader) -> httpx.Response:
        assert reader.last is not None
        headers = reader.last.headers
        position = {name: headers[f"electric-{name}"] for name in ("handle", "offset")}
        return get(shop.url, reader.path, position, live="true", cursor="")

    with ThreadPoolExecutor(LIMIT + 1) as pool:
        waiting = [pool.submit(poll, reader) for reader in readers]
        refused = next(as_completed(waiting)).result()
        assert refused.status_code == 429
        assert refused.json() == {"error": "Too many concurrent requests"}
        assert refused.headers["access-control-allow-origin"] == "*"
        # What is not live, and other environments, have room.
        assert readers[0].step()
        assert get(shop.url, "/realtime/v1/runs", key=OTHER_KEY).status_code == 200
        statuses = sorted(future.result().status_code for future in waiting)
    assert statuses == [200] * LIMIT + [429]
    jobs.run(f"update {JOBS} set details = '{{}}'")
    assert readers[0].live()


def test_a_column_that_is_gone_is_named_in_the_log(shop: Serving, jobs: Tables) -> None:
    job = make_job(jobs)
    jobs.run(f"alter table {JOBS} rename problem to trouble")
    deadline = time.monotonic() + 20
    while "error" not in (answer := get(shop.url, f"/realtime/v1/runs/{job}")).text:
        assert time.monotonic() < deadline
    assert answer.status_code == 503
    assert "log" in answer.json()["error"]
    assert "problem" not in answer.text
    shop.until(lambda: 'no column "problem" for `error`' in shop.log, "does not say what is wrong")
    jobs.run(f"alter table {JOBS} rename trouble to problem")
    while get(shop.url, f"/realtime/v1/runs/{job}").status_code != 200:
        assert time.monotonic() < deadline


def test_the_doctor_looks_at_the_table(
    database: str, jobs: Tables, settings_file: Path, tmp_path: Path
) -> None:
    async def findings(path: Path) -> list[str]:
        settings = Settings(config_file=path)
        async with await psycopg.AsyncConnection.connect(database) as connection:
            return [str(found) async for found in check_runs(connection, settings)]

    assert jobs.url == database
    assert asyncio.run(findings(settings_file)) == ["✓ table work.Jobs can have the runs"]
    wrong = tmp_path / "wrong.toml"
    for section, words in (
        (SECTION.replace('"made"', '"state"'), ("✗", "created_at", "its type is state")),
        (SECTION.replace("work.Jobs", "work.jobs"), ("✗", "work.jobs of runs does not exist")),
        (SECTION.replace('"labels"', '"label"'), ("✗", 'no column "label"')),
        (SECTION.replace('"COMPLETED"', '"OVER"'), ("✗", '"OVER" is no status')),
    ):
        wrong.write_text(section)
        (finding,) = asyncio.run(findings(wrong))
        assert all(word in finding for word in words), finding
