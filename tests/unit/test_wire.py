"""Offsets, cursors and control messages as they go over the wire."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest

from engine.lsn import MAX_LSN, Offset
from shapes.wire import (
    CURSOR_EPOCH,
    INFINITE,
    SNAPSHOT_END,
    LogOffset,
    RequestOffset,
    Special,
    next_cursor,
    parse_offset,
    snapshot_end,
    sse_events,
    up_to_date,
)

PERIOD = 20


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("-1", Special.START),
        ("-1_0", Special.START),
        ("now", Special.NOW),
        ("0_0", LogOffset(0, 0)),
        ("0_17", LogOffset(0, 17)),
        ("0_inf", SNAPSHOT_END),
        ("31400120_2", LogOffset(31400120, 2)),
        ("00031400120_002", LogOffset(31400120, 2)),
        (f"{MAX_LSN}_4", LogOffset(MAX_LSN, 4)),
        ("9007199254740993_0", LogOffset(9007199254740993, 0)),
        ("5_inf", LogOffset(5, INFINITE)),
    ],
)
def test_offsets(text: str, offset: RequestOffset) -> None:
    assert parse_offset(text) == offset


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "_",
            "0",
            "0_",
            "_0",
            "-2",
            "-1_1",
            "-0_0",
            "1_-1",
            "-5_0",
            "0_0_0",
            "0x1_0",
            "1.0_0",
        ),
        *("+1_0", "1_+0", "1 _0", " 1_0", "1_0\n", "1_Inf", "inf_0", "NOW", "Now", "1_٣", "١_0"),
        *(f"{MAX_LSN + 1}_0", "1" * 21 + "_0", "1_" + "1" * 5000),
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_what_is_no_offset(text: str) -> None:
    assert parse_offset(text) is None


@pytest.mark.parametrize("text", ["-1", "now", "0_0", "0_inf", "12_34", f"{MAX_LSN}_2"])
def test_offsets_print_as_they_are_read(text: str) -> None:
    assert str(parse_offset(text)) == text


def test_offsets_sort() -> None:
    texts = ["0_0", "0_1", "0_10", "0_inf", "1_0", "1_2", "1_inf", "2_0", "10_0"]
    offsets = [parse_offset(text) for text in texts]
    numbers = [offset for offset in offsets if isinstance(offset, LogOffset)]
    assert len(numbers) == len(texts)
    assert all(left < right for left, right in pairwise(numbers))
    assert LogOffset(1, 2) == Offset(1, 2)


def test_offsets_with_lsn_0_are_in_the_snapshot() -> None:
    assert LogOffset(0, 3).in_snapshot
    assert SNAPSHOT_END.in_snapshot
    assert not LogOffset(1, 0).in_snapshot


# -- cursors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "cursor"), [(0, 0), (1, 20), (19, 20), (20, 20), (20.9, 20), (21, 40)]
)
def test_a_cursor_is_the_end_of_the_period(seconds: float, cursor: int) -> None:
    if cursor == 0:
        assert next_cursor(CURSOR_EPOCH, PERIOD, "") == 1
    else:
        assert next_cursor(CURSOR_EPOCH + seconds, PERIOD, "") == cursor


@pytest.mark.parametrize("previous", ["", "0", "-5", "x", "1.5", "12 ", "0x1", "99", "²", "١"])
def test_previous_cursors_that_do_not_matter(previous: str) -> None:
    assert next_cursor(CURSOR_EPOCH + 90, PERIOD, previous) == 100


@pytest.mark.parametrize("previous", [100, 101, 5000, 2**70])
@pytest.mark.parametrize("lsn", [0, 1, 4000, 31400120, MAX_LSN])
def test_a_cursor_is_greater_than_the_previous_one(previous: int, lsn: int) -> None:
    assert next_cursor(CURSOR_EPOCH + 90, PERIOD, str(previous), lsn) > previous


def test_clients_with_one_answer_get_one_cursor() -> None:
    """However often they were answered in the period: else a cache would never join them again."""
    at, lsn = CURSOR_EPOCH + 90, 31400120
    long_there = newcomer = ""
    for change in range(20):
        long_there = str(next_cursor(at, PERIOD, long_there, lsn + 100 * change))
    for change in range(20, 22):
        long_there = str(next_cursor(at, PERIOD, long_there, lsn + 100 * change))
        newcomer = str(next_cursor(at, PERIOD, newcomer, lsn + 100 * change))
    assert newcomer == long_there


def test_cursors_grow_with_time_and_with_the_log() -> None:
    """Changes and timeouts in any order, over many periods."""
    cursor, lsn, now = 0, 1000, CURSOR_EPOCH + 5
    for step in range(500):
        if step % 7 == 3:
            now += PERIOD
        else:
            lsn += 34
            now += step % 2
        following = next_cursor(now, PERIOD, str(cursor), lsn)
        assert following > cursor
        cursor = following


def test_a_cursor_from_elsewhere_is_followed_by_the_same_one_for_all() -> None:
    assert next_cursor(CURSOR_EPOCH + 90, PERIOD, str(10**15), 34) == 10**15 + 35


def test_a_number_without_end_is_no_cursor() -> None:
    assert next_cursor(CURSOR_EPOCH + 90, PERIOD, "9" * 10_000) == 100


@pytest.mark.parametrize("period", [0, 0.5, -1])
def test_without_a_period_there_is_no_cursor(period: float) -> None:
    assert next_cursor(CURSOR_EPOCH + 90, period, "7") == 0


# -- messages --------------------------------------------------------------------------------------


def test_up_to_date() -> None:
    headers = {"control": "up-to-date", "global_last_seen_lsn": str(MAX_LSN - 1)}
    assert orjson.loads(up_to_date(MAX_LSN)) == {"headers": headers}


def test_snapshot_end() -> None:
    headers = {"control": "snapshot-end", "xmin": "5", "xmax": "4294967299", "xip_list": ["5", "7"]}
    assert orjson.loads(snapshot_end(5, 2**32 + 3, (5, 7))) == {"headers": headers}
    assert b'"xip_list":[]' in snapshot_end(5, 5, ())


def test_events() -> None:
    assert sse_events([]) == b""
    assert sse_events([b'{"a":1}', b"{}"]) == b'data: {"a":1}\n\ndata: {}\n\n'
