"""A stream whose producer is killed and started again while its readers come and go, and nodes, engine
and Postgres are killed meanwhile: what is read is what was written.

PGTIDE_FAULT_SECONDS is about how long it goes on, PGTIDE_SEED repeats the order of one run.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import httpx
import pytest
from serving import Serving

from engine.embedded import EmbeddedPostgres
from engine.postgres.migrate import migrate

SECONDS = float(os.environ.get("PGTIDE_FAULT_SECONDS") or 10)
KILLS = 6
WORDS = int(SECONDS * 200) + 20_000
"""More than a producer comes to: it is told when it is enough."""
PROGRESS_SECONDS = 30.0
LETTERS = "abc äöü €😀\n\r\t \"'\\{}:"
PRODUCER = Path(__file__).with_name("stream_producer.py")


def random_words(random: Random, count: int) -> list[str]:
    return [
        "".join(random.choice(LETTERS) for _ in range(random.randint(1, 12))) for _ in range(count)
    ]


class Producer:
    """The producer's process, and the one that takes its place. Its files are in `folder`."""

    def __init__(self, url: str, words: list[str], folder: Path) -> None:
        file, self._note, self._over = (folder / name for name in ("words", "note", "over"))
        file.write_text(json.dumps(words), "utf-8")
        paths = map(str, (PRODUCER, url, file, self._note, self._over))
        self._command = [sys.executable, *paths]
        self._process = subprocess.Popen(self._command)
        self.kills = 0

    @property
    def done(self) -> bool:
        code = self._process.poll()
        assert code in (None, 0), f"the producer ended with {code}"
        return code == 0

    def kill(self) -> None:
        assert not self.done
        self._process.kill()
        self._process.wait()
        self._process = subprocess.Popen(self._command)
        self.kills += 1

    @property
    def appended(self) -> int:
        """How many words there are at least."""
        with suppress(FileNotFoundError, ValueError):
            return int(self._note.read_text())
        return 0

    async def get_somewhere(self) -> None:
        """Wait until there are more words, unless something keeps the producer from appending."""
        before, since = self.appended, time.monotonic()
        while self.appended <= before and time.monotonic() < since + PROGRESS_SECONDS:
            await asyncio.sleep(0.02)

    def conclude(self) -> None:
        """Let it close the stream."""
        self._over.touch()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Reader:
    """Reads a stream live, and is interrupted again and again: like a page that is loaded anew it goes
    on from what it kept, or from the start."""

    def __init__(self, url: str, random: Random) -> None:
        self._url = url
        self._random = random
        self._offset = "-1"
        self.text = b""
        self.closed = False
        self.loads = 0

    async def read(self, expected: bytes) -> None:
        """Until the stream is closed and all of it was read."""
        slack = 1.0
        async with httpx.AsyncClient(timeout=30) as client:
            while not self.closed:
                before = self.text
                with suppress(httpx.TransportError, TimeoutError):
                    async with asyncio.timeout(self._random.uniform(0.05, 1.2) * slack):
                        await self._load(client)
                self.loads += 1
                # However slow the machine is, one day it gets an answer.
                slack = slack * 1.5 if self.text == before else 1.0
                assert expected.startswith(self.text), f"after {len(self.text)} bytes"
                if not self.closed and self._random.random() < 0.2:
                    self._offset, self.text = "-1", b""

    async def _load(self, client: httpx.AsyncClient) -> None:
        live: dict[str, str] = {}
        while not self.closed:
            params = {"offset": self._offset, **live}
            answer = await client.get(self._url, params=params)
            if answer.status_code >= 500:
                await asyncio.sleep(0.02)
                continue
            assert answer.status_code in (200, 204), answer.text
            # Not in between: an interruption comes before both or after both.
            self.text += answer.content
            self._offset = answer.headers["stream-next-offset"]
            self.closed = "stream-closed" in answer.headers
            live = {"live": "long-poll"} if "stream-up-to-date" in answer.headers else {}


@pytest.mark.timeout(SECONDS * 3 + 180)
async def test_what_is_read_is_what_was_written(
    seed: str, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    random = Random(f"{seed}/streams")
    words = random_words(random, WORDS)
    expected = "".join(words).encode()
    await migrate(own_postgres.database_url)
    with Serving(own_postgres.database_url, tmp_path / "pgtide", long_poll_timeout=2) as server:
        url = f"{server.url}/v1/stream/texts/{seed}"
        producer = Producer(url, words, tmp_path)
        try:
            async with httpx.AsyncClient() as client:
                await _until_there(client, url)
            readers = [Reader(url, Random(f"{seed}/{number}")) for number in range(3)]
            async with asyncio.TaskGroup() as tasks:
                for reader in readers:
                    tasks.create_task(reader.read(expected))
                await _do_harm(producer, own_postgres, server, random)
            written = "".join(words[: producer.appended]).encode()
            for reader in readers:
                assert reader.text == written
            loads = [reader.loads for reader in readers]
            print(
                f"{producer.kills} kills of the producer, {producer.appended} words, loads {loads}"
            )
            assert producer.appended > KILLS
        finally:
            producer.end()


async def _until_there(client: httpx.AsyncClient, url: str) -> None:
    deadline = time.monotonic() + 30
    while (await client.head(url)).status_code != 200:
        assert time.monotonic() < deadline, "the producer does not make its stream"
        await asyncio.sleep(0.02)


async def _do_harm(
    producer: Producer, postgres: EmbeddedPostgres, server: Serving, random: Random
) -> None:
    """Until the time is up, then let the producer come to an end."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends or producer.kills < KILLS:
        await producer.get_somewhere()
        await asyncio.sleep(random.uniform(0.0, 0.5))
        producer.kill()
        match random.choice(("nobody", "nobody", "node", "engine", "postgres")):
            case "node":
                await asyncio.to_thread(server.kill_node)
            case "engine":
                await asyncio.to_thread(server.kill_engine)
            case "postgres":
                await asyncio.to_thread(postgres.kill)
                await asyncio.to_thread(postgres.start)
            case _:
                pass
    producer.conclude()
    while not producer.done:
        await asyncio.sleep(0.05)
