"""Streams that are written, forked, closed and deleted all the time, and readers that stop and go on:
each gets what was committed, in its order and place, nothing twice, and nothing that was rolled back.

PGTIDE_ORACLE_SECONDS and PGTIDE_SEED as in `test_histories`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psycopg
import pytest
from serving import Serving
from stream_readers import Piece, StreamReader
from stream_truth import MARK, PREPARE, Stream, Truth
from stream_writers import BYTES, JSON, TEXT, Past, Writer

from engine.postgres.migrate import migrate

SECONDS = float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 12) * 0.4
HISTORY_SECONDS = 4.0
READERS = 10
KINDS = {"text": TEXT, "json": JSON, "bytes": BYTES}


@pytest.mark.timeout(SECONDS * 4 + 180)
async def test_what_is_read_is_what_was_committed(seed: str, database: str, tmp_path: Path) -> None:
    await migrate(database)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(PREPARE.encode())
    with Serving(
        database, tmp_path / "pgtide", long_poll_timeout=1, sse_timeout=2, sse_keepalive=0.5
    ) as server:
        ends = time.monotonic() + SECONDS
        number = 0
        while not number or time.monotonic() < ends:
            history = History(f"{seed}/{number}", database, server.url, f"h{number}")
            faults = await history.run(HISTORY_SECONDS)
            seen = dict(sorted(history.seen.items()))
            print(f"history {number}: {seen}")
            told = "\n\n".join(fault[:2000] for fault in faults[:10])
            assert not faults, f"history {number} of seed {seed}:\n{told}"
            number += 1


class History:
    def __init__(self, seed: str, database: str, url: str, prefix: str) -> None:
        self._seed = seed
        self._database = database
        self._url = url
        self._past = Past(prefix)
        self._past.run = f"run_{prefix}"
        self._readers = [
            StreamReader(f"reader {n}", Random(f"{seed}/reader/{n}"), url, self._past)
            for n in range(READERS)
        ]
        self.seen: Counter[str] = Counter()

    async def run(self, seconds: float) -> list[str]:
        """What was wrong."""
        await self._begin()
        past, random = self._past, Random(f"{self._seed}/plan")
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=random.choice((3, 50)))
        async with httpx.AsyncClient(base_url=self._url, timeout=30, limits=limits) as http:

            def writer(name: str) -> Writer:
                return Writer(name, Random(f"{self._seed}/{name}"), past, http)

            for kind, content_type in KINDS.items():
                for number in range(2):
                    path = f"{past.prefix}/{kind}{number}"
                    assert (await writer("m0").make(path, content_type)).status_code == 201
                    past.lasting.append(path)
            past.types |= {f"{past.prefix}/gone": TEXT, f"{past.prefix}/ttl": TEXT}
            past.types[f"runs/{past.run}/lines"] = JSON
            ends = time.monotonic() + seconds
            async with asyncio.TaskGroup() as group:
                first = int(past.prefix[1:]) * 10**7
                for n in range(3):
                    task = writer(f"sql{n}").write_in_transactions(
                        self._database, ends, first + n * 10**6
                    )
                    group.create_task(task)
                for n in range(2):
                    group.create_task(writer(f"post{n}").write_plainly(ends))
                    group.create_task(writer(f"producer{n}").produce(ends))
                    group.create_task(writer(f"lines{n}").send_lines(ends))
                group.create_task(writer("fork0").fork(ends))
                group.create_task(writer("close0").close_some(ends))
                group.create_task(writer("gone0").come_and_go(ends, f"{past.prefix}/gone", None))
                group.create_task(writer("ttl0").come_and_go(ends, f"{past.prefix}/ttl", 2))
                for reader in self._readers:
                    group.create_task(reader.read(ends))
            ender = writer("end0")
            for path in past.lasting:
                await ender.end(path)
        truth = Truth(self._database, past.prefix)
        await self._finish(truth)
        self.seen = sum((reader.seen for reader in self._readers), past.seen)
        return [*self._faults(truth), *await self._disorder(truth)]

    async def _begin(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._database, autocommit=True
        ) as connection:
            await connection.execute(
                "insert into pgtide.runs (id, task) values (%s, 't')", (self._past.run,)
            )
        # Its log tells the order of transactions.
        await self._log("-1", None)

    async def _finish(self, truth: Truth) -> None:
        """Every lasting stream is read to its end in every way, and nothing hangs."""
        lasting = [
            (stream.path, len(stream.messages))
            for stream in truth.streams.values()
            if stream.path in (*self._past.lasting, f"runs/{self._past.run}/lines")
        ]
        async with asyncio.TaskGroup() as group:
            turn = 0
            for path, end in lasting:
                kinds = ("run",) if path.startswith("runs/") else ("page", "poll", "sse")
                for kind in kinds:
                    # One at a time at each.
                    reader = StreamReader(
                        f"last {kind}", Random(f"{self._seed}/last/{turn}"), self._url, self._past
                    )
                    self._readers.append(reader)
                    group.create_task(reader.finish(kind, path, end))
                    turn += 1

    # -- what was wrong ----------------------------------------------------------------------------

    def _faults(self, truth: Truth) -> list[str]:
        past = self._past
        found = [*past.faults, *truth.faults]
        names = truth.names()
        for name, (path, end) in past.acknowledged.items():
            if names[name] != 1:
                found.append(f"{name} of {path} is there {names[name]} times")
            elif end is not None and not any(
                f"<{name} ".encode() in stream.messages[position]
                for stream in truth.of(path)
                for position in range(max(0, end - 5), min(end, len(stream.messages)))
            ):
                found.append(f"{name} is not before {end} of {path}")
        found += [f"{name} is there" for name in past.undone if names[name]]
        found += _fork_faults(past, truth)
        for reader in self._readers:
            found += reader.faults
            for piece in reader.pieces:
                if (fault := _fault_of(piece, truth, past)) is not None:
                    found.append(f"{reader.name}: {fault}")
        return found

    async def _disorder(self, truth: Truth) -> list[str]:
        """Transactions are in the order of their commits in every stream."""
        order = {number: place for place, number in enumerate(await self._order())}
        found: list[str] = []
        for stream in truth.streams.values():
            last, number = -1, 0
            for message in stream.written:
                for _, text in MARK.findall(message):
                    place = order.get(int(text), last) if text != b"0" else last
                    if place < last:
                        found.append(f"{stream.path}: {int(text)} after {number}")
                    last, number = place, int(text) or number
            self.seen["transactions"] += last >= 0
        return found

    async def _order(self) -> list[int]:
        offset, handle = self._handle_offset, self._handle
        found: list[int] = []
        while True:
            messages, offset, handle, up_to_date = await self._log(offset, handle)
            found += [int(one["value"]["n"]) for one in messages if "value" in one]
            if up_to_date:
                return found

    async def _log(self, offset: str, handle: str | None) -> tuple[list[Any], str, str, bool]:
        async with httpx.AsyncClient(timeout=30) as http:
            parameters = {"table": "rows", "offset": offset}
            if handle is not None:
                parameters["handle"] = handle
            answer = await http.get(f"{self._url}/v1/shape", params=parameters)
        assert answer.status_code == 200, answer.text
        headers = answer.headers
        self._handle_offset, self._handle = headers["electric-offset"], headers["electric-handle"]
        return answer.json(), self._handle_offset, self._handle, "electric-up-to-date" in headers


def _fault_of(piece: Piece, truth: Truth, past: Past) -> str | None:
    """None if it is what one of the streams under the path had there."""
    streams = truth.of(piece.path)
    if piece.stream is not None:
        streams = [stream for stream in streams if stream.id == piece.stream]
    if piece.path in past.lasting and piece.asked not in (None, piece.begin):
        return f"{piece.kind} of {piece.path} from {piece.asked} begins at {piece.begin}"
    for stream in streams:
        if piece.end > len(stream.messages):
            continue
        if stream.slice(piece.begin, piece.end) == piece.data and (
            not piece.closed or piece.end == len(stream.messages)
        ):
            return None
    had = [
        (stream.id, len(stream.messages), stream.slice(piece.begin, piece.end))
        for stream in streams
        if piece.end <= len(stream.messages)
    ]
    return f"{piece} is none of {had}"


def _fork_faults(past: Past, truth: Truth) -> list[str]:
    """Forks begin with what their sources had."""
    found: list[str] = []
    for _, source, position, sub_offset, path in past.forked:
        for fork in truth.of(path):
            origins = [one for one in truth.of(source) if one.id < fork.id]
            if not any(_is_fork(fork, one, position, sub_offset) for one in origins):
                found.append(f"{path} is no fork of {source} at {position} and {sub_offset}")
    return found


def _is_fork(fork: Stream, source: Stream, position: int, sub_offset: int) -> bool:
    begin = fork.fork_position
    if position not in (-1, begin) or fork.messages[:begin] != source.messages[:begin]:
        return False
    if sub_offset < 1:
        return True
    if fork.is_json:
        return fork.piece() == source.messages[begin : begin + sub_offset]
    return fork.piece() == [source.messages[begin][:sub_offset]]
