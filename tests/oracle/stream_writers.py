"""Writers of streams: in transactions, over HTTP, as producers that repeat themselves, line by line."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import httpx
import psycopg
from psycopg import errors

TEXT, JSON, BYTES = "text/plain", "application/json", "application/octet-stream"
LETTERS = ["a", "ä", "€", "😀", " ", "\n", "\n ", ",", '"', "[", "]", "{", "}", "\\", "data:", "\t"]


class Past:
    """What writers know of what they did. `acknowledged` have to be there once, `undone` never;
    others may be."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.acknowledged: dict[str, tuple[str, int | None]] = {}
        """By message: its path, and the position behind what it came with, if that is known."""
        self.undone: set[str] = set()
        self.tails: dict[str, int] = {}
        """What whoever reads a lasting stream from now on has to see."""
        self.types: dict[str, str] = {}
        self.lasting: list[str] = []
        self.forked: list[tuple[int, str, int, int, str]] = []
        """Forks: of which path, from where on, with how much more, under which path."""
        self.closed: list[str] = []
        self.run = ""
        self.faults: list[str] = []
        self.seen: Counter[str] = Counter()

    def committed(self, names: list[str], path: str, end: int | None) -> None:
        for name in names:
            self.acknowledged[name] = path, end
        if end is not None and path in self.lasting:
            self.tails[path] = max(end, self.tails.get(path, 0))


class Writer:
    """One writer; `write` goes on until `ends` (monotonic)."""

    def __init__(self, name: str, random: Random, past: Past, http: httpx.AsyncClient) -> None:
        self._name = name
        self._random = random
        self._past = past
        self._http = http
        self._count = 0

    def _message(self, transaction: int = 0) -> tuple[str, str]:
        """Name and text of a new message."""
        self._count += 1
        name = f"{self._name}-{self._count}"
        size = self._random.choice((0, 1, 3, 10, 10, 40, 3000, 12_000))
        rest = "".join(self._random.choice(LETTERS) for _ in range(min(size, 200)))
        return name, f"<{name} t={transaction}>{rest * max(1, size // 200)}"

    def _lasting(self) -> str:
        return self._random.choice(self._past.lasting)

    async def _pause(self) -> None:
        if self._random.random() < 0.3:
            await asyncio.sleep(self._random.random() * 0.05)

    # -- in SQL ------------------------------------------------------------------------------------

    async def write_in_transactions(self, database: str, ends: float, first: int) -> None:
        transaction = first
        async with await psycopg.AsyncConnection.connect(database) as connection:
            while time.monotonic() < ends:
                transaction += 1
                self._names: list[tuple[str, str, int]] = []
                try:
                    await self._transaction(connection, transaction)
                except (errors.DeadlockDetected, errors.ObjectNotInPrerequisiteState) as error:
                    await connection.rollback()
                    self._past.undone.update(name for name, _, _ in self._names)
                    self._past.seen[type(error).__name__] += 1
                await self._pause()

    async def _transaction(
        self, connection: psycopg.AsyncConnection[Any], transaction: int
    ) -> None:
        random = self._random
        inserted = False
        for _ in range(random.choice((1, 1, 2, 4))):
            if not inserted and random.random() < 0.6:
                await connection.execute("insert into rows values (%s)", (transaction,))
                inserted = True
            if random.random() < 0.2:
                await connection.execute("savepoint s")
                name = await self._append(connection, transaction)
                await connection.execute("rollback to savepoint s")
                self._past.undone.add(name)
                self._names.pop()
                self._past.seen["savepoint"] += 1
            await self._append(connection, transaction)
            if random.random() < 0.05:
                await asyncio.sleep(random.random() * 0.5)
        if not inserted:
            await connection.execute("insert into rows values (%s)", (transaction,))
        if random.random() < 0.2:
            await connection.rollback()
            self._past.undone.update(name for name, _, _ in self._names)
            self._past.seen["rollback"] += 1
            return
        await connection.commit()
        for name, path, end in self._names:
            self._past.committed([name], path, end)
        self._past.seen["commit"] += 1

    async def _append(self, connection: psycopg.AsyncConnection[Any], transaction: int) -> str:
        path = self._lasting()
        name, text = self._message(transaction)
        kind, value = "text", text
        if self._past.types[path] == JSON:
            kind, value = "jsonb", json.dumps(text)
        self._names.append((name, path, 0))
        row = await (
            await connection.execute(
                f"select pgtide.append(%s, %s::{kind})".encode(), (path, value)
            )
        ).fetchone()
        assert row is not None
        self._names[-1] = name, path, row[0]
        return name

    # -- over HTTP ---------------------------------------------------------------------------------

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = {"content-type": self._past.types[path], **(headers or {})}
        return await self._http.post(f"/v1/stream/{path}", content=body, headers=sent)

    def _body(self, path: str) -> tuple[list[str], bytes]:
        """Names of messages, and a body of them."""
        if self._past.types[path] != JSON:
            name, text = self._message()
            body = text.encode()
            if self._random.random() < 0.1:
                body += "😀".encode()[: self._random.randint(1, 3)]
            return [name], body
        found = [self._message() for _ in range(self._random.choice((1, 1, 2, 5)))]
        values = [self._random.choice((text, {"x": [text, 1.50]}, [text])) for _, text in found]
        return [name for name, _ in found], json.dumps(values).encode()

    async def write_plainly(self, ends: float) -> None:
        sequence = 0
        sequenced = self._lasting()
        while time.monotonic() < ends:
            path = self._lasting()
            names, body = self._body(path)
            headers: dict[str, str] = {}
            if path == sequenced and self._random.random() < 0.5:
                sequence += 1
                headers["stream-seq"] = f"{self._name}{sequence:08}"
            answer = await self.post(path, body, headers)
            if answer.status_code == 409 and headers:
                self._past.undone.update(names)
                self._past.seen["old Stream-Seq"] += 1
            else:
                assert answer.status_code == 204, answer.text
                self._past.committed(names, path, tail_of(answer))
            await self._pause()

    async def produce(self, ends: float) -> None:
        """Several at a time, in any order, and some again."""
        path, epoch, sequence = self._lasting(), 0, 0
        while time.monotonic() < ends:
            if self._random.random() < 0.05:
                epoch, sequence = epoch + 1, 0
                path = path if self._random.random() < 0.5 else self._lasting()
            requests: list[Callable[[], Awaitable[None]]] = []
            count = 1 if not sequence else self._random.randint(1, 6)
            for _ in range(count):
                names, body = self._body(path)
                stamp = {
                    "producer-id": self._name,
                    "producer-epoch": str(epoch),
                    "producer-seq": str(sequence),
                }
                sequence += 1

                async def send(
                    path: str = path,
                    names: list[str] = names,
                    body: bytes = body,
                    stamp: dict[str, str] = stamp,
                ) -> None:
                    deadline = time.monotonic() + 20
                    while True:
                        answer = await self.post(path, body, stamp)
                        if answer.status_code != 409:
                            break
                        assert time.monotonic() < deadline, (stamp, answer.headers)
                        self._past.seen["gap"] += 1
                        await asyncio.sleep(0.01)
                    assert answer.status_code in (200, 204), answer.text
                    known = answer.status_code == 200
                    if known or names[0] not in self._past.acknowledged:
                        self._past.committed(names, path, tail_of(answer) if known else None)
                    self._past.seen["repeated"] += not known

                requests += [send] * self._random.choice((1, 1, 2))
            self._random.shuffle(requests)
            async with asyncio.TaskGroup() as group:
                for request in requests:
                    group.create_task(request())  # pyright: ignore[reportArgumentType]
            await self._pause()

    async def send_lines(self, ends: float) -> None:
        """Lines for a stream of a run; now and then some of those before come again."""
        path, run = f"runs/{self._past.run}/lines", self._past.run
        lines: list[bytes] = []
        while time.monotonic() < ends:
            start = max(0, len(lines) - self._random.choice((0, 0, 1, 4)))
            fresh = [self._message() for _ in range(self._random.choice((1, 2, 10)))]
            lines += [json.dumps(text).encode() for _, text in fresh]
            answer = await self._http.post(
                f"/realtime/v1/streams/{run}/self/lines",
                content=b"\n".join(lines[start:]) + b"\n",
                headers={"x-client-id": self._name, "x-resume-from-chunk": str(start)},
            )
            assert answer.status_code == 200, answer.text
            assert int(answer.headers["x-last-chunk-index"]) == len(lines) - 1
            self._past.committed([name for name, _ in fresh], path, None)
            await self._pause()

    async def end(self, path: str) -> None:
        """A last message that is whole: what ends inside a character is held back from events."""
        name, text = self._message()
        body = json.dumps([text]) if self._past.types[path] == JSON else text
        answer = await self.post(path, body.encode())
        assert answer.status_code == 204, answer.text
        self._past.committed([name], path, tail_of(answer))

    # -- streams that come and go ------------------------------------------------------------------

    async def make(self, path: str, kind: str, **headers: str) -> httpx.Response:
        self._past.types[path] = kind
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if "stream-forked-from" not in sent:
            sent["content-type"] = kind
        return await self._http.put(f"/v1/stream/{path}", headers=sent)

    async def fork(self, ends: float) -> None:
        """Forks of lasting streams and of forks; some are deleted, some of those made again."""
        made: list[str] = []
        while time.monotonic() < ends:
            random = self._random
            source = random.choice(made) if made and random.random() < 0.3 else self._lasting()
            path = f"{self._past.prefix}/fork{len(made)}"
            headers = {"stream_forked_from": f"/v1/stream/{source}"}
            position = sub_offset = -1
            tail = self._past.tails.get(source, 0)
            if random.random() < 0.7 and tail:
                position = random.randrange(tail)
                headers["stream_fork_offset"] = f"{0:016}_{position:016}"
                if random.random() < 0.5:
                    sub_offset = random.randint(1, 3)
                    headers["stream_fork_sub_offset"] = str(sub_offset)
            answer = await self.make(path, self._past.types[source], **headers)
            if answer.status_code != 201:
                # In the middle of a chunk, beyond its end, of a stream that was deleted; or a
                # transaction that locks streams in another order was there first.
                assert answer.status_code in (400, 404, 409, 503), answer.text
                self._past.seen["no fork"] += 1
                continue
            self._past.seen["fork"] += 1
            made.append(path)
            self._past.forked.append((len(made), source, position, sub_offset, path))
            for _ in range(random.randint(0, 2)):
                names, body = self._body(path)
                answer = await self.post(path, body)
                assert answer.status_code == 204, answer.text
                self._past.committed(names, path, tail_of(answer))
            if len(made) > 2 and random.random() < 0.3:
                await self._http.delete(f"/v1/stream/{random.choice(made)}")
            await asyncio.sleep(random.random() * 0.1)

    async def come_and_go(self, ends: float, path: str, ttl: int | None) -> None:
        """A stream that is deleted, or expires, again and again."""
        headers = {} if ttl is None else {"stream_ttl": str(ttl)}
        while time.monotonic() < ends:
            answer = await self.make(path, TEXT, **headers)
            assert answer.status_code in (200, 201), answer.text
            for _ in range(self._random.randint(1, 8)):
                names, body = self._body(path)
                answer = await self.post(path, body)
                if answer.status_code == 204:
                    self._past.committed(names, path, tail_of(answer))
                else:
                    assert answer.status_code == 404
                    assert ttl is not None
                    self._past.undone.update(names)
                await self._pause()
            if ttl is None:
                answer = await self._http.delete(f"/v1/stream/{path}")
                assert answer.status_code == 204
            else:
                await asyncio.sleep(self._random.choice((0.1, 1.2, 2.2)))
            self._past.seen["gone" if ttl is None else "left"] += 1

    async def close_some(self, ends: float) -> None:
        """Short streams that are closed, with data or without."""
        number = 0
        while time.monotonic() < ends:
            number += 1
            path = f"{self._past.prefix}/{self._name}/{number}"
            assert (await self.make(path, self._random.choice((TEXT, JSON)))).status_code == 201
            self._past.closed.append(path)
            for _ in range(self._random.randint(0, 4)):
                names, body = self._body(path)
                answer = await self.post(path, body)
                self._past.committed(names, path, tail_of(answer))
                await self._pause()
            names, body = self._body(path) if self._random.random() < 0.6 else ([], b"")
            answer = await self.post(path, body, {"stream-closed": "true"})
            assert answer.status_code == 204
            self._past.committed(names, path, tail_of(answer))
            names, body = self._body(path)
            assert (await self.post(path, body)).status_code == 409
            self._past.undone.update(names)
            self._past.seen["closed"] += 1
            await asyncio.sleep(self._random.random() * 0.2)


def tail_of(answer: httpx.Response) -> int:
    return int(answer.headers["stream-next-offset"].partition("_")[2])
