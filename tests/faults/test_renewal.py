"""Nodes are replaced by fresh ones while clients follow, ask and write."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
from load import CREATE, Clients, Load, subjects
from log_progress import log_state
from serving import Serving

from engine.processes.board import VARIABLE, Board
from engine.processes.program import LEAVE
from shapes.http.server import FAREWELL_SECONDS

SURPLUS = 50_000_000
_METRICS = re.compile(r"metrics are served  port=(\d+)")
_REQUESTS = re.compile(r"^pgtide_requests_total\{kind=\"\w+\"\} (\S+)$", re.MULTILINE)
_ADMITTED = re.compile(
    r"^electric_admission_control_acquire_current\{kind=\"\w+\"\} (\S+)$", re.MULTILINE
)


async def test_nobody_notices(database: str, tmp_path: Path) -> None:
    seed = secrets.token_hex(4)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
    with Serving(
        database,
        tmp_path / "pgtide",
        prometheus_port=0,
        long_poll_timeout=2,
        sse_timeout=3,
        tcp_read_timeout=3,
        node_renewal_interval=0.01,
    ) as server:
        data = server.folder / "data"
        epoch = log_state(data).epoch
        first = server.node_pids()
        clients = Clients(server.url, subjects=subjects()[::2])
        async with clients.following(), visited(server):
            async with Load(database, seed, writers=2).running():
                with board_of(server) as board:
                    for number, successor in ((1, 3), (2, 1)):
                        await renewed(server, board, number, successor)
                        clients.check()
            await clients.converge(database, data, seed)
            for client in clients.clients:
                assert not client.counts.refusals, client.describe()
                assert not client.counts.reconnects, client.describe()
        assert not set(first) & set(server.node_pids())
        assert len(server.node_pids()) == len(first)
        assert log_state(data).epoch == epoch
        await nobody_is_admitted(server)


@contextmanager
def board_of(server: Serving) -> Generator[Board]:
    """What the server's processes share, opened from outside."""
    environ = psutil.Process(server.node_pids()[0]).environ()
    path = f"/proc/{server.pid}/fd/{environ[VARIABLE]}"
    board = Board(os.open(path, os.O_RDWR))
    try:
        yield board
    finally:
        board.close()


async def renewed(server: Serving, board: Board, number: int, successor: int) -> None:
    """Wish for it in the node's place, until it has been done."""
    requests = counted(server)
    done = f"node-{number} has ended, node-{successor} serves"
    async with asyncio.timeout(60):
        while f"node-{number} is renewed: it keeps 50 MB" not in server.log:
            board.wish(number, SURPLUS)
            await asyncio.sleep(0.05)
        while done not in server.log:
            server.check_log()
            assert len(server.node_pids()) <= 3
            await asyncio.sleep(0.05)
    assert counted(server) > requests


@asynccontextmanager
async def visited(server: Serving) -> AsyncGenerator[None]:
    """Somebody asks now and then over connections that stay open: each time there is an answer."""

    async def visit(pause: float) -> None:
        async with httpx.AsyncClient(timeout=20) as client:
            while not ended.is_set():
                answer = await client.get(f"{server.url}/v1/shape?table=jobs&offset=-1")
                assert answer.status_code == 200
                with_subset = f"{server.url}/v1/shape?table=jobs&offset=now&log=changes_only"
                answer = await client.post(with_subset, json={"limit": 3, "order_by": "id"})
                assert answer.status_code == 200
                await asyncio.sleep(pause)

    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for pause in (0.0, 0.3, 0.8, 1.3):
            group.create_task(visit(pause))
        try:
            yield
        finally:
            ended.set()


def page(server: Serving) -> str:
    found = _METRICS.search(server.log)
    assert found is not None
    return httpx.get(f"http://127.0.0.1:{found[1]}/metrics", timeout=20).text


def counted(server: Serving) -> float:
    """How many requests have been answered by all nodes that there have been."""
    return sum(map(float, _REQUESTS.findall(page(server))))


async def nobody_is_admitted(server: Serving) -> None:
    async with asyncio.timeout(20):
        while any(map(float, found := _ADMITTED.findall(page(server)))) or len(found) != 2:
            await asyncio.sleep(0.05)


async def test_who_leaves_hurries_nobody_until_it_is_stopped(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
    with Serving(
        *(database, tmp_path / "pgtide"), nodes=1, long_poll_timeout=60, prometheus_port=0
    ) as server:
        shape = f"{server.url}/v1/shape?table=jobs"
        idle = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
        assert kept_open(idle)
        async with httpx.AsyncClient(timeout=30) as client, asyncio.timeout(60):
            begun = await client.get(f"{shape}&offset=-1")
            handle = begun.headers["electric-handle"]
            live = f"{shape}&handle={handle}&offset=0_inf&live=true"
            waiting = asyncio.create_task(client.get(live))
            while 'pgtide_readers{mode="long_poll"} 1' not in page(server):
                await asyncio.sleep(0.05)
            (node,) = server.node_pids()
            os.kill(node, LEAVE)
            while "leaving to a successor" not in server.log:
                await asyncio.sleep(0.05)
            await asyncio.sleep(2 * FAREWELL_SECONDS)
            # It is as good as ever, for one request more.
            assert not kept_open(idle)
            assert not waiting.done()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert (await waiting).status_code == 200
            await stopping


def kept_open(connection: http.client.HTTPConnection) -> bool:
    """Ask for something over it; whether more may be asked."""
    connection.request("GET", "/v1/health")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b'{"status":"active"}')
    return answer.getheader("connection") != "close"
