"""One pgtide is replaced by the next, in the same data folder and at the same address, under load."""

from __future__ import annotations

import asyncio
import re
import secrets
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from load import CREATE, Clients, Load, subjects
from log_progress import log_state
from serving import Serving

ROUNDS = 2
_METRICS = re.compile(r"metrics are served  port=(\d+)")


async def test_nobody_notices(database: str, tmp_path: Path) -> None:
    seed = secrets.token_hex(4)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
    data = tmp_path / "data"
    old = Serving(
        database,
        tmp_path / "0",
        data_dir=data,
        prometheus_port=0,
        long_poll_timeout=3,
        sse_timeout=4,
    )
    started = [old]
    try:
        await asyncio.to_thread(old.start)
        epoch = log_state(data).epoch
        clients = Clients(old.url, subjects=subjects()[::2])
        async with clients.following():
            async with Load(database, seed, writers=2).running():
                for number in range(ROUNDS):
                    new = _successor(database, tmp_path / str(number + 1), old)
                    started.append(new)
                    await asyncio.to_thread(new.launch)
                    old = await asyncio.to_thread(_replace, old, new)
                    clients.check()
            await clients.converge(database, data, seed)
            for client in clients.clients:
                assert not client.counts.refusals, client.describe()
                assert not client.counts.reconnects, client.describe()
        assert log_state(data).epoch == epoch
    finally:
        for server in started:
            await asyncio.to_thread(server.stop)


def _successor(database: str, folder: Path, old: Serving) -> Serving:
    port = urlsplit(old.url).port
    assert port is not None
    return Serving(
        database,
        folder,
        data_dir=old.folder.parent / "data",
        stream_id=old.stream_id,
        port=port,
        prometheus_port=_metrics_port(old),
        long_poll_timeout=3,
        sse_timeout=4,
    )


def _replace(old: Serving, new: Serving) -> Serving:
    """The old one ends once the new one serves from the log that they share."""
    new.until(lambda: "pgtide waits at http" in new.log, "does not wait")
    new.until(lambda: new.log.count("serving") >= 2 and "  serving\n" in new.log, "does not serve")
    assert "sharing the port" in new.log
    metrics = _metrics_port(old)
    assert f"metrics are served once port {metrics} is free" in new.log
    assert _engines_cpu(metrics) > 0
    old.stop()
    old.check_log()
    new.wait_active()
    new.until(lambda: _METRICS.search(new.log) is not None, "serves no metrics")
    assert _metrics_port(new) == metrics
    assert _engines_cpu(metrics) > 0
    return new


def _metrics_port(server: Serving) -> int:
    found = _METRICS.search(server.log)
    assert found is not None
    return int(found[1])


def _engines_cpu(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    found = re.search(r'^pgtide_process_cpu_seconds_total\{process="engine"\} (\S+)$', page, re.M)
    assert found is not None, page
    return float(found[1])
