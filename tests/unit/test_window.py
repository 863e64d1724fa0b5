"""What is in a window, and where its cut-off belongs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from window_log import TABLE, windowed

from engine.postgres.table import Column, Table
from engine.replication.tick import is_inside
from shapes.shape import Projection, make_shape
from shapes.windows.window import Window, WindowError, check_window, cutoff_at, step_of

CUTOFF = "2026-11-21 10:00:00"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-21 10:00:00", True),
        ("2026-11-21 10:00:00+00", True),
        ("2026-11-21 09:59:59.999999", False),
        ("2026-11-21 09:59:59.999999+00", False),
        ("2026-11-21 10:00:00.000001+00", True),
        ("2027-01-01 00:00:00", True),
        ("2026-11-22", True),
        ("2026-11-20", False),
        ("10000-01-01 00:00:00+00", True),
        ("294276-12-31 23:59:59.999999", True),
        ("4713-01-01 00:00:00+00 BC", False),
        ("10000-01-01 BC", False),
        ("infinity", True),
        ("-infinity", False),
        (None, False),
        (0, False),
        ("", True),
    ],
)
def test_what_is_inside(value: str | int | None, expected: bool) -> None:
    assert is_inside(value, CUTOFF) is expected


def test_a_window_has_an_identity() -> None:
    hashes = {
        windowed(window=None).hash,
        windowed().hash,
        windowed(window=Window("at", 3601)).hash,
        windowed("tag = 'a'").hash,
    }
    assert len(hashes) == 4
    assert windowed().hash == windowed().hash
    plain = make_shape(Projection(TABLE, TABLE.columns, False), None)
    assert windowed(window=None).hash == plain.hash
    assert windowed("tag = 'a'").filtered_by == {"tag", "at"}


@pytest.mark.parametrize(
    ("seconds", "longest", "expected"),
    [(3, 900, 5), (3, 1, 1), (3600, 900, 150), (86400, 900, 900), (86400, 3600, 3600), (9, 0.2, 1)],
)
def test_how_far_a_cutoff_moves(seconds: int, longest: float, expected: int) -> None:
    assert step_of(Window("at", seconds), longest) == expected


def test_all_nodes_mean_the_same_cutoff() -> None:
    window = Window("at", 3600)
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
    places = {cutoff_at(window, 150, noon + second, date=False) for second in range(150)}
    assert places == {"2026-11-21 11:00:00"}
    assert cutoff_at(window, 150, noon + 150, date=False) == "2026-11-21 11:02:30"
    assert cutoff_at(window, 150, noon - 1, date=False) == "2026-11-21 10:57:30"
    assert cutoff_at(window, 150, noon, date=True) == "2026-11-21"
    assert cutoff_at(Window("at", 86400 * 36500), 900, noon, date=False).startswith("1926-")


@pytest.mark.parametrize("window", [Window("nowhere", 60), Window("tag", 60), Window("at", 0)])
def test_windows_that_a_table_cannot_have(window: Window) -> None:
    with pytest.raises(WindowError):
        check_window(window, TABLE)


def test_windows_that_a_table_can_have() -> None:
    columns = (
        Column("day", "date", 1082, base="date"),
        Column("stamp", "moment", 99999, kind="d", base="timestamptz"),
        Column("many", "date", 1182, dims=1),
    )
    table = Table(1, "public", "t", columns)
    for column in columns[:2]:
        assert check_window(Window(column.name, 60), table) is column
    with pytest.raises(WindowError):
        check_window(Window("many", 60), table)
