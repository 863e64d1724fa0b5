"""@durable-streams/client and @durable-streams/state in node, unmodified: the cases of
streams/durable_streams.mjs, and readers whose connections are cut again and again.

PGTIDE_CASES is a pattern for the names of cases: only those.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from runs_server import RunsServer
from suite import run_suite
from tcp_proxy import TcpProxy

FOLDER = Path(__file__).parent / "streams"
MESSAGES = 120
CUTS = 8
PATIENCE = 60.0


def test_the_packages(node: str, runs_server: RunsServer) -> None:
    run_suite(node, FOLDER / "durable_streams.mjs", runs_server.environ)


@pytest.mark.parametrize("live", ["long-poll", "sse"])
async def test_a_reader_whose_connections_are_cut_misses_and_repeats_nothing(
    node: str, runs_server: RunsServer, live: str
) -> None:
    port = urlsplit(runs_server.url).port
    assert port is not None
    path = f"/v1/stream/cut/{live}"
    authorization = {"authorization": f"Bearer {runs_server.root_key}"}
    async with (
        TcpProxy(port).running() as proxy,
        httpx.AsyncClient(base_url=runs_server.url, headers=authorization) as http,
    ):
        made = await http.put(path, headers={"content-type": "application/json"})
        assert made.status_code == 201
        reader = await asyncio.create_subprocess_exec(
            *(node, str(FOLDER / "reader.mjs"), f"http://127.0.0.1:{proxy.port}{path}"),
            *(live, runs_server.root_key),
            stdout=asyncio.subprocess.PIPE,
        )
        assert reader.stdout is not None
        seen: list[int] = []

        async def read_to(count: int) -> None:
            assert reader.stdout is not None
            while len(seen) < count and (line := await reader.stdout.readline()):
                seen.append(json.loads(line))

        try:
            async with asyncio.timeout(PATIENCE):
                for number in range(MESSAGES):
                    sent = await http.post(path, json=[number])
                    assert sent.status_code == 204
                    if number % (MESSAGES // CUTS) == 1:
                        # One that reads, or waits.
                        await read_to(number // 2 + 1)
                        proxy.cut()
                closed = await http.post(path, headers={"stream-closed": "true"})
                assert closed.status_code == 204
                await read_to(MESSAGES + 1)
                assert await reader.wait() == 0
        finally:
            if reader.returncode is None:
                reader.kill()
                await reader.wait()
    assert seen == list(range(MESSAGES))
