"""The section [runs] of the settings file: which table has the runs, and what it calls things."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from engine.configuration.file import read_config_file
from engine.errors import SettingsError
from engine.runs.statuses import STATUSES
from engine.runs.table import CONSTANTS, FIELDS, REQUIRED, RunTable

_KEYS = ("table", "columns", "values", "statuses")


def read_run_table(path: Path | None) -> RunTable:
    """The table of runs by the settings file; `pgtide.runs` without one. Raises SettingsError."""
    section: object = read_config_file(path).get("runs")
    return RunTable() if section is None else parse_run_table(section)


def parse_run_table(section: object) -> RunTable:
    """The table that [runs] describes. Raises SettingsError."""
    content = _table(section, "runs")
    _known(content, _KEYS, "runs")
    name = content.get("table")
    if not isinstance(name, str) or not name:
        raise SettingsError('[runs] names no table: write, e.g., table = "public.jobs"')
    schema, dot, table = name.partition(".")
    columns = _texts(content, "columns")
    constants = _texts(content, "values")
    statuses = _texts(content, "statuses")
    _known(columns, FIELDS, "runs.columns")
    _known(constants, CONSTANTS, "runs.values")
    for field in sorted(columns.keys() & constants.keys()):
        raise SettingsError(f"`{field}` is in [runs.columns] and in [runs.values]: one is enough")
    _check_complete(columns, constants)
    for word, status in statuses.items():
        if status not in STATUSES:
            raise SettingsError(
                f'[runs.statuses] {word} = "{status}" is no status. There are: '
                f"{', '.join(sorted(STATUSES))}"
            )
    if not dot:
        schema, table = "public", schema
    return RunTable(schema, table, columns, statuses, constants)


def _check_complete(columns: Mapping[str, str], constants: Mapping[str, str]) -> None:
    for field in REQUIRED:
        if field not in columns:
            raise SettingsError(
                f'[runs.columns] lacks `{field}`: write {field} = "the name of your column"'
            )
    if "task" not in columns and "task" not in constants:
        raise SettingsError(
            '[runs] does not say which task a run is of: write task = "the name of your column" '
            'under [runs.columns], or task = "my-task" under [runs.values]'
        )


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"[{where}] in the settings file must be a table of names and values")
    return cast("dict[str, Any]", value)


def _texts(content: Mapping[str, Any], name: str) -> Mapping[str, str]:
    where = f"runs.{name}"
    found = _table(content.get(name, {}), where)
    for key, value in found.items():
        if not isinstance(value, str) or not value:
            raise SettingsError(f"[{where}] {key} must be a text that is not empty")
    return found


def _known(content: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(content) - set(names))
    if unknown:
        raise SettingsError(
            f"[{where}] does not know {', '.join(unknown)}. It knows: {', '.join(names)}"
        )
