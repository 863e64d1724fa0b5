"""How pgtide reaches Postgres and is reached: TLS and its verification, IPv6, TCP's signs of life."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from load import CREATE
from serving import Serving, Setting
from shape_client import ShapeClient
from shape_rows import Subject
from tls_proxy import Certificates, TlsProxy, make_certificates

from engine.postgres.database_url import APPLICATION_NAME

IDLE_SECONDS = 700


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "DNS:localhost,IP:::1")


@asynccontextmanager
async def behind_tls(
    database: str,
    folder: Path,
    certificates: Certificates,
    *,
    proxy_host: str = "127.0.0.1",
    name: str = "localhost",
    query: str = "",
    **settings: Setting,
) -> AsyncGenerator[tuple[Serving, TlsProxy]]:
    """Launched, not waited for. `name` is the server's in the URL."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
    parts = urlsplit(database)
    async with TlsProxy(parts.port or 5432, certificates, proxy_host).running() as proxy:
        url = f"postgresql://{parts.username}@{name}:{proxy.port}{parts.path}{query}"
        server = Serving(url, folder, nodes=1, **settings)
        await asyncio.to_thread(server.launch)
        try:
            yield server, proxy
        finally:
            await asyncio.to_thread(server.stop)
    server.check_log()
    assert proxy.plain == 0, "it tried without TLS"


async def check_snapshot(server: Serving) -> None:
    await asyncio.to_thread(server.wait_active)
    client = ShapeClient(server.url, Subject("jobs"))
    await asyncio.wait_for(client.catch_up(), 60)
    assert len(client.rows) == 120
    assert not client.counts.refusals, client.describe()


async def test_required(database: str, tmp_path: Path, certificates: Certificates) -> None:
    query = "?sslmode=require"
    async with behind_tls(database, tmp_path / "p", certificates, query=query) as (server, proxy):
        await check_snapshot(server)
        # The walsender, the engine's queries, a node's look-ups, its snapshots.
        assert proxy.encrypted >= 4


async def test_verified_and_over_ipv6(
    database: str, tmp_path: Path, certificates: Certificates
) -> None:
    """A CA file alone asks for full verification; the addresses on both sides are IPv6."""
    async with behind_tls(
        database,
        tmp_path / "p",
        certificates,
        proxy_host="::1",
        name="[::1]",
        host="::1",
        database_ca_file=certificates.authority,
    ) as (server, proxy):
        await check_snapshot(server)
        assert server.url.startswith("http://[::1]:")
        assert proxy.encrypted >= 4
        assert "sslmode=verify-full" in server.log


@pytest.mark.parametrize(
    ("query", "authority", "name"),
    [
        ("?sslmode=require", "stranger", "localhost"),
        ("?sslmode=verify-full", "authority", "127.0.0.1"),
    ],
    ids=["another authority", "another name"],
)
async def test_whoever_is_not_the_server_is_refused(
    database: str,
    tmp_path: Path,
    certificates: Certificates,
    query: str,
    authority: str,
    name: str,
) -> None:
    trusted = certificates.authority if authority == "authority" else certificates.stranger
    async with behind_tls(
        database, tmp_path / "p", certificates, name=name, query=query, database_ca_file=trusted
    ) as (server, _):
        said = ("certificate verify failed", "does not match host name")
        await asyncio.to_thread(
            server.until, lambda: any(words in server.log for words in said), "says nothing"
        )
        assert "streaming from" not in server.log


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")
async def test_keepalives_reach_every_socket(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
        with Serving(
            database,
            tmp_path / "pgtide",
            nodes=1,
            database_tcp_keepalive_idle=IDLE_SECONDS,
            database_tcp_keepalive_interval=20,
            database_tcp_keepalive_count=4,
        ) as server:
            client = ShapeClient(server.url, Subject("jobs"))
            await client.catch_up()
            ports = {
                row[0]
                for row in connection.execute(
                    "select client_port from pg_stat_activity"
                    " where datname = current_database() and application_name = %s",
                    (APPLICATION_NAME,),
                )
            }
            assert len(ports) >= 4
            deadline = asyncio.get_running_loop().time() + 10
            while (left := _keepalive_seconds(ports)).keys() != ports:
                # One that waits for an acknowledgement has another timer for a moment.
                assert asyncio.get_running_loop().time() < deadline, left
                await asyncio.sleep(0.05)
            assert all(IDLE_SECONDS / 2 < seconds <= IDLE_SECONDS for seconds in left.values())


def _keepalive_seconds(ports: set[int]) -> dict[int, float]:
    """Local port to the time until its next keepalive is due."""
    found: dict[int, float] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        port = int(words[1].partition(":")[2], 16)
        timer, when = words[5].split(":")
        if port in ports and timer == "02":
            found[port] = int(when, 16) / 100
    return found
