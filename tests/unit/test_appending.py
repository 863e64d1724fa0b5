"""What becomes of requests to append: the rules one by one, and random requests against a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapes.streams.appending.judgement import Target, judge
from shapes.streams.notice import CLOSED
from shapes.streams.stream import Append, Appended, Outcome, Stamp

NOW = 1_700_000_000_000_000


def stream(content_type: str = "text/plain", tail: int = 0) -> Target:
    return Target(1, content_type, tail, 0, NOW)


def append(
    *parts: bytes,
    stamp: tuple[str, int, int] | None = None,
    close: bool = False,
    by_part: bool = False,
    sequence: bytes | None = None,
    content_type: str | None = None,
) -> Append:
    return Append(
        *("default", "path", parts, (1,) * len(parts), content_type, close),
        *(None if stamp is None else Stamp(*stamp), by_part, sequence),
    )


def outcomes(target: Target, *requests: Append) -> list[Outcome]:
    return [judge(target, request).outcome for request in requests]


def data(target: Target) -> list[bytes]:
    return [chunk.data or b"" for chunk in target.chunks]


def test_one_after_the_other() -> None:
    target = stream(tail=5)
    first = Append("default", "path", (b"1,2", b"3"), (2, 1))
    assert judge(target, first) == Appended(Outcome.APPENDED, 8)
    assert judge(target, append(b"4")) == Appended(Outcome.APPENDED, 9)
    assert [(chunk.position, chunk.messages, chunk.data) for chunk in target.chunks] == [
        (5, 2, b"1,2"),
        (7, 1, b"3"),
        (8, 1, b"4"),
    ]
    assert target.notices == target.chunks
    assert not target.changed


def test_no_stream_and_one_that_is_gone() -> None:
    assert judge(None, append(b"x", close=True)) == Appended(Outcome.MISSING)
    target = stream()
    target.expires_at = NOW
    assert outcomes(target, append(b"x")) == [Outcome.MISSING]
    target.forks = 1
    assert outcomes(target, append(b"x"), append(close=True)) == [Outcome.GONE] * 2
    target.expires_at, target.deleted = None, True
    assert outcomes(target, append(b"x", stamp=("p", 0, 0), close=True)) == [Outcome.GONE]
    assert not target.chunks
    assert not target.moved


@pytest.mark.parametrize(
    ("given_type", "outcome"),
    [
        (None, Outcome.APPENDED),
        ("application/json", Outcome.APPENDED),
        ("Application/JSON;charset=x", Outcome.APPENDED),
        ("application/jsonl", Outcome.OTHER_TYPE),
        ("", Outcome.OTHER_TYPE),
    ],
)
def test_types(given_type: str | None, outcome: Outcome) -> None:
    target = stream("application/json; charset=utf-8")
    assert outcomes(target, append(b"1", content_type=given_type)) == [outcome]
    # Who only closes has nothing of any type.
    assert outcomes(target, append(content_type="x/y", close=True)) == [Outcome.APPENDED]


def test_producers() -> None:
    target = stream()
    assert judge(target, append(b"no", stamp=("p", 3, 1))) == Appended(Outcome.GAP, 0, False, 3)
    assert judge(target, append(b"a", stamp=("p", 3, 0))).last == 0
    assert judge(target, append(b"b", stamp=("p", 3, 1))).last == 1
    answer = judge(target, append(b"other", stamp=("p", 3, 0)))
    assert answer == Appended(Outcome.DUPLICATE, 2, False, 3, 1)
    answer = judge(target, append(b"no", stamp=("p", 2, 2)))
    assert answer == Appended(Outcome.STALE_EPOCH, 2, False, 3, 1)
    answer = judge(target, append(b"no", stamp=("p", 4, 2)))
    assert answer == Appended(Outcome.EPOCH_WITHOUT_START, 2, False, 3, 1)
    answer = judge(target, append(b"no", stamp=("p", 3, 3)))
    assert answer == Appended(Outcome.GAP, 2, False, 3, 1)
    assert judge(target, append(b"c", stamp=("p", 4, 0))).epoch == 4
    assert judge(target, append(b"d", stamp=("q", 0, 0))).last == 0
    assert data(target) == [b"a", b"b", b"c", b"d"]
    assert target.producers == {"p": (4, 0), "q": (0, 0)}
    assert target.moved == {"p", "q"}


def test_a_refused_request_moves_no_producer() -> None:
    target = stream()
    judge(target, append(b"a", sequence=b"5"))
    refused = append(b"b", stamp=("p", 0, 0), sequence=b"4")
    wrong = append(b"b", stamp=("p", 0, 0), content_type="a/b", close=True)
    assert outcomes(target, refused, wrong) == [Outcome.OLD_SEQUENCE, Outcome.OTHER_TYPE]
    assert (target.producers, target.moved, target.closed) == ({}, set(), False)


@pytest.mark.parametrize(
    ("first", "second", "passes"),
    [(b"2", b"10", False), (b"09", b"10", True), (b"a", b"B", False), (b"a", b"a", False)],
)
def test_sequences_are_bytes(first: bytes, second: bytes, passes: bool) -> None:
    target = stream()
    judge(target, append(b"x", sequence=first))
    [outcome] = outcomes(target, append(b"y", sequence=second))
    assert (outcome is Outcome.APPENDED) is passes
    assert target.last_sequence == (second if passes else first)


def test_a_repetition_is_told_before_an_old_sequence() -> None:
    target = stream()
    request = append(b"x", stamp=("p", 0, 0), sequence=b"1")
    assert outcomes(target, request, request) == [Outcome.APPENDED, Outcome.DUPLICATE]


def test_the_end() -> None:
    target = stream()
    assert judge(target, append(b"a", b"b", close=True)) == Appended(Outcome.APPENDED, 2, True)
    assert [notice.flags for notice in target.notices] == [0, CLOSED]
    assert outcomes(target, append(close=True)) == [Outcome.DUPLICATE]
    refused = (append(b"c"), append(b"c", close=True), append(close=True, stamp=("p", 0, 0)))
    assert outcomes(target, *refused) == [Outcome.CLOSED] * 3
    assert judge(target, append(b"c", content_type="x/y")) == Appended(Outcome.CLOSED, 2, True)
    assert target.moved == set()


def test_an_end_without_data() -> None:
    target = stream(tail=3)
    judge(target, append(b"x"))
    judge(target, append(close=True))
    assert [(notice.position, notice.messages, notice.flags) for notice in target.notices] == [
        (3, 1, 0),
        (4, 0, CLOSED),
    ]


def test_the_request_that_closed_it_comes_again() -> None:
    target = stream()
    judge(target, append(b"a", stamp=("p", 1, 0)))
    closing = append(b"b", stamp=("p", 1, 1), close=True)
    assert outcomes(target, closing, closing) == [Outcome.APPENDED, Outcome.DUPLICATE]
    assert outcomes(target, append(b"else", stamp=("p", 1, 1), close=True)) == [Outcome.DUPLICATE]
    others = [("p", 1, 0), ("p", 1, 2), ("p", 0, 1), ("q", 1, 1)]
    answers = [judge(target, append(b"b", stamp=stamp, close=True)) for stamp in others]
    assert {answer.outcome for answer in answers} == {Outcome.CLOSED}
    # Where the producer is helps it to find out.
    assert answers[1].last == 1
    assert data(target) == [b"a", b"b"]


def test_parts_that_are_known_are_left_out() -> None:
    target = stream()

    def ingest(*parts: bytes, at: int, epoch: int = 0, close: bool = False) -> Appended:
        return judge(target, append(*parts, stamp=("p", epoch, at), by_part=True, close=close))

    assert ingest(b"a", b"b", at=0).last == 1
    assert ingest(b"b", b"c", b"d", at=1) == Appended(Outcome.APPENDED, 4, False, 0, 3)
    assert ingest(b"a", b"b", at=0) == Appended(Outcome.DUPLICATE, 4, False, 0, 3)
    assert ingest(b"f", at=5) == Appended(Outcome.GAP, 4, False, 0, 3)
    # Another epoch fences the one before, and goes on.
    assert ingest(at=0, epoch=2) == Appended(Outcome.APPENDED, 4, False, 2, 3)
    assert ingest(b"e", at=4) == Appended(Outcome.STALE_EPOCH, 4, False, 2, 3)
    assert ingest(b"d", b"e", at=3, epoch=3) == Appended(Outcome.APPENDED, 5, False, 3, 4)
    assert ingest(b"e", at=4, epoch=3, close=True) == Appended(Outcome.APPENDED, 5, True, 3, 4)
    assert ingest(b"e", at=4, epoch=3).outcome is Outcome.DUPLICATE
    assert ingest(b"e", b"f", at=4, epoch=3).outcome is Outcome.CLOSED
    assert b"".join(data(target)) == b"abcde"


def test_an_epoch_is_claimed_before_anything_is_appended() -> None:
    target = stream()
    claim = append(stamp=("p", 1, 0), by_part=True)
    assert judge(target, claim) == Appended(Outcome.APPENDED, 0, False, 1, -1)
    assert target.moved == {"p"}
    assert outcomes(
        target,
        append(b"old", stamp=("p", 0, 0), by_part=True),
        append(b"new", stamp=("p", 1, 0), by_part=True),
    ) == [Outcome.STALE_EPOCH, Outcome.APPENDED]


@pytest.mark.parametrize(
    ("left", "moves"), [(1_000_000, True), (95_000_000, True), (96_000_000, False)]
)
def test_use_puts_off_the_expiry_in_steps(left: int, moves: bool) -> None:
    target = stream()
    target.ttl, target.expires_at = 100, NOW + left
    judge(target, append(b"x"))
    assert target.changed is moves
    assert target.expires_at == NOW + (100_000_000 if moves else left)


def test_a_fixed_expiry_stays() -> None:
    target = stream()
    target.expires_at = NOW + 1
    assert outcomes(target, append(b"x")) == [Outcome.APPENDED]
    assert target.expires_at == NOW + 1
    assert not target.changed


# Random requests, few values each, so that they meet.

STAMPS = st.builds(Stamp, st.sampled_from("pq"), st.integers(0, 2), st.integers(0, 3))
PARTS = st.lists(st.sampled_from([b"x", b"yy", b"z"]), max_size=3)


@st.composite
def requests(draw: st.DrawFn) -> Append:
    parts = draw(PARTS)
    counts = [draw(st.integers(1, 2)) for _ in parts]
    stamp = draw(st.none() | STAMPS)
    return Append(
        *("default", "path", tuple(parts), tuple(counts)),
        content_type=draw(st.sampled_from([None, "text/plain", "TEXT/plain; a=b", "text/css"])),
        close=draw(st.integers(0, 5)) == 0 or not parts,
        stamp=stamp,
        by_part=stamp is not None and draw(st.booleans()),
        sequence=draw(st.none() | st.sampled_from([b"1", b"10", b"2"])),
    )


class Model:
    """A stream as a list, and the rules as their text has them."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, int]] = []
        self.closed = False
        self.closer: Stamp | None = None
        self.sequences: list[bytes] = []
        self.accepted: dict[str, list[tuple[int, int]]] = {}

    def last(self, producer: str) -> tuple[int, int] | None:
        return self.accepted.get(producer, [None])[-1]

    def post(self, request: Append) -> Outcome:
        stamp = request.stamp
        parts = list(zip(request.parts, request.counts, strict=True))
        if stamp is not None and request.by_part:
            _, last = self.last(stamp.producer) or (stamp.epoch, -1)
            numbered = list(enumerate(parts, stamp.sequence))
            parts = [part for number, part in numbered if number > last]
        if self.closed:
            return self._after_the_end(request, parts)
        if request.parts and request.content_type == "text/css":
            return Outcome.OTHER_TYPE
        refused = self._producer(request, parts)
        if refused is not None:
            return refused
        if request.sequence is not None and any(request.sequence <= one for one in self.sequences):
            return Outcome.OLD_SEQUENCE
        self.messages += parts
        if request.sequence is not None:
            self.sequences.append(request.sequence)
        if stamp is not None:
            self._accept(request, stamp)
        if request.close:
            self.closed, self.closer = True, stamp
        return Outcome.APPENDED

    def _after_the_end(self, request: Append, new: list[tuple[bytes, int]]) -> Outcome:
        stamp = request.stamp
        if stamp is None and not request.parts:
            return Outcome.DUPLICATE
        by_part = request.by_part and bool(request.parts)
        if stamp is not None and stamp == self.closer and not by_part:
            return Outcome.DUPLICATE
        if stamp is not None and by_part and not new:
            known = self.last(stamp.producer)
            if known is not None and stamp.epoch >= known[0]:
                return Outcome.DUPLICATE
        return Outcome.CLOSED

    def _producer(self, request: Append, new: list[tuple[bytes, int]]) -> Outcome | None:
        stamp = request.stamp
        if stamp is None:
            return None
        known = self.last(stamp.producer)
        if known is not None and stamp.epoch < known[0]:
            return Outcome.STALE_EPOCH
        if request.by_part:
            if request.parts and stamp.sequence > (-1 if known is None else known[1]) + 1:
                return Outcome.GAP
            same = known is not None and stamp.epoch == known[0]
            if request.parts and not new and not request.close and same:
                return Outcome.DUPLICATE
            return None
        if known is None:
            return None if stamp.sequence == 0 else Outcome.GAP
        if stamp.epoch > known[0]:
            return None if stamp.sequence == 0 else Outcome.EPOCH_WITHOUT_START
        if stamp.sequence <= known[1]:
            return Outcome.DUPLICATE
        return None if stamp.sequence == known[1] + 1 else Outcome.GAP

    def _accept(self, request: Append, stamp: Stamp) -> None:
        sequence = stamp.sequence
        if request.by_part:
            known = self.last(stamp.producer)
            before = -1 if known is None else known[1]
            reached = stamp.sequence + len(request.parts) - 1 if request.parts else -1
            sequence = max(before, reached)
        self.accepted.setdefault(stamp.producer, []).append((stamp.epoch, sequence))


@given(st.lists(requests(), max_size=25))
def test_random_requests(asked: list[Append]) -> None:
    target, model = stream(), Model()
    for request in asked:
        before = (target.tail, list(target.chunks), dict(target.producers), target.closed)
        answer = judge(target, request)
        assert answer.outcome is model.post(request)
        if answer.outcome is not Outcome.APPENDED:
            assert before == (target.tail, target.chunks, target.producers, target.closed)
        assert answer.tail == target.tail == sum(count for _, count in model.messages)
        assert answer.closed == model.closed
        if request.stamp is not None:
            known = model.last(request.stamp.producer) or (request.stamp.epoch, -1)
            assert (answer.epoch, answer.last) == known
    assert [(chunk.data, chunk.messages) for chunk in target.chunks] == model.messages
    position = 0
    for chunk in target.chunks:
        assert chunk.position == position
        position = chunk.end
    assert target.producers == {name: known[-1] for name, known in model.accepted.items()}
    assert sum(bool(notice.flags & CLOSED) for notice in target.notices) == model.closed
