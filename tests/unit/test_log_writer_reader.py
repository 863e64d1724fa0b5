"""The log on disk: what is written is what is read, up to the head and not beyond."""

from __future__ import annotations

import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from log_builder import (
    START,
    Elsewhere,
    Transaction,
    append,
    append_to,
    insert,
    make_log,
    reading,
    relation,
    stage,
    transaction,
    writing,
)

from engine.errors import LogError
from engine.log.layout import INDEX_STEP, Change, LogState
from engine.log.reader import LogMissingError, LogReader
from engine.log.writer import LogBusyError, LogWriter
from engine.lsn import MAX_LSN, Offset


def rows(count: int, text: str = "x") -> list[Change]:
    return [insert(str(number), text, None) for number in range(count)]


HISTORY = [
    transaction(200, *rows(1)),
    # Commit records without a gap between them: the end of one is the LSN of the next.
    transaction(300, *rows(5), blocks=2, end_lsn=308),
    transaction(308, *rows(6), blocks=3, end_lsn=400),
    transaction(400, *rows(4), blocks=(1, 2, 1), end_lsn=401),
    transaction(900, *rows(3), blocks=1),
]


def offsets(transactions: list[Transaction]) -> list[Offset]:
    return [offset for one in transactions for offset in one.offsets()]


def offsets_read(reader: LogReader, after: Offset) -> list[Offset]:
    """Offsets after `after`, as a caller sees them who takes all blocks of one read."""
    found = [
        Offset(block.commit_lsn, block.index + INDEX_STEP * place)
        for block in reader.read(after)[1]
        for place in range(block.count)
    ]
    return [offset for offset in found if offset > after]


def read_in_steps(reader: LogReader, after: Offset, most: int) -> list[Offset]:
    """The same by many reads of `most` bytes."""
    found: list[Offset] = []
    while blocks := reader.read(after, most=most)[1]:
        for block in blocks:
            for place in range(block.count):
                offset = Offset(block.commit_lsn, block.index + INDEX_STEP * place)
                if offset > after:
                    found.append(offset)
        after = blocks[-1].last
    return found


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 200, 1 << 20])
def test_reading_from_every_offset_there_is(folder: Path, most: int) -> None:
    make_log(folder, HISTORY)
    written = offsets(HISTORY)
    starts = {Offset(0, 0), Offset(MAX_LSN, 0), Offset(401, 0), Offset(899, 2**32 - 2)}
    for lsn, index in written:
        starts |= {Offset(lsn, index + step) for step in (-2, -1, 0, 1, 2)}
    starts |= {Offset(one.end_lsn, 0) for one in HISTORY}
    with reading(folder) as reader:
        for start in sorted(starts):
            expected = [offset for offset in written if offset > start]
            assert read_in_steps(reader, start, most) == expected, start


def test_the_first_block_holds_the_first_change_after_the_offset(folder: Path) -> None:
    make_log(folder, HISTORY)
    written = offsets(HISTORY)
    with reading(folder) as reader:
        for start in written[:-1]:
            first = reader.read(start, most=1)[1][0]
            following = min(offset for offset in written if offset > start)
            assert (first.commit_lsn, first.index) <= following <= first.last


@pytest.mark.parametrize("index", [2**32 - 1, 2**32, 2**63])
def test_an_index_greater_than_any_change_has_is_the_end_of_its_transaction(
    folder: Path, index: int
) -> None:
    make_log(folder, HISTORY)
    with reading(folder) as reader:
        expected = [offset for offset in offsets(HISTORY) if offset.lsn > 300]
        assert offsets_read(reader, Offset(300, index)) == expected
        assert offsets_read(reader, Offset(900, index)) == []


def test_reading_returns_at_least_one_block_however_large(folder: Path) -> None:
    make_log(folder, [transaction(200, *rows(2, "x" * 100_000), blocks=1)])
    with reading(folder) as reader:
        blocks = reader.read(Offset(0, 0), most=10)[1]
    assert [block.index for block in blocks] == [2]


def test_a_block_is_found_by_each_of_its_changes(folder: Path) -> None:
    make_log(folder, HISTORY)
    with reading(folder) as reader:
        for lsn, index in offsets(HISTORY):
            block = reader.block_at(lsn, index)
            assert block is not None
            assert block.commit_lsn == lsn
            assert block.index <= index <= block.last.index


@pytest.mark.parametrize("where", [(200, 4), (199, 2), (201, 2), (900, 8), (901, 2), (300, 12)])
def test_where_no_change_is_there_is_no_block(folder: Path, where: tuple[int, int]) -> None:
    make_log(folder, HISTORY)
    with reading(folder) as reader:
        assert reader.block_at(*where) is None


def test_only_the_last_block_of_a_transaction_says_where_it_ends(folder: Path) -> None:
    make_log(folder, HISTORY)
    with reading(folder) as reader:
        blocks = reader.read(Offset(300, 0))[1]
    assert [block.end_lsn for block in blocks] == [0, 0, 308, 0, 400, 0, 0, 401, 0, 0, 908]


def test_state_and_blocks(folder: Path) -> None:
    make_log(folder, HISTORY)
    with reading(folder) as reader:
        state = reader.state()
        assert reader.read(Offset(0, 0))[0] == state
    assert state == LogState(state.epoch, 900, 908, 908, Offset(START, 0))


# -- the head --------------------------------------------------------------------------------------


def test_spilled_blocks_are_not_seen_before_their_commit(
    folder: Path, elsewhere: Elsewhere
) -> None:
    big = transaction(1000, *rows(6), blocks=2)
    make_log(folder, HISTORY)
    with writing(folder) as writer:
        stage(writer, big, blocks=slice(2))
        writer.spill()
        assert elsewhere.run(all_offsets, folder) == offsets(HISTORY)
        stage(writer, big, blocks=slice(2, None))
        writer.spill()
        assert elsewhere.run(all_offsets, folder) == offsets(HISTORY)
        writer.commit(big.commit_lsn, big.end_lsn, big.end_lsn)
        assert elsewhere.run(all_offsets, folder) == offsets([*HISTORY, big])


def test_a_commit_does_not_show_the_beginning_of_the_next_transaction(
    folder: Path, elsewhere: Elsewhere
) -> None:
    """Both are staged together when the stream pauses in the middle of the second one."""
    done, half = transaction(1000, *rows(1)), transaction(1008, *rows(4), blocks=2)
    make_log(folder, HISTORY)
    with writing(folder) as writer:
        stage(writer, done)
        stage(writer, half, blocks=slice(1))
        writer.commit(done.commit_lsn, done.end_lsn, done.end_lsn)
        assert elsewhere.run(all_offsets, folder) == offsets([*HISTORY, done])


@pytest.mark.parametrize("adjacent", [False, True])
def test_reopening_removes_what_a_crash_left_beyond_the_head(folder: Path, adjacent: bool) -> None:
    big = transaction(908 if adjacent else 1000, *rows(6), blocks=2)
    make_log(folder, HISTORY)
    with writing(folder) as writer:
        stage(writer, big, blocks=slice(2))
        writer.spill()
    # Sent again, from the beginning: as another block of another size, it may not be in the way.
    append_to(folder, [transaction(big.commit_lsn, *rows(6), blocks=6)])
    assert all_offsets(folder) == offsets([*HISTORY, big])


def test_nothing_committed_is_lost_by_reopening(folder: Path) -> None:
    make_log(folder)
    for one in HISTORY:
        append_to(folder, [one])
    assert all_offsets(folder) == offsets(HISTORY)


def test_discard_forgets_what_a_commit_wrote_beyond_its_own_transaction(folder: Path) -> None:
    done, half = transaction(1000, *rows(1)), transaction(1008, *rows(4), blocks=2)
    make_log(folder)
    with writing(folder) as writer:
        stage(writer, done)
        stage(writer, half, blocks=slice(1))
        writer.commit(done.commit_lsn, done.end_lsn, done.end_lsn)
        writer.discard()
        append(writer, [half])
    assert all_offsets(folder) == offsets([done, half])


def test_blocks_must_ascend(folder: Path) -> None:
    make_log(folder, HISTORY)
    with writing(folder) as writer:
        stage(writer, transaction(300, *rows(1)))
        with pytest.raises(LogError, match="ascending"):
            writer.commit(300, 308, 308)


def test_what_the_disk_refused_is_in_the_log_before_the_head_passes_it(folder: Path) -> None:
    make_log(folder, HISTORY)
    refused, later = transaction(1000, *rows(2000, "x" * 100)), transaction(2000, *rows(1))
    with writing(folder) as writer:
        stage(writer, refused)
        with files_of_at_most((folder / "data.mdb").stat().st_size), pytest.raises(LogError):
            writer.commit(1000, 1008, 1008)
        assert writer.state is not None
        assert writer.state.commit_lsn == 900
        append(writer, [later])
    assert all_offsets(folder) == offsets([*HISTORY, refused, later])


@contextmanager
def files_of_at_most(size: int) -> Generator[None]:
    """This process can write no longer ones."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_progress_goes_beyond_the_last_commit_but_never_behind_it(folder: Path) -> None:
    make_log(folder, HISTORY)
    with writing(folder) as writer:
        assert writer.commit(900, 908, 5000).progress == 5000
        stage(writer, transaction(6000, *rows(1)))
        assert writer.commit(6000, 6008, 0).progress == 6008


# -- epochs and relations --------------------------------------------------------------------------


def test_a_log_without_an_epoch(folder: Path) -> None:
    with writing(folder) as writer:
        assert writer.state is None
        assert writer.identity == ""
        assert not writer.trim(2**62, 0)
    with reading(folder) as reader:
        with pytest.raises(LogMissingError, match="not begun"):
            reader.state()
        with pytest.raises(LogMissingError, match="not begun"):
            reader.read(Offset(0, 0))


def test_a_new_epoch_begins_empty(folder: Path) -> None:
    make_log(folder, HISTORY)
    with writing(folder) as writer:
        before = writer.state
        assert before is not None
        stage(writer, transaction(1000, *rows(1)))
        state = writer.begin_epoch(50, "another server")
        assert state == LogState(state.epoch, 50, 50, 50, Offset(50, 0))
        assert state.epoch > before.epoch
        assert writer.relations() == []
        append(writer, [transaction(60, *rows(1))])
    with writing(folder) as writer:
        assert writer.identity == "another server"
    assert all_offsets(folder) == [Offset(60, 2)]
    with reading(folder) as reader:
        assert reader.commits_from(0) == [60]
        with pytest.raises(LogError, match="no relation version 1"):
            reader.relation(1)


def test_relation_versions_stay(folder: Path) -> None:
    versions = [relation(1), relation(2, oid=2000, name="other"), relation(300)]
    make_log(folder, relations=versions)
    with writing(folder) as writer:
        assert writer.relations() == versions
    with reading(folder) as reader:
        assert [reader.relation(one.id) for one in versions] == versions


# -- transaction ids -------------------------------------------------------------------------------


def test_a_transaction_is_found_by_its_id(folder: Path) -> None:
    make_log(folder, [transaction(200, *rows(2), blocks=1, xid=2**32 - 1)])
    with reading(folder) as reader:
        assert reader.commit_lsn_of(2**32 - 1) == 200
        assert reader.commit_lsn_of(5) is None


@pytest.mark.parametrize(
    ("first", "xids", "found"),
    [
        (700, [699, 700, 701, 900], [700, 701, 900]),
        (700, [3, 699], []),
        (0, [3, 2**31 - 1, 2**31], [3, 2**31 - 1]),
        # Ids wrap around: a small one is later than a large one.
        (2**32 - 10, [3, 100, 2**31, 2**32 - 11, 2**32 - 10], [2**32 - 10, 3, 100]),
        (2**32 - 1, [5, 2**32 - 2], [5]),
        (2**31 + 5, [3, 5, 2**31 + 4, 2**31 + 6], [2**31 + 6, 3]),
        (100, [3, 100, 2**32 - 1], [100]),
    ],
)
def test_commits_of_an_id_and_later_ones(
    folder: Path, first: int, xids: list[int], found: list[int]
) -> None:
    make_log(
        folder,
        [transaction(1000 + 10 * place, *rows(1), xid=xid) for place, xid in enumerate(xids)],
    )
    with reading(folder) as reader:
        expected = {1000 + 10 * xids.index(xid) for xid in found}
        commits = reader.commits_from(first)
        assert set(commits) == expected
        assert len(commits) == len(expected)


# -- who may open it -------------------------------------------------------------------------------


def test_a_second_writer_is_refused(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder)
    with writing(folder):
        with pytest.raises(LogBusyError, match="another process"):
            LogWriter(folder)
        with pytest.raises(LogBusyError, match="another process"):
            elsewhere.run(append_to, folder, [])
    elsewhere.run(append_to, folder, HISTORY)
    assert all_offsets(folder) == offsets(HISTORY)


def test_a_writer_that_could_not_open_the_log_does_not_hold_it(folder: Path) -> None:
    make_log(folder, HISTORY)
    content = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(b"\xff" * len(content))
    with pytest.raises(LogError) as refused:
        LogWriter(folder)
    assert not isinstance(refused.value, LogBusyError)
    (folder / "data.mdb").write_bytes(content)
    with writing(folder) as writer:
        assert writer.state is not None


def test_a_reader_needs_a_log(folder: Path) -> None:
    with pytest.raises(LogMissingError, match="is the engine running"):
        LogReader(folder)
    folder.mkdir()
    with pytest.raises(LogMissingError):
        LogReader(folder)


def test_a_damaged_file_is_an_error_of_the_log(folder: Path) -> None:
    make_log(folder, HISTORY)
    (folder / "data.mdb").write_bytes(b"\xff" * 65536)
    with pytest.raises(LogError, match="cannot be read"):
        LogReader(folder)


def test_readers_in_other_processes_follow(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder)
    with reading(folder) as reader:
        for place, one in enumerate(HISTORY):
            elsewhere.run(append_to, folder, [one])
            assert offsets_read(reader, Offset(0, 0)) == offsets(HISTORY[: place + 1])
            assert reader.state().end_lsn == one.end_lsn


def test_a_reader_sees_a_new_epoch(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    with reading(folder) as reader:
        before = reader.state()
        elsewhere.run(make_log, folder, [transaction(60, *rows(1))], start=50)
        assert reader.state().epoch > before.epoch
        assert offsets_read(reader, Offset(0, 0)) == [Offset(60, 2)]


def all_offsets(folder: Path) -> list[Offset]:
    with reading(folder) as reader:
        return offsets_read(reader, Offset(0, 0))
