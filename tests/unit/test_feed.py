"""A shape's tail: who gets which batch."""

from __future__ import annotations

import orjson
import pytest
from log_builder import shape

from engine.lsn import Offset
from shapes.following import feed as feed_module
from shapes.following.encoder import INSERT, REKEY, Entry
from shapes.following.feed import Batch, Feed, RotatedError, json_body
from shapes.shape import Shape

START = Offset(100, 0)
FOREVER = 1e12


def entry(lsn: int, index: int = 2, kind: int = INSERT) -> Entry:
    return Entry(lsn, index, kind, 1, 7, ["1"], ["0"])


def encode(_: Shape, entries: list[Entry]) -> list[bytes]:
    """Messages that show which entries they are of."""
    return [b'"%d_%d"' % (one.lsn, one.index) for one in entries]


class Listener:
    """A reader that stays for as many batches as it wants."""

    def __init__(self, wanted: int = 1) -> None:
        self.batches: list[Batch | None] = []
        self.ends: list[RotatedError] = []
        self._wanted = wanted

    def deliver(self, batch: Batch | None) -> bool:
        self.batches.append(batch)
        return len(self.batches) < self._wanted

    def end(self, error: RotatedError) -> None:
        self.ends.append(error)

    @property
    def taken(self) -> list[Batch]:
        return [batch for batch in self.batches if batch is not None]

    @property
    def messages(self) -> list[list[bytes] | None]:
        return [None if batch is None else batch.messages for batch in self.batches]


@pytest.fixture
def feed() -> Feed:
    return Feed(shape(), START)


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch(feed: Feed) -> None:
    reader = Listener()
    feed.attach(reader, START)
    feed.record(entry(200, 2))
    feed.record(entry(200, 4, REKEY))
    assert reader.batches == []
    feed.publish(208, encode)
    (batch,) = reader.taken
    assert batch.messages == [b'"200_2"', b'"200_4"']
    assert (batch.start, batch.end) == (START, Offset(200, 5))
    assert batch.lsn == 208


def test_the_forms_of_a_batch() -> None:
    batch = Batch(shape(), START, [entry(200), entry(201)], 208, encode)
    headers = {"control": "up-to-date", "global_last_seen_lsn": "207"}
    messages = ["200_2", "201_2", {"headers": headers}]
    assert orjson.loads(batch.body) == messages
    events = batch.events.decode().split("\n\n")
    assert events.pop() == ""
    assert [orjson.loads(one.removeprefix("data: ")) for one in events] == messages


def test_bodies() -> None:
    assert json_body([], None) == b"[]"
    assert orjson.loads(json_body([b"1", b"2"], None)) == [1, 2]
    assert len(orjson.loads(json_body([], 5))) == 1


def test_one_batch_serves_all_readers_and_is_encoded_once(feed: Feed) -> None:
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
    assert readers[0].taken[0] is readers[1].taken[0] is readers[2].taken[0]
    for reader in readers:
        for batch in reader.taken:
            assert batch.body
            assert batch.events
    # Nobody has asked for the fourth.
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
    assert reader.taken[0].start == Offset(208, 0)


def test_a_reader_who_comes_in_the_middle_of_a_transaction(feed: Feed) -> None:
    """The first half is recorded already: the batch would lack it, so the log has to be read."""
    feed.record(entry(300, 2))
    reader = Listener(2)
    feed.attach(reader, Offset(208, 0))
    feed.record(entry(300, 4))
    feed.publish(308, encode)
    assert reader.batches == [None]
    feed.record(entry(400))
    feed.publish(408, encode)
    assert reader.messages == [None, [b'"400_2"']]
    assert reader.taken[0].start == Offset(300, 4)


def test_the_same_when_the_second_half_is_of_others(feed: Feed) -> None:
    feed.record(entry(300, 2))
    reader = Listener()
    feed.attach(reader, Offset(208, 0))
    feed.publish(308, encode)
    assert reader.batches == [None]


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


@pytest.mark.parametrize("cold", [False, True])
def test_a_reader_in_place_of_one_that_left_in_the_middle_of_a_transaction(
    feed: Feed, cold: bool
) -> None:
    """All of it if the feed has stayed warm, else nothing of it; never the second half alone."""
    first, second = Listener(), Listener()
    feed.attach(first, Offset(208, 0))
    feed.record(entry(300, 2))
    feed.detach(first)
    if cold:
        feed.cool(FOREVER)
    feed.attach(second, Offset(208, 0))
    feed.record(entry(300, 4))
    feed.publish(308, encode)
    assert first.batches == []
    assert second.messages == [None if cold else [b'"300_2"', b'"300_4"']]


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
    assert (reader.batches == [None]) == (count > 5)
    feed.record(entry(300))
    feed.publish(308, encode)
    assert reader.messages[1] == [b'"300_2"']
    assert reader.taken[-1].start == Offset(200, 2 * count)


# -- recent batches --------------------------------------------------------------------------------


def test_recent_batches_from_every_offset(feed: Feed) -> None:
    """All batches that follow, or nothing if one of them would have to be cut."""
    reader = Listener(9)
    feed.attach(reader, Offset(150, 0))
    batches = [[(200, 2), (200, 6)], [(300, 2), (308, 4)], [(400, 8)]]
    for places in batches:
        for lsn, index in places:
            feed.record(entry(lsn, index, REKEY))
        feed.publish(places[-1][0] + 8, encode)
    everything = sorted(Offset(*place) for places in batches for place in places)
    for lsn in (100, 149, 150, 199, 200, 208, 299, 300, 308, 316, 399, 400, 408, 500):
        for index in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2**63):
            after = Offset(lsn, index)
            found = feed.recent_after(after)
            left = [place for place in everything if place > after]
            if found is not None:
                told = [Offset(one.lsn, one.index) for batch in found for one in batch.entries]
                assert told == left, after
            else:
                # Before what is kept, or within a batch.
                within = any(
                    Offset(*places[0]) <= after < Offset(places[-1][0], places[-1][1] + 1)
                    for places in batches
                )
                assert within or after < Offset(150, 0), after
    assert feed.recent_after(Offset(400, 9)) == []


def test_a_feed_that_nobody_has_read_keeps_nothing(feed: Feed) -> None:
    feed.record(entry(200))
    feed.publish(208, encode)
    assert feed.recent_after(START) is None
    assert feed.recent_after(Offset(208, 0)) is None


def test_a_feed_stays_warm_for_a_while_without_readers(feed: Feed) -> None:
    reader = Listener()
    feed.attach(reader, START)
    for lsn in (200, 300):
        feed.record(entry(lsn))
        feed.publish(lsn + 8, encode)
    found = feed.recent_after(reader.taken[0].end)
    assert found is not None
    assert [batch.messages for batch in found] == [[b'"300_2"']]


def test_a_feed_cools_without_readers(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Listener()
    feed.attach(reader, START)
    feed.record(entry(200))
    feed.publish(208, encode)
    monkeypatch.setattr(feed_module, "WARM_SECONDS", -1.0)
    feed.record(entry(300))
    feed.publish(308, encode)
    assert feed.recent_after(Offset(200, 2)) is None
    assert feed.count_after(Offset(200, 2)) == 1


def test_cooling_leaves_a_reader_attached(feed: Feed) -> None:
    reader = Listener(2)
    feed.attach(reader, START)
    feed.record(entry(200))
    feed.publish(208, encode)
    feed.record(entry(300, 2))
    feed.cool(FOREVER)
    assert feed.recent_after(START) is None
    feed.record(entry(300, 4))
    feed.publish(308, encode)
    assert reader.messages[1] == [b'"300_2"', b'"300_4"']


def test_no_recent_batches_after_a_hole(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch was too large: what was before it does not connect with what is after it."""
    monkeypatch.setattr(feed_module, "MAX_PENDING", 1)
    reader = Listener(9)
    feed.attach(reader, START)
    for lsn, count in ((200, 1), (300, 2), (400, 1)):
        for place in range(count):
            feed.record(entry(lsn, 2 + 2 * place))
        feed.publish(lsn + 8, encode)
    for after in (START, Offset(200, 2), Offset(300, 0), Offset(300, 2)):
        assert feed.recent_after(after) is None
    found = feed.recent_after(Offset(300, 4))
    assert found is not None
    assert [batch.messages for batch in found] == [[b'"400_2"']]


def test_half_a_transaction_is_not_recent(feed: Feed) -> None:
    """Neither when the feed was warm before it began nor when it became so within."""
    reader = Listener(9)
    feed.attach(reader, START)
    feed.record(entry(200, 2))
    assert feed.recent_after(START) == []
    late = Feed(shape(), START)
    late.record(entry(200, 2))
    late.attach(reader, START)
    late.record(entry(200, 4))
    assert late.recent_after(START) in (None, [])
    late.publish(208, encode)
    assert late.recent_after(START) is None
    assert late.recent_after(Offset(200, 4)) == []


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
    assert feed.recent_after(START) is None
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
