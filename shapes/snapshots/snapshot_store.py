"""Snapshots on disk, shared by all nodes of one data folder.

An LMDB environment holds one record per snapshot and, per shape, which generation is current; bodies
above a few kilobytes are files beside it. Nothing here is flushed to disk on purpose: a snapshot can be
taken again. So after a crash of the operating system (another boot) the folder is emptied.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from struct import Struct

import lmdb
import orjson

from shapes.kept import writing
from shapes.shape import Handle, new_generation

INLINE_BYTES = 16 << 10
"""Bodies up to this size live in the record itself."""

OWNER_TIMEOUT = 60.0
"""A snapshot whose owner has not written for so long is given up by everybody else."""

MOST_DELETIONS = 1000
"""So many are remembered for nodes that have not heard of them."""

_SHAPE = Struct(">Q")
_SNAPSHOT = Struct(">QQ")


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """One snapshot: how far it has come and where the log takes over.

    `chunks` are the sizes of the finished bodies. `state` is `running`, `reading` (all rows are there,
    the log has not reached them yet), `done` or `failed`. Once done, a client goes on in the log from
    boundary `lsn`; `stitch` are the messages, changes that committed before `lsn` but that the
    snapshot did not see, to be delivered before that. `changed` is Unix seconds.
    """

    generation: int
    owner: int
    state: str = "running"
    chunks: tuple[int, ...] = ()
    lsn: int = 0
    stitch: tuple[str, ...] = ()
    error: str = ""
    changed: float = 0.0

    @property
    def stale(self) -> bool:
        """Whether whoever made this is gone before it was done."""
        if self.state in ("done", "failed"):
            return False
        return not _alive(self.owner) or time.time() - self.changed > OWNER_TIMEOUT


@dataclass(frozen=True, slots=True)
class _Current:
    """Per shape: its newest generation, and the newest one that is no longer good."""

    generation: int = 0
    retired: int = 0


class SnapshotStore:
    """Where nodes share snapshots. Every method is quick; several processes may call at once.

    Whatever writes raises DiskError, and OSError for a chunk of its own file.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _empty_after_boot(folder)
        self._files = folder / "chunks"
        self._files.mkdir(exist_ok=True)
        self._env = lmdb.open(
            str(folder), map_size=1 << 38, max_dbs=3, sync=False, metasync=False, max_readers=510
        )
        self._shapes = self._env.open_db(b"shapes")
        self._snapshots = self._env.open_db(b"snapshots")
        self._deletions = self._env.open_db(b"deletions")

    def close(self) -> None:
        self._env.close()

    def claim(
        self, shape_hash: int, epoch: int, worthwhile: Callable[[SnapshotRecord], bool]
    ) -> tuple[SnapshotRecord, bool]:
        """The current snapshot of a shape, or a new one that the caller must now make (True).

        A snapshot is current if it belongs to this `epoch` of the log, has not been retired, its maker
        has not failed, and it is `worthwhile`.
        """
        with writing(self._env) as txn:
            current = self._current(txn, shape_hash)
            record = self._record(txn, Handle(shape_hash, current.generation))
            if (
                record is not None
                and record.generation > max(current.retired, epoch)
                and record.state != "failed"
                and not record.stale
                and worthwhile(record)
            ):
                return record, False
            generation = new_generation(max(current.generation, current.retired, epoch))
            record = SnapshotRecord(generation, os.getpid(), changed=time.time())
            self._put(txn, Handle(shape_hash, generation), record)
            self._put_current(txn, shape_hash, replace(current, generation=generation))
        return record, True

    def name(self, shape_hash: int, epoch: int) -> Handle:
        """The newest handle of a shape, or a new one that has no snapshot.

        All who ask for no history get the same, so that their requests are equal.
        """
        with self._env.begin() as txn:
            current = self._current(txn, shape_hash)
        if current.generation <= max(current.retired, epoch):
            with writing(self._env) as txn:
                current = self._current(txn, shape_hash)
                if current.generation <= max(current.retired, epoch):
                    generation = new_generation(max(current.generation, current.retired, epoch))
                    current = replace(current, generation=generation)
                    self._put_current(txn, shape_hash, current)
        return Handle(shape_hash, current.generation)

    def named(self, shape_hash: int) -> bool:
        """Whether a shape has a handle that is good."""
        with self._env.begin() as txn:
            current = self._current(txn, shape_hash)
        return current.generation > current.retired

    def count(self) -> int:
        """How many shapes there are."""
        with self._env.begin() as txn:
            return int(txn.stat(self._shapes)["entries"])

    def get(self, handle: Handle) -> SnapshotRecord | None:
        """The record of a snapshot, or None if it was never made here or is gone."""
        with self._env.begin() as txn:
            return self._record(txn, handle)

    def retired(self, handle: Handle) -> bool:
        """Whether this snapshot's shape has ended since."""
        with self._env.begin() as txn:
            return handle.generation <= self._current(txn, handle.hash).retired

    def update(self, handle: Handle, record: SnapshotRecord) -> SnapshotRecord:
        """Replace a record; its owner's privilege."""
        record = replace(record, changed=time.time())
        with writing(self._env) as txn:
            self._put(txn, handle, record)
        return record

    def retire(self, shape_hash: int, lsn: int | None = None) -> None:
        """End a shape: all handles made so far are no longer good.

        With `lsn` (where the table was truncated or altered) a snapshot that was taken after it stays.
        """
        with writing(self._env) as txn:
            current = self._current(txn, shape_hash)
            record = self._record(txn, Handle(shape_hash, current.generation))
            if lsn is not None and record is not None and record.lsn > lsn:
                return
            # A clock may have been set back since the generation was made.
            retired = max(new_generation(current.retired), current.generation)
            self._put_current(txn, shape_hash, replace(current, retired=retired))

    def delete(self, shape_hash: int) -> int:
        """End a shape on request; the deletion's number, for `deletions`."""
        self.retire(shape_hash)
        with writing(self._env, self._deletions) as txn:
            cursor = txn.cursor()
            number = _SHAPE.unpack(cursor.key())[0] + 1 if cursor.last() else 1
            txn.put(_SHAPE.pack(number), _SHAPE.pack(shape_hash))
            txn.delete(_SHAPE.pack(max(number - MOST_DELETIONS, 0)))
        return number

    def deletions(self, after: int) -> dict[int, int]:
        """The deletions since number `after`, as number → hash of the shape."""
        with self._env.begin(db=self._deletions) as txn:
            cursor = txn.cursor()
            found = cursor.iternext() if cursor.set_range(_SHAPE.pack(after + 1)) else ()
            return {_SHAPE.unpack(number)[0]: _SHAPE.unpack(one)[0] for number, one in found}

    def write_chunk(self, handle: Handle, number: int, pieces: list[bytes]) -> int:
        """Keep a finished body, the array of what is in `pieces`; its size in bytes.

        Call `update` afterwards, which makes it known.
        """
        size = sum(map(len, pieces)) + 2
        if size <= INLINE_BYTES:
            body = b"[%b]" % b"".join(pieces)
            with writing(self._env, self._snapshots) as txn:
                txn.put(_SNAPSHOT.pack(*handle) + b"%d" % number, body)
        else:
            with self.chunk_path(handle, number).open("wb") as file:
                file.writelines([b"[", *pieces, b"]"])
        return size

    def read_chunk(self, handle: Handle, number: int) -> bytes | Path | None:
        """A body, or the file that holds it; None if it is gone."""
        with self._env.begin(db=self._snapshots) as txn:
            body = txn.get(_SNAPSHOT.pack(*handle) + b"%d" % number)
        if body is not None:
            return body
        path = self.chunk_path(handle, number)
        return path if path.exists() else None

    def chunk_path(self, handle: Handle, number: int) -> Path:
        return self._files / f"{handle}.{number}"

    def remove(self, handle: Handle) -> None:
        """Delete a snapshot with its bodies."""
        with writing(self._env, self._snapshots) as txn:
            record = self._record(txn, handle)
            prefix = _SNAPSHOT.pack(*handle)
            cursor = txn.cursor()
            found = cursor.set_range(prefix)
            entries = 0
            while found and cursor.key().startswith(prefix):
                found = cursor.delete()
                entries += 1
        # There may be more than are known. Looking for them with a pattern would read the whole folder
        # for each snapshot, and the compiled pattern would be remembered.
        known = max(entries, 0 if record is None else len(record.chunks))
        number = 0
        while number < known or self.chunk_path(handle, number).exists():
            self.chunk_path(handle, number).unlink(missing_ok=True)
            number += 1

    def forget(self, handle: Handle) -> None:
        """Delete a snapshot, and that there ever was one of its shape, unless others came after it."""
        self.remove(handle)
        with writing(self._env) as txn:
            current = self._current(txn, handle.hash)
            if current == _Current(handle.generation):
                txn.delete(_SHAPE.pack(handle.hash), db=self._shapes)

    def sweep(self, oldest: float, most: int | None = None) -> int:
        """Remove snapshots not current any more, or unchanged since `oldest` (Unix seconds), and the
        oldest beyond `most`, but none that changed within a minute: somebody may be reading it."""
        doomed: list[Handle] = []
        kept: list[tuple[float, Handle]] = []
        settled = time.time() - 60
        with self._env.begin() as txn:
            for key, value in txn.cursor(db=self._snapshots):
                if len(key) != _SNAPSHOT.size:
                    continue
                handle = Handle(*_SNAPSHOT.unpack(key))
                record = _unpack(value)
                current = self._current(txn, handle.hash)
                superseded = handle.generation < max(current.generation, current.retired + 1)
                if record.changed < oldest or (superseded and record.changed < settled):
                    doomed.append(handle)
                else:
                    kept.append((record.changed, handle))
        if most is not None and len(kept) > most:
            surplus = sorted(kept)[: len(kept) - most]
            doomed += [handle for changed, handle in surplus if changed < settled]
        for handle in doomed:
            self.remove(handle)
        return len(doomed)

    def _current(self, txn: lmdb.Transaction, shape_hash: int) -> _Current:
        data = txn.get(_SHAPE.pack(shape_hash), db=self._shapes)
        return _Current() if data is None else _Current(*_SNAPSHOT.unpack(data))

    def _put_current(self, txn: lmdb.Transaction, shape_hash: int, current: _Current) -> None:
        value = _SNAPSHOT.pack(current.generation, current.retired)
        txn.put(_SHAPE.pack(shape_hash), value, db=self._shapes)

    def _record(self, txn: lmdb.Transaction, handle: Handle) -> SnapshotRecord | None:
        data = txn.get(_SNAPSHOT.pack(*handle), db=self._snapshots)
        return None if data is None else _unpack(data)

    def _put(self, txn: lmdb.Transaction, handle: Handle, record: SnapshotRecord) -> None:
        txn.put(_SNAPSHOT.pack(*handle), orjson.dumps(record), db=self._snapshots)


def _unpack(data: bytes | memoryview) -> SnapshotRecord:
    fields = orjson.loads(data)
    fields["chunks"] = tuple(fields["chunks"])
    fields["stitch"] = tuple(fields["stitch"])
    return SnapshotRecord(**fields)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _empty_after_boot(folder: Path) -> None:
    """Files that were not flushed may be damaged once the machine has been down."""
    boot = _boot_id()
    marker = folder / "boot"
    with marker.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if (seen := file.read()) == boot:
            return
        if seen:
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path != marker:
                    path.unlink()
        file.truncate(0)
        file.write(boot)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
