"""Transactions in progress, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import LogError
from engine.replication.spool import Spool, SpooledBlock, empty_folder

FULL = Path("/dev/full")


def block(subxid: int, body: bytes = b"body", count: int = 1) -> SpooledBlock:
    return SpooledBlock(subxid, count, 1, body)


def test_blocks_come_back_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 7)
    blocks = [block(7, b"x" * size, size) for size in (1, 0, 100_000, 300_000, 5)]
    for one in blocks:
        spool.add(one)
    assert list(spool.blocks()) == blocks
    spool.close()


def test_an_empty_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 7)
    assert list(spool.blocks()) == []
    spool.close()


def test_aborted_subtransactions_are_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 7)
    for subxid in (7, 8, 9, 8, 7):
        spool.add(block(subxid, b"x" * 300_000))
    spool.abort(8)
    assert [one.subxid for one in spool.blocks()] == [7, 9, 7]
    spool.abort(7)
    spool.abort(9)
    assert list(spool.blocks()) == []
    spool.close()


def test_blocks_that_come_after_an_abort_of_others_stay(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 7)
    spool.add(block(8))
    spool.abort(8)
    spool.add(block(9))
    assert [one.subxid for one in spool.blocks()] == [9]
    spool.close()


def test_closing_removes_the_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 7)
    spool.add(block(7))
    assert list(tmp_path.iterdir())
    spool.close()
    assert not list(tmp_path.iterdir())


def test_spools_of_several_transactions_are_apart(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, 7), Spool(tmp_path, 8)
    first.add(block(7, b"first"))
    second.add(block(8, b"second"))
    assert [one.body for one in first.blocks()] == [b"first"]
    first.close()
    assert [one.body for one in second.blocks()] == [b"second"]
    second.close()


def test_a_folder_is_emptied_of_what_an_earlier_life_left(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "spool"
    assert empty_folder(folder) == folder
    (folder / "7").write_bytes(b"left")
    empty_folder(folder)
    assert not list(folder.iterdir())


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "7").symlink_to(FULL)
    spool = Spool(tmp_path, 7)
    with pytest.raises(LogError, match="free some space"):
        spool.add(block(7, b"x" * 1_000_000))
    # Giving up must not fail for the same reason.
    spool.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_disk_that_turns_out_to_be_full_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "7").symlink_to(FULL)
    spool = Spool(tmp_path, 7)
    spool.add(block(7))
    with pytest.raises(LogError, match="free some space"):
        list(spool.blocks())
    spool.close()
    assert not list(tmp_path.iterdir())
