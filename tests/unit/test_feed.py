"""A shape's tail: positions, and who gets which batch."""

from __future__ import annotations

import orjson
import pytest
from log_builder import shape

from engine.lsn import MAX_LSN, Offset
from shapes import feed as feed_module
from shapes.encoder import INSERT, REKEY, UPDATE, Entry
from shapes.feed import Batch, Feed, RotatedError, end_of, json_body
from shapes.shape import Shape

START = Offset(100, 0)
END = Offset(MAX_LSN, 0)


def entry(lsn: int, index: int = 2, kind: int = INSERT) -> Entry:
    return Entry(lsn, index, kind, 1, 7, ["1"], ["0"])


def encode(_: Shape, entries: list[Entry]) -> list[bytes]:
    """Messages that show which entries they are of."""
    return [b'"%d_%d"' % (one.lsn, one.index) for one in entries]


class Listener:
    """A reader that stays for as many batches as it wants."""

    def __init__(self, wanted: int = 1) -> None:
        self.batches: list[Batch] = []
        self.ends: list[RotatedError] = []
        self._wanted = wanted

    def deliver(self, batch: Batch) -> bool:
        self.batches.append(batch)
        return len(self.batches) < self._wanted

    def end(self, error: RotatedError) -> None:
        self.ends.append(error)

    @property
    def messages(self) -> list[list[bytes] | None]:
        return [batch.messages for batch in self.batches]


@pytest.fixture
def feed() -> Feed:
    return Feed(shape(), START)


# -- positions -------------------------------------------------------------------------------------


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


def test_the_version_changes_with_every_record(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MAX_ENTRIES", 8)
    versions = {feed.version}
    for place in range(30):
        feed.record(entry(200 + place))
        versions.add(feed.version)
    assert len(versions) == 31


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch(feed: Feed) -> None:
    reader = Listener()
    feed.attach(reader, START)
    feed.record(entry(200, 2))
    feed.record(entry(200, 4, REKEY))
    assert reader.batches == []
    feed.publish(208, encode)
    (batch,) = reader.batches
    assert batch.messages == [b'"200_2"', b'"200_4"']
    assert batch.end == Offset(200, 5)
    assert batch.lsn == 208


def test_the_forms_of_a_batch() -> None:
    batch = Batch(Offset(200, 2), 208, [b'{"a":1}', b'{"b":2}'])
    headers = {"control": "up-to-date", "global_last_seen_lsn": "208"}
    messages = [{"a": 1}, {"b": 2}, {"headers": headers}]
    assert orjson.loads(batch.body) == messages
    events = batch.events.decode().split("\n\n")
    assert events.pop() == ""
    assert [orjson.loads(one.removeprefix("data: ")) for one in events] == messages
    assert batch.body is batch.body
    assert batch.events is batch.events


def test_bodies() -> None:
    assert json_body([], None) == b"[]"
    assert orjson.loads(json_body([b"1", b"2"], None)) == [1, 2]
    assert len(orjson.loads(json_body([], 5))) == 1


def test_one_batch_serves_all_readers(feed: Feed) -> None:
    encoded: list[int] = []

    def counting(of: Shape, entries: list[Entry]) -> list[bytes]:
        encoded.append(len(entries))
        return encode(of, entries)

    readers = [Listener(), Listener(2), Listener(3)]
    for reader in readers:
        feed.attach(reader, START)
    for lsn in (200, 300, 400, 500):
        feed.record(entry(lsn))
        feed.publish(lsn + 8, counting)
    assert [len(reader.batches) for reader in readers] == [1, 2, 3]
    assert readers[0].batches[0] is readers[1].batches[0] is readers[2].batches[0]
    # Nobody is there any more for the fourth.
    assert encoded == [1, 1, 1]


def test_a_batch_may_hold_several_transactions(feed: Feed) -> None:
    reader = Listener()
    feed.attach(reader, START)
    for lsn in (200, 208, 300):
        feed.record(entry(lsn))
    feed.publish(308, encode)
    assert reader.messages == [[b'"200_2"', b'"208_2"', b'"300_2"']]


def test_what_came_before_a_reader_is_not_in_its_batch(feed: Feed) -> None:
    feed.record(entry(200))
    feed.publish(208, encode)
    reader = Listener()
    feed.attach(reader, Offset(208, 0))
    feed.record(entry(300))
    feed.publish(308, encode)
    assert reader.messages == [[b'"300_2"']]


def test_a_reader_who_comes_in_the_middle_of_a_transaction(feed: Feed) -> None:
    """The first half is recorded already: the batch would lack it, so the log has to be read."""
    feed.record(entry(300, 2))
    reader = Listener(2)
    feed.attach(reader, Offset(208, 0))
    feed.record(entry(300, 4))
    feed.publish(308, encode)
    assert reader.messages == [None]
    assert reader.batches[0].lsn == 308
    feed.record(entry(400))
    feed.publish(408, encode)
    assert reader.messages == [None, [b'"400_2"']]


def test_the_same_when_the_second_half_is_of_others(feed: Feed) -> None:
    feed.record(entry(300, 2))
    reader = Listener()
    feed.attach(reader, Offset(208, 0))
    feed.publish(308, encode)
    assert reader.messages == [None]


def test_a_second_reader_in_the_middle_of_a_transaction(feed: Feed) -> None:
    """The first one was there from its beginning: both can have all of it."""
    readers = [Listener(), Listener()]
    feed.attach(readers[0], Offset(208, 0))
    feed.record(entry(300, 2))
    feed.attach(readers[1], Offset(208, 0))
    feed.record(entry(300, 4))
    feed.publish(308, encode)
    for reader in readers:
        assert reader.messages == [[b'"300_2"', b'"300_4"']]


def test_a_reader_in_place_of_one_that_left_in_the_middle_of_a_transaction(feed: Feed) -> None:
    first, second = Listener(), Listener()
    feed.attach(first, Offset(208, 0))
    feed.record(entry(300, 2))
    feed.detach(first)
    feed.attach(second, Offset(208, 0))
    feed.record(entry(300, 4))
    feed.publish(308, encode)
    assert first.batches == []
    assert second.messages == [None]


def test_a_reader_who_left_gets_nothing(feed: Feed) -> None:
    staying, leaving = Listener(), Listener()
    feed.attach(staying, START)
    feed.attach(leaving, START)
    feed.detach(leaving)
    feed.detach(leaving)
    feed.detach(Listener())
    feed.record(entry(200))
    feed.publish(208, encode)
    assert leaving.batches == []
    assert len(staying.batches) == 1


@pytest.mark.parametrize("count", [4, 5, 6, 20])
def test_too_many_changes_are_read_from_the_log(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(feed_module, "MAX_PENDING", 5)
    reader = Listener(2)
    feed.attach(reader, START)
    for place in range(count):
        feed.record(entry(200, 2 + 2 * place))
    feed.publish(208, encode)
    (messages,) = reader.messages
    assert (messages is None) == (count > 5)
    assert reader.batches[0].lsn == 208
    feed.record(entry(300))
    feed.publish(308, encode)
    assert reader.messages[1] == [b'"300_2"']


# -- the end ---------------------------------------------------------------------------------------


def test_the_end_is_told_to_readers_present_and_future(feed: Feed) -> None:
    readers = [Listener(5), Listener()]
    for reader in readers:
        feed.attach(reader, START)
    feed.record(entry(200))
    feed.rotate(300)
    assert [[error.lsn for error in reader.ends] for reader in readers] == [[300], [300]]
    feed.publish(308, encode)
    assert readers[0].batches == []
    late = Listener()
    with pytest.raises(RotatedError) as ended:
        feed.attach(late, START)
    assert ended.value.lsn == 300
    with pytest.raises(RotatedError):
        feed.check()
    assert late.ends == []


def test_an_end_without_a_place(feed: Feed) -> None:
    feed.rotate()
    with pytest.raises(RotatedError) as ended:
        feed.check()
    assert ended.value.lsn is None


def test_a_feed_that_goes_on_checks_out(feed: Feed) -> None:
    feed.check()
