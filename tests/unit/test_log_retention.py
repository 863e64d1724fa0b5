"""Trimming the log: by age and by size, whole transactions only, and the horizon says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_builder import (
    START,
    Elsewhere,
    Transaction,
    append_to,
    insert,
    make_log,
    reading,
    stage,
    transaction,
    trim_log,
    writing,
)

from engine.log.layout import Block
from engine.lsn import Offset

FOREVER = 2**62
UNLIMITED = 1 << 40


def history(count: int, *, changes: int = 4, blocks: int = 2, text: str = "x") -> list[Transaction]:
    """Transactions without gaps between their commit records, at times 1, 2, 3, …"""
    rows = [insert(str(place), text, None) for place in range(changes)]
    return [
        transaction(1000 + 8 * place, *rows, blocks=blocks, commit_time=place + 1)
        for place in range(count)
    ]


def commits(blocks: list[Block]) -> dict[int, int]:
    """How many changes each commit has in these blocks."""
    found: dict[int, int] = {}
    for block in blocks:
        found[block.commit_lsn] = found.get(block.commit_lsn, 0) + block.count
    return found


def test_what_is_old_goes_and_the_horizon_is_where_the_rest_begins(folder: Path) -> None:
    make_log(folder, history(5))
    with writing(folder) as writer:
        assert not writer.trim(4, UNLIMITED)
        assert writer.state is not None
        assert writer.state.horizon == Offset(1024, 0)
    with reading(folder) as reader:
        state, blocks = reader.read(Offset(0, 0))
        assert state.horizon == Offset(1024, 0)
        assert commits(blocks) == {1024: 4, 1032: 4}
        # Whoever is at the horizon has missed nothing.
        assert commits(reader.read(state.horizon)[1]) == {1024: 4, 1032: 4}


def test_the_horizon_of_a_log_with_gaps_is_the_end_of_what_went(folder: Path) -> None:
    rows = [insert("1", "x", None)]
    make_log(folder, [transaction(lsn, *rows, commit_time=lsn) for lsn in (200, 300, 400)])
    trim_log(folder, 300)
    with reading(folder) as reader:
        assert reader.state().horizon == Offset(208, 0)


def test_nothing_old_leaves_everything_as_it_is(folder: Path) -> None:
    make_log(folder, history(3))
    trim_log(folder, 1)
    with reading(folder) as reader:
        state, blocks = reader.read(Offset(0, 0))
    assert state.horizon == Offset(START, 0)
    assert len(commits(blocks)) == 3


def test_a_young_transaction_protects_older_ones_behind_it(folder: Path) -> None:
    """Commit times need not ascend; what goes is always the front."""
    first, second, third = history(3)
    make_log(folder, [first._replace(commit_time=50), second, third])
    trim_log(folder, 50)
    with reading(folder) as reader:
        assert len(commits(reader.read(Offset(0, 0))[1])) == 3


def test_the_last_transaction_stays_however_old_and_large(folder: Path) -> None:
    make_log(folder, history(3, blocks=1))
    with writing(folder) as writer:
        assert not writer.trim(FOREVER, 0)
        assert not writer.trim(FOREVER, 0)
    with reading(folder) as reader:
        state, blocks = reader.read(Offset(0, 0))
    assert commits(blocks) == {1016: 4}
    assert state.horizon == Offset(1016, 0)


def test_spilled_blocks_are_not_touched(folder: Path, elsewhere: Elsewhere) -> None:
    rows = [insert(str(place), None, None) for place in range(6)]
    big = transaction(5000, *rows, blocks=2)
    make_log(folder, history(2))
    with writing(folder) as writer:
        stage(writer, big, blocks=slice(2))
        writer.spill()
        assert not writer.trim(FOREVER, 0)
        stage(writer, big, blocks=slice(2, None))
        writer.commit(big.commit_lsn, big.end_lsn, big.end_lsn)
    with reading(folder) as reader:
        assert commits(reader.read(Offset(0, 0))[1]) == {1008: 4, 5000: 6}


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_a_little_at_a_time_never_half_a_transaction(
    folder: Path, most: int, elsewhere: Elsewhere
) -> None:
    """Each transaction has two blocks: an odd limit falls into the middle of one."""
    written = history(6)
    make_log(folder, written)
    steps, left = 0, dict[int, int]()
    with writing(folder) as writer:
        more = True
        while more:
            more = writer.trim(6, UNLIMITED, most=most)
            steps += 1
            assert writer.state is not None
            assert writer.state.horizon.index == 0
            left = elsewhere.run(commits_in, folder)
            assert set(left.values()) == {4}
            assert min(left) == writer.state.horizon.lsn
    assert steps >= 10 // (most + 1)
    assert set(left) == {1040}


def test_size_brings_the_log_under_its_limit_and_not_far_under(folder: Path) -> None:
    written = history(200, changes=1, text="x" * 3000)
    limit = 300_000
    make_log(folder, written)
    with writing(folder) as writer:
        for _ in range(100):
            if not writer.trim(0, limit, most=7):
                break
    with reading(folder) as reader:
        state, blocks = reader.read(Offset(0, 0), most=1 << 30)
    kept = sum(len(block.payload) for block in blocks)
    assert limit * 0.6 < kept <= limit
    assert state.horizon == Offset(blocks[0].commit_lsn, 0)
    # What stays is the newest.
    assert [block.commit_lsn for block in blocks] == [
        one.commit_lsn for one in written[-len(blocks) :]
    ]


def test_ids_of_trimmed_transactions_are_forgotten(folder: Path) -> None:
    rows = [insert("1", "x", None)]
    make_log(
        folder,
        [
            transaction(200, *rows, xid=7, commit_time=1),
            transaction(300, *rows, xid=8, commit_time=2),
            # Four billion transactions later.
            transaction(400, *rows, xid=7, commit_time=9),
            transaction(500, *rows, xid=9, commit_time=9),
        ],
    )
    trim_log(folder, 3)
    with reading(folder) as reader:
        assert reader.commit_lsn_of(7) == 400
        assert reader.commit_lsn_of(8) is None
        assert sorted(reader.commits_from(7)) == [400, 500]


def test_the_log_goes_on_after_it_was_trimmed(folder: Path) -> None:
    written = history(8)
    make_log(folder, written[:6])
    trim_log(folder, 6)
    append_to(folder, written[6:])
    with reading(folder) as reader:
        state, blocks = reader.read(Offset(0, 0))
    assert state.horizon == Offset(1040, 0)
    assert list(commits(blocks)) == [1040, 1048, 1056]


def test_a_reader_that_was_overtaken_can_tell(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, history(5))
    with reading(folder) as reader:
        position = reader.read(Offset(0, 0), most=1)[1][0].last
        elsewhere.run(trim_log, folder, 4)
        state, blocks = reader.read(position)
    assert position < state.horizon
    assert blocks[0].commit_lsn == 1024


def commits_in(folder: Path) -> dict[int, int]:
    with reading(folder) as reader:
        return commits(reader.read(Offset(0, 0))[1])
