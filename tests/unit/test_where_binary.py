"""bytea and hardware addresses."""

from __future__ import annotations

import pytest
from where_table import error, parse, truth

from shapes.where.values.binary import read_bytea, read_macaddr


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\\x", "\\x"),
        ("\\x 00 fF\n", "\\x00ff"),
        ("", "\\x"),
        ("aé", "\\x61c3a9"),
        ("a\\\\b\\001", "\\x615c6201"),
    ],
)
def test_read_bytea(text: str, value: str) -> None:
    assert read_bytea(text) == value


@pytest.mark.parametrize(
    "text", ["\\x0", "\\x0 0", "\\xgg", "\\X00", "a\\", "\\08", "\\400", "\\1"]
)
def test_refused_bytea(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_bytea(text)


@pytest.mark.parametrize(
    "text",
    [
        *("08:00:2b:01:02:03", "08-00-2B-01-02-03", "08002b:010203", "08002b-010203"),
        *("0800.2b01.0203", "0800-2b01-0203", "08002b010203", " 08:00:2b:01:02:03 "),
    ],
)
def test_read_macaddr(text: str) -> None:
    assert read_macaddr(text) == "08:00:2b:01:02:03"


@pytest.mark.parametrize(
    ("clause", "outcome"),
    [
        ("by = '\\x00FF'", True),
        ("by < '\\x01'", True),
        ("by < '\\x00'", False),
        ("by > '\\x00fe00'", True),
        ("by IN ('\\x00', '\\x00ff')", True),
        ("length(by) = 2", True),
        ("by || '\\x61' = '\\x00ff61'", True),
        ("by::text = '\\x00ff'", True),
        ("mac = '08-00-2B-01-02-03'", True),
        ("mac < '08:00:2b:01:02:04'", True),
        ("'08:00:2b:01:02:03' = ANY (ARRAY[mac])", True),
    ],
)
def test_meaning(clause: str, outcome: bool) -> None:
    assert truth(clause, by="\\x00ff", mac="08:00:2b:01:02:03") is outcome


def test_sql() -> None:
    assert parse("by = 'a'").sql == "(\"by\" = E'\\\\x61'::bytea)"
    assert error("mac = '8:0:2b:1:2:3'").startswith(
        "At location 6: invalid syntax for type macaddr"
    )
