"""[runs] in the settings file: a table of the user's as the table of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.configuration.run_settings import parse_run_table, read_run_table
from engine.errors import SettingsError

COLUMNS = {"id": "job_id", "status": "state", "created_at": "made", "task": "kind"}

FILE = """
[runs]
table = "work.jobs"
columns = { id = "job_id", status = "state", created_at = "made", tags = "labels" }

[runs.values]
task = "job"
environment_id = "prod"

[runs.statuses]
done = "COMPLETED"
"""


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pgtide.toml"
    path.write_text(FILE)
    runs = read_run_table(path)
    assert (runs.schema, runs.name) == ("work", "jobs")
    assert runs.column("tags") == "labels"
    assert runs.column("batch_id") is None
    assert runs.constants == {"task": "job", "environment_id": "prod"}
    assert (runs.status("done"), runs.status("running")) == ("COMPLETED", "EXECUTING")
    assert runs.word("COMPLETED") == "done"


def test_without_a_section_it_is_pgtides_own(tmp_path: Path) -> None:
    path = tmp_path / "pgtide.toml"
    path.write_text("")
    for runs in (read_run_table(None), read_run_table(path)):
        assert runs.sql == '"pgtide"."runs"'
        assert runs.column("task") == "task"


def test_a_table_without_a_schema_is_in_public() -> None:
    assert parse_run_table({"table": "jobs", "columns": COLUMNS}).sql == '"public"."jobs"'


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "names no table"),
        ({"table": ""}, "names no table"),
        ({"table": "jobs"}, "lacks `id`"),
        ({"table": "jobs", "columns": {**COLUMNS, "created_at": ""}}, "must be a text"),
        (
            {"table": "jobs", "columns": {k: v for k, v in COLUMNS.items() if k != "task"}},
            "which task",
        ),
        ({"table": "jobs", "columns": {**COLUMNS, "colour": "c"}}, "colour.*environment_id"),
        ({"table": "jobs", "columns": COLUMNS, "values": {"status": "x"}}, "does not know status"),
        ({"table": "jobs", "columns": COLUMNS, "values": {"task": "x"}}, "one is enough"),
        (
            {"table": "jobs", "columns": COLUMNS, "statuses": {"done": "FINISHED"}},
            "no status.*COMPLETED",
        ),
        ({"table": "jobs", "columns": COLUMNS, "state": {}}, "does not know state"),
        ({"table": "jobs", "columns": "id"}, "table of names"),
    ],
)
def test_what_is_wrong_is_said(section: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_run_table(section)
