"""A shape's positions in the log."""

from __future__ import annotations

import pytest
from log_builder import shape

from engine.lsn import MAX_LSN, Offset
from shapes.following import feed as feed_module
from shapes.following.encoder import INSERT, REKEY, UPDATE, Entry
from shapes.following.feed import Feed, end_of

START = Offset(100, 0)
END = Offset(MAX_LSN, 0)


def entry(lsn: int, index: int = 2, kind: int = INSERT) -> Entry:
    return Entry(lsn, index, kind, 1, 7, ["1"], ["0"])


@pytest.fixture
def feed() -> Feed:
    return Feed(shape(), START)


def test_an_empty_feed(feed: Feed) -> None:
    assert feed.last is None
    assert feed.positions_after(START, END) == []
    assert feed.count_after(START) == 0


POSITIONS = [(200, 2, INSERT), (200, 6, REKEY), (200, 8, UPDATE), (300, 4, INSERT), (400, 2, REKEY)]


@pytest.fixture
def full(feed: Feed) -> Feed:
    for position in POSITIONS:
        feed.record(entry(*position))
    return feed


@pytest.mark.parametrize(
    ("after", "left"),
    [
        (Offset(100, 0), 5),
        (Offset(199, 2**32 - 1), 5),
        (Offset(200, 0), 5),
        (Offset(200, 1), 5),
        (Offset(200, 2), 4),
        (Offset(200, 3), 4),
        (Offset(200, 5), 4),
        # The second half of a key change has an index of its own, but they are one change.
        (Offset(200, 7), 3),
        (Offset(200, 8), 2),
        (Offset(200, 2**32 - 1), 2),
        (Offset(200, 2**63), 2),
        (Offset(300, 0), 2),
        (Offset(300, 4), 1),
        (Offset(400, 1), 1),
        (Offset(400, 3), 0),
        (Offset(MAX_LSN, 0), 0),
    ],
)
def test_what_comes_after_an_offset(full: Feed, after: Offset, left: int) -> None:
    assert full.count_after(after) == left
    assert full.positions_after(after, END) == POSITIONS[len(POSITIONS) - left :]


@pytest.mark.parametrize(("before", "count"), [(200, 0), (201, 3), (300, 3), (301, 4), (400, 4)])
def test_what_comes_before_a_boundary(full: Feed, before: int, count: int) -> None:
    assert full.positions_after(START, Offset(before, 0)) == POSITIONS[:count]


def test_the_last_offset(feed: Feed) -> None:
    feed.record(entry(200, 2))
    assert feed.last == Offset(200, 2)
    feed.record(entry(200, 4, REKEY))
    assert feed.last == Offset(200, 5)
    assert end_of(entry(200, 4, REKEY)) == Offset(200, 5)


@pytest.mark.parametrize("kind", [INSERT, REKEY])
def test_a_feed_forgets_its_oldest_positions(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    monkeypatch.setattr(feed_module, "MAX_ENTRIES", 8)
    offsets = [Offset(200 + 8 * place, 2) for place in range(30)]
    for count, (lsn, index) in enumerate(offsets, 1):
        feed.record(entry(lsn, index, kind))
        kept = feed.positions_after(feed.start, END)
        # What it has left is all that comes after its start.
        assert [Offset(*one[:2]) for one in kept] == [
            one for one in offsets[:count] if one > feed.start
        ]
        assert min(count, 4) <= len(kept) <= 8
    assert feed.start > offsets[20]
    assert feed.start.index == (3 if kind == REKEY else 2)


def test_the_version_changes_with_every_record(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_ENTRIES", 8)
    versions = {feed.version}
    for place in range(30):
        feed.record(entry(200 + place))
        versions.add(feed.version)
    assert len(versions) == 31
