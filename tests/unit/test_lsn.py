"""LSNs and offsets."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.lsn import MAX_LSN, Offset, format_lsn, parse_lsn


@pytest.mark.parametrize(
    ("text", "lsn"),
    [
        ("0/0", 0),
        ("16/B374D848", 0x16B374D848),
        ("16/b374d848", 0x16B374D848),
        ("1/1", 2**32 + 1),
        ("FFFFFFFF/FFFFFFFF", MAX_LSN),
    ],
)
def test_lsns_are_read(text: str, lsn: int) -> None:
    assert parse_lsn(text) == lsn
    assert format_lsn(lsn) == text.upper()


@pytest.mark.parametrize(
    "text",
    """|/|1/|/1|11|1/2/3|G/0|0/123456789|123456789/0|-1/0|0/-1|+1/0| 1/0|0/1 |0x1/0|1_0/0|١/0
    """.rstrip("\n ").split("|"),
)
def test_what_postgres_never_prints_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"LSN|invalid literal"):
        parse_lsn(text)


def test_offsets_sort_by_commit_and_then_by_index() -> None:
    ascending = [Offset(0, 0), Offset(0, 9), Offset(9, 2), Offset(9, 10), Offset(10, 0)]
    assert all(left < right for left, right in pairwise(ascending))


def test_an_offset_prints_as_decimal_numbers() -> None:
    assert str(Offset(MAX_LSN, 4)) == "18446744073709551615_4"
