"""Durations as the package `jose` reads them."""

from __future__ import annotations

import pytest

from shapes.access.durations import parse_duration

UNITS = {
    1: "s sec secs second seconds",
    60: "m min mins minute minutes",
    3600: "h hr hrs hour hours",
    86400: "d day days",
    604800: "w week weeks",
    31557600: "y yr yrs year years",
}


@pytest.mark.parametrize(
    ("unit", "seconds"), [(unit, size) for size, units in UNITS.items() for unit in units.split()]
)
def test_every_unit(unit: str, seconds: int) -> None:
    assert parse_duration(f"2{unit}") == 2 * seconds
    assert parse_duration(f"2 {unit.upper()} from now") == 2 * seconds
    assert parse_duration(f"-2 {unit}") == parse_duration(f"2{unit} ago") == -2 * seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("+15m", 900), ("- 1 h", -3600), ("1.5h", 5400), ("0s", 0), ("0.5s", 1), ("1.4 sec", 1)],
)
def test_signs_and_fractions(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "15", "m", "15 minuten", "1h30m", "1 h 30 m", "  1h", "1h ", "1  h", "--1h", "1,5h"),
        *(".5h", "1.h", "1e3s", "+1h ago", "-1h from now", "1h fromnow", "٣h", "1" * 200 + "s"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="15m"):
        parse_duration(text)
