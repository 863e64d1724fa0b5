"""Snapshots on disk, shared by nodes: who takes one, what is current, what goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from log_builder import Elsewhere

from shapes.shape import Handle
from shapes.snapshots import snapshot_store
from shapes.snapshots.snapshot_store import (
    INLINE_BYTES,
    OWNER_TIMEOUT,
    SnapshotRecord,
    SnapshotStore,
)

SHAPE, OTHER = 2**64 - 1, 7
EPOCH = 1_700_000_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SnapshotStore]:
    store = SnapshotStore(tmp_path)
    yield store
    store.close()


def always(_: SnapshotRecord) -> bool:
    return True


def never(_: SnapshotRecord) -> bool:
    return False


def claim(store: SnapshotStore, shape: int = SHAPE, epoch: int = EPOCH) -> tuple[Handle, bool]:
    record, claimed = store.claim(shape, epoch, always)
    return Handle(shape, record.generation), claimed


def finish(store: SnapshotStore, handle: Handle, lsn: int = 500) -> SnapshotRecord:
    record = store.get(handle)
    assert record is not None
    return store.update(handle, replace(record, state="done", lsn=lsn))


def taken(store: SnapshotStore, lsn: int = 500, shape: int = SHAPE) -> Handle:
    """A finished snapshot that has just been claimed."""
    handle, claimed = claim(store, shape)
    assert claimed
    finish(store, handle, lsn)
    return handle


# -- claiming --------------------------------------------------------------------------------------


def test_the_first_who_asks_takes_the_snapshot(store: SnapshotStore) -> None:
    first, claimed = claim(store)
    assert claimed
    record = store.get(first)
    assert record is not None
    assert (record.owner, record.state, record.chunks) == (os.getpid(), "running", ())
    assert claim(store) == (first, False)
    finish(store, first)
    assert claim(store) == (first, False)


def test_shapes_have_snapshots_of_their_own(store: SnapshotStore) -> None:
    first, _ = claim(store)
    other, claimed = claim(store, OTHER)
    assert claimed
    assert store.get(Handle(OTHER, first.generation + 10**9)) is None
    store.retire(OTHER)
    assert store.retired(other)
    assert not store.retired(first)


def test_a_snapshot_that_failed_is_taken_again(store: SnapshotStore) -> None:
    first, _ = claim(store)
    record = store.get(first)
    assert record is not None
    store.update(first, replace(record, state="failed", error="no"))
    second, claimed = claim(store)
    assert claimed
    assert second.generation > first.generation


def test_a_snapshot_that_is_not_worthwhile_is_taken_again(store: SnapshotStore) -> None:
    first = taken(store)
    record, claimed = store.claim(SHAPE, EPOCH, never)
    assert claimed
    assert record.generation > first.generation
    # Those who have it may go on with it.
    assert not store.retired(first)


def test_a_snapshot_of_an_earlier_epoch_is_taken_again(store: SnapshotStore) -> None:
    first = taken(store)
    second, claimed = claim(store, epoch=first.generation)
    assert claimed
    assert second.generation > first.generation
    assert claim(store, epoch=first.generation) == (second, False)


def test_generations_ascend_however_the_clock_runs(store: SnapshotStore) -> None:
    ahead = time.time_ns() // 1000 + 3_600_000_000
    handles = [claim(store, epoch=ahead)[0]]
    for _ in range(3):
        store.retire(SHAPE)
        handles.append(claim(store, epoch=ahead)[0])
    generations = [handle.generation for handle in handles]
    assert generations == sorted(set(generations))
    assert generations[0] > ahead


# -- retiring --------------------------------------------------------------------------------------


def test_retiring_ends_all_handles(store: SnapshotStore) -> None:
    first = taken(store)
    second_record, _ = store.claim(SHAPE, EPOCH, never)
    second = Handle(SHAPE, second_record.generation)
    store.retire(SHAPE)
    assert store.retired(first)
    assert store.retired(second)
    third, claimed = claim(store)
    assert claimed
    assert not store.retired(third)


def test_retiring_when_the_clock_has_stepped_back(store: SnapshotStore) -> None:
    """The client would else be sent to the handle that it comes with, for ever."""
    ahead = time.time_ns() // 1000 + 3_600_000_000
    first, _ = claim(store, epoch=ahead)
    store.retire(SHAPE)
    assert store.retired(first)
    second, claimed = claim(store, epoch=ahead)
    assert claimed
    assert not store.retired(second)


def test_a_snapshot_taken_after_the_truncate_stays(store: SnapshotStore) -> None:
    handle = taken(store, lsn=500)
    store.retire(SHAPE, 400)
    assert not store.retired(handle)
    assert claim(store) == (handle, False)


@pytest.mark.parametrize("lsn", [500, 600])
def test_a_snapshot_taken_before_the_truncate_goes(store: SnapshotStore, lsn: int) -> None:
    handle = taken(store, lsn=500)
    store.retire(SHAPE, lsn)
    assert store.retired(handle)
    assert claim(store)[1]


def test_a_snapshot_that_is_being_taken_does_not_survive_a_truncate(store: SnapshotStore) -> None:
    handle, _ = claim(store)
    store.retire(SHAPE, 400)
    assert store.retired(handle)
    assert claim(store)[1]


def test_retiring_what_nobody_has_seen(store: SnapshotStore) -> None:
    store.retire(SHAPE)
    assert store.retired(Handle(SHAPE, EPOCH))
    handle, claimed = claim(store)
    assert claimed
    assert not store.retired(handle)


# -- owners ----------------------------------------------------------------------------------------


def test_the_snapshot_of_a_dead_owner_is_taken_again(
    store: SnapshotStore, elsewhere: Elsewhere
) -> None:
    handle, _ = claim(store)
    record = store.get(handle)
    assert record is not None
    alive = replace(record, owner=elsewhere.run(os.getpid))
    store.update(handle, alive)
    assert not claim(store)[1]
    gone = store.update(handle, replace(record, owner=_dead_process()))
    assert gone.stale
    assert claim(store)[1]


def test_the_snapshot_of_an_owner_that_hangs_is_taken_again(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, _ = claim(store)
    monkeypatch.setattr(snapshot_store, "OWNER_TIMEOUT", -1.0)
    record = store.get(handle)
    assert record is not None
    assert record.stale
    assert claim(store)[1]


@pytest.mark.parametrize("state", ["done", "failed"])
def test_what_is_finished_needs_no_owner(state: str) -> None:
    record = SnapshotRecord(5, _dead_process(), state=state, changed=0.0)
    assert not record.stale


def test_every_update_is_a_sign_of_life(store: SnapshotStore) -> None:
    handle, _ = claim(store)
    record = store.get(handle)
    assert record is not None
    old = replace(record, changed=time.time() - OWNER_TIMEOUT - 1)
    assert old.stale
    assert not store.update(handle, old).stale


def test_two_processes_claim_one_snapshot(tmp_path: Path, elsewhere: Elsewhere) -> None:
    first, claimed = elsewhere.run(claim_in, tmp_path)
    assert claimed
    store = SnapshotStore(tmp_path)
    assert claim(store) == (first, False)
    store.write_chunk(first, 0, [b'"mine"'])
    store.retire(SHAPE)
    assert elsewhere.run(retired_in, tmp_path, first)
    second, claimed = elsewhere.run(claim_in, tmp_path)
    assert claimed
    assert claim(store) == (second, False)
    assert elsewhere.run(chunk_in, tmp_path, first) == b'["mine"]'
    store.close()


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES - 2, INLINE_BYTES - 1, 10 * INLINE_BYTES])
def test_bodies(store: SnapshotStore, size: int) -> None:
    handle, _ = claim(store)
    pieces = [b"1" * (size // 2), b"2" * (size - size // 2)]
    assert store.write_chunk(handle, 0, pieces) == size + 2
    body = store.read_chunk(handle, 0)
    content = body.read_bytes() if isinstance(body, Path) else body
    assert content == b"[" + b"".join(pieces) + b"]"
    assert isinstance(body, Path) == (size + 2 > INLINE_BYTES)


def test_bodies_by_number(store: SnapshotStore) -> None:
    handle, _ = claim(store)
    for number in (0, 1, 2, 10, 11):
        store.write_chunk(handle, number, [b"%d" % number])
    assert [store.read_chunk(handle, number) for number in (0, 1, 2, 10, 11)] == [
        *(b"[0]", b"[1]", b"[2]", b"[10]", b"[11]")
    ]
    assert store.read_chunk(handle, 3) is None
    assert store.read_chunk(Handle(OTHER, handle.generation), 0) is None


def test_a_record_comes_back_as_it_was(store: SnapshotStore) -> None:
    handle, _ = claim(store)
    record = SnapshotRecord(
        handle.generation, 5, "done", (10, 20), 2**64 - 1, ('{"é":1}', "{}"), "error", 0.5
    )
    written = store.update(handle, record)
    assert store.get(handle) == written
    assert replace(written, changed=0.5) == record


# -- going -----------------------------------------------------------------------------------------


def test_removing_a_snapshot_takes_its_bodies_along(store: SnapshotStore, tmp_path: Path) -> None:
    handle = taken(store)
    other = taken(store, shape=OTHER)
    for one in (handle, other):
        store.write_chunk(one, 0, [b"0"])
        store.write_chunk(one, 1, [b"1" * 2 * INLINE_BYTES])
    store.remove(handle)
    assert store.get(handle) is None
    assert store.read_chunk(handle, 0) is None
    assert store.read_chunk(handle, 1) is None
    assert store.get(other) is not None
    assert store.read_chunk(other, 0) == b"[0]"
    assert len([path for path in tmp_path.rglob("*") if path.name.startswith(str(other))]) == 1


def test_the_sweep_removes_what_nobody_has_touched_for_long(store: SnapshotStore) -> None:
    handle = taken(store)
    assert store.sweep(time.time() - 1000) == 0
    assert store.sweep(time.time() + 1000) == 1
    assert store.get(handle) is None
    assert claim(store)[1]


def test_the_sweep_leaves_a_former_snapshot_for_those_who_are_reading_it(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = taken(store)
    record, _ = store.claim(SHAPE, EPOCH, never)
    second = Handle(SHAPE, record.generation)
    finish(store, second)
    assert store.sweep(0.0) == 0
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    assert store.sweep(0.0) == 1
    assert store.get(first) is None
    assert store.get(second) is not None


def test_the_sweep_removes_what_was_retired(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = taken(store)
    store.retire(SHAPE)
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    assert store.sweep(0.0) == 1
    # That it was retired stays known.
    assert store.retired(handle)


def test_the_sweep_does_not_stumble_over_bodies(store: SnapshotStore) -> None:
    handle = taken(store)
    for number in range(5):
        store.write_chunk(handle, number, [b"%d" % number])
    assert store.sweep(time.time() + 1000) == 1
    assert store.read_chunk(handle, 0) is None


# -- another boot ----------------------------------------------------------------------------------


def test_snapshots_survive_their_processes(tmp_path: Path) -> None:
    for again in (False, True):
        store = SnapshotStore(tmp_path)
        handle, claimed = claim(store)
        assert claimed is not again
        finish(store, handle)
        store.write_chunk(handle, 0, [b"0" * 2 * INLINE_BYTES])
        store.close()


def test_another_boot_begins_with_nothing(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    handle = taken(store)
    store.write_chunk(handle, 0, [b"0" * 2 * INLINE_BYTES])
    store.close()
    assert len(_files(tmp_path)) > 3
    marker = next(path for path in tmp_path.iterdir() if path.name == "boot")
    marker.write_text("another boot")
    store = SnapshotStore(tmp_path)
    assert store.get(handle) is None
    assert store.read_chunk(handle, 0) is None
    again, claimed = claim(store)
    assert claimed
    assert again.generation > handle.generation
    store.close()
    assert "another" not in marker.read_text()
    store = SnapshotStore(tmp_path)
    assert store.get(again) is not None
    store.close()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _dead_process() -> int:
    """The id of a process that has ended."""
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit"], os.environ)
    os.waitpid(child, 0)
    return child


def claim_in(folder: Path) -> tuple[Handle, bool]:
    store = SnapshotStore(folder)
    result = claim(store)
    store.close()
    return result


def retired_in(folder: Path, handle: Handle) -> bool:
    store = SnapshotStore(folder)
    result = store.retired(handle)
    store.close()
    return result


def chunk_in(folder: Path, handle: Handle) -> bytes | Path | None:
    store = SnapshotStore(folder)
    result = store.read_chunk(handle, 0)
    store.close()
    return result
