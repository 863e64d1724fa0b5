"""When parts of the table of chunks are opened and dropped."""

from __future__ import annotations

from shapes.streams.storage.retention import Part, Retention

DAY = 86400.0
KEEP = Retention(28 * DAY, 1600)


def test_another_part_is_opened_by_age_or_size() -> None:
    assert not KEEP.wants_another([])
    assert not KEEP.wants_another([Part(1, 1.9 * DAY, 100, is_empty=False)])
    assert KEEP.wants_another([Part(1, 2.1 * DAY, 100, is_empty=False)])
    assert KEEP.wants_another([Part(1, 1.0, 101, is_empty=False)])
    # Not while nothing is in the newest, or the newest is not in use yet.
    assert not KEEP.wants_another([Part(1, 90 * DAY, 500, is_empty=True)])
    newest = Part(2, -5.0, 0, is_empty=True)
    assert not KEEP.wants_another([Part(1, 3 * DAY, 500, is_empty=False), newest])


def test_the_first_part_is_dropped_by_age_or_size() -> None:
    def of(*parts: tuple[float, int]) -> int | None:
        return KEEP.dispensable(
            [Part(5 + n, age, size, is_empty=False) for n, (age, size) in enumerate(parts)]
        )

    assert of((90 * DAY, 9999)) is None
    # Its last messages are as young as the next part is old.
    assert of((90 * DAY, 10), (27.9 * DAY, 10)) is None
    assert of((90 * DAY, 10), (28.1 * DAY, 10)) == 5
    assert of((2.0, 1000), (1.0, 600)) is None
    assert of((2.0, 1000), (1.0, 601)) == 5
    assert of((2.0, 2000), (-5.0, 0)) is None
