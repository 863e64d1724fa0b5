"""What overlapping feeds have in common is encoded once."""

from __future__ import annotations

from log_builder import shape

from shapes.following.encoder import INSERT, UPDATE, Entry
from shapes.following.shared_encoding import SharedEncoding
from shapes.shape import Shape

FIRST = Entry(100, 2, INSERT, 1, 7, ["1", "a", None], None)
SECOND = Entry(100, 4, INSERT, 1, 7, ["2", "a", None], None)
WHOLE = shape(where="id > 0")
SAME = Shape(WHOLE.projection, None, WHOLE.full_replica, WHOLE.changes_only, 5)
FULL = Shape(WHOLE.projection, None, True, WHOLE.changes_only, 6)
NARROW = shape(columns=("id",))


class Encoding:
    """Says what it was asked for, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, shape: Shape, entries: list[Entry]) -> list[bytes]:
        self.calls += 1
        columns = len(shape.projection.columns)
        return [b"%d %d %d" % (one.index, columns, shape.full_replica) for one in entries]


def test_equal_entries_of_shapes_that_show_the_same_are_encoded_once() -> None:
    encoding = Encoding()
    with SharedEncoding(encoding) as encode:
        first = encode(WHOLE, [FIRST, SECOND])
        assert encode(SAME, [FIRST, SECOND]) is first
        assert encoding.calls == 1


def test_what_differs_is_encoded_apart() -> None:
    encoding = Encoding()
    requests = [
        (WHOLE, [FIRST]),
        (WHOLE, [SECOND]),
        (WHOLE, [FIRST, SECOND]),
        (FULL, [FIRST]),
        (NARROW, [FIRST]),
        # The same change, but this shape had the row before.
        (WHOLE, [FIRST._replace(kind=UPDATE)]),
    ]
    with SharedEncoding(encoding) as encode:
        for shape, entries in requests:
            assert encode(shape, entries) == encoding(shape, entries)
    assert encoding.calls == 2 * len(requests)


def test_nothing_is_kept_after_the_round() -> None:
    encoding = Encoding()
    with SharedEncoding(encoding) as encode:
        first = encode(WHOLE, [FIRST])
    assert encode(WHOLE, [FIRST]) == first
    assert encode(SAME, [FIRST]) == first
    assert encoding.calls == 3
