"""The clients of `bench.runs`, in a process of their own: `python -m bench.run_reader_process`.

Each follows one run over a connection of its own, as the packages do: the first answer, then long
polls until the run is over. The first line of the input is a JSON object with `port` and `runs`;
answered by `ready` once all of them wait, and by `done` once all runs have ended.
"""

from __future__ import annotations

import asyncio
import re
import sys

import orjson

from bench.reader_process import Connection

OPENING_AT_A_TIME = 48

_HANDLE = re.compile(rb"\r\nelectric-handle: ([^\r]+)\r\n")
_OFFSET = re.compile(rb"\r\nelectric-offset: ([^\r]+)\r\n")
_CURSOR = re.compile(rb"\r\nelectric-cursor: ([^\r]+)\r\n")
_UP_TO_DATE = b"\r\nelectric-up-to-date:"
_OVER = b'"completedAt":"'


class _RunConnection(Connection):
    def get(self, target: str) -> None:
        assert self._transport is not None
        self._transport.write(
            b"GET /realtime/v1/runs/%b HTTP/1.1\r\nhost: localhost\r\n"
            b"x-trigger-electric-version: 1\r\nx-trigger-api-version: 2025-07-16\r\n\r\n"
            % target.encode()
        )


class _Follower:
    def __init__(self, connection: _RunConnection, run: str) -> None:
        self._connection = connection
        self._run = run
        loop = asyncio.get_running_loop()
        self.waits: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        connection.on_answer = self._on_answer
        connection.get(f"{run}?log=full&offset=-1")

    def _on_answer(self, head: bytes, body: bytes) -> None:
        if _OVER in body:
            self._connection.close()
            if not self.waits.done():
                self.waits.set_result(None)
            self.over.set_result(None)
            return
        handle, offset = _HANDLE.search(head), _OFFSET.search(head)
        assert handle is not None
        assert offset is not None
        query = f"{self._run}?log=full&handle={handle[1].decode()}&offset={offset[1].decode()}"
        if _UP_TO_DATE in head:
            cursor = _CURSOR.search(head)
            query += f"&live=true&cursor={cursor[1].decode() if cursor else ''}"
            if not self.waits.done():
                self.waits.set_result(None)
        self._connection.get(query)


async def _follow(port: int, runs: list[str]) -> None:
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(OPENING_AT_A_TIME)

    async def open_one(run: str) -> _Follower:
        async with room:
            _, connection = await loop.create_connection(
                lambda: _RunConnection(b"localhost"), "127.0.0.1", port
            )
            follower = _Follower(connection, run)
            await follower.waits
            return follower

    followers = await asyncio.gather(*map(open_one, runs))
    _say("ready")
    await asyncio.gather(*(follower.over for follower in followers))
    _say("done")


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    import uvloop

    plan = orjson.loads(sys.stdin.buffer.readline())
    uvloop.run(_follow(plan["port"], plan["runs"]))


if __name__ == "__main__":
    main()
