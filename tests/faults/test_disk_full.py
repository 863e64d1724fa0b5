"""A full disk under the log: said clearly, nothing lost, and over once there is space again."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from load import CREATE, Clients, Load, subjects
from log_progress import log_state
from serving import Serving

SIZE = 48 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of SIZE bytes; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_disk_full(database: str, tmp_path: Path, small_disk: Path) -> None:
    seed = secrets.token_hex(4)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
    data = small_disk / "data"
    with Serving(
        database, tmp_path / "pgtide", data_dir=data, long_poll_timeout=2, sse_timeout=3
    ) as server:
        clients = Clients(server.url, subjects=subjects()[::2])
        async with clients.following():
            epoch = log_state(data).epoch
            async with Load(database, seed, writers=3, pause=0.003).running():
                await asyncio.sleep(0.5)
                ballast = _fill(small_disk)
                await _until_said(server)
                stuck = log_state(data)
                asking = asyncio.create_task(new_shapes(server, 1))
                await asyncio.sleep(0.7)
                clients.check()
                ballast.unlink()
                # There may be no room for them, which the answer says.
                assert await asking <= {200, 503}
            await clients.converge(database, data, seed, seconds=60)
            assert await new_shapes(server, 2) == {200}
        state = log_state(data)
        assert state.epoch == epoch
        assert state.progress > stuck.progress


async def new_shapes(server: Serving, salt: int) -> set[int]:
    """The statuses of answers to those who ask for shapes that nobody has asked for."""
    async with httpx.AsyncClient(timeout=60) as http:

        async def ask(number: int) -> int:
            where = f"id = {number} AND progress <> {1000 + salt}"
            query = {"table": "jobs", "offset": "-1", "where": where}
            return (await http.get(f"{server.url}/v1/shape", params=query)).status_code

        return set(await asyncio.gather(*map(ask, range(20))))


def _fill(folder: Path) -> Path:
    """Leave no byte free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            return ballast


async def _until_said(server: Serving) -> None:
    deadline = time.monotonic() + 20
    while "is full: free some space" not in server.log:
        assert time.monotonic() < deadline, f"nothing says that the disk is full:\n{server.log}"
        await asyncio.sleep(0.05)
