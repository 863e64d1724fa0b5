"""Servers and databases that the tests of this folder share; each test makes tables of its own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from urllib.parse import quote, urlsplit

import httpx
import pytest
from access_tokens import SECRET_KEY
from back_ends import SETTINGS, BackEnd
from guarded import SECRET, Guarded, KeyFiles
from keyed_serving import keyed_serving
from serving import Serving, fresh_database
from tables import Tables

from bench.nginx import Nginx, find_program, open_nginx


@pytest.fixture(scope="session")
def database_of_server(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def server(database_of_server: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """Two nodes with the settings that users get. A connection may reach either of them."""
    with Serving(database_of_server, tmp_path_factory.mktemp("pgtide")) as serving:
        yield serving


@pytest.fixture(scope="session")
def tables(database_of_server: str, server: Serving) -> Generator[Tables]:
    """The database of `server`."""
    assert server.url
    with closing(Tables(database_of_server)) as made:
        yield made


@pytest.fixture(scope="session")
def database_of_watchful(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def watchful(
    database_of_watchful: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Serving]:
    """Two nodes that look at the catalog all the time."""
    with Serving(
        database_of_watchful, tmp_path_factory.mktemp("pgtide-watchful"), catalog_interval=0.2
    ) as serving:
        yield serving


@pytest.fixture(scope="session")
def watchful_tables(database_of_watchful: str, watchful: Serving) -> Generator[Tables]:
    """The database of `watchful`."""
    assert watchful.url
    with closing(Tables(database_of_watchful)) as made:
        yield made


@pytest.fixture(scope="session")
def database_of_brief(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def brief(database_of_brief: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """One node that waits briefly, sends little at a time, and lets shapes be deleted."""
    with Serving(
        database_of_brief,
        tmp_path_factory.mktemp("pgtide-brief"),
        nodes=1,
        long_poll_timeout=0.4,
        sse_timeout=1.5,
        sse_keepalive=0.4,
        chunk_bytes=10000,
        enable_delete=True,
    ) as serving:
        yield serving


@pytest.fixture(scope="session")
def brief_tables(database_of_brief: str, brief: Serving) -> Generator[Tables]:
    """The database of `brief`."""
    assert brief.url
    with closing(Tables(database_of_brief)) as made:
        yield made


@pytest.fixture(scope="session")
def database_of_cached(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def secret() -> str:
    """Of `cached`."""
    return "open sesame/&"


@pytest.fixture(scope="session")
def cached(
    database_of_cached: str, secret: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Serving]:
    """Two nodes with a secret, for caches in front of them."""
    with Serving(
        database_of_cached,
        tmp_path_factory.mktemp("pgtide-cached"),
        long_poll_timeout=1,
        chunk_bytes=10000,
        enable_delete=True,
        secret=secret,
    ) as serving:
        yield serving


@pytest.fixture(scope="session")
def cached_tables(database_of_cached: str, cached: Serving) -> Generator[Tables]:
    """The database of `cached`."""
    assert cached.url
    with closing(Tables(database_of_cached)) as made:
        yield made


@pytest.fixture(scope="session")
def nginx_program() -> str:
    """Where nginx is. Skips where there is none; .ci/run installs it."""
    found = find_program()
    if found is None:
        pytest.skip("no nginx on this machine")
    return found


@pytest.fixture(scope="session")
def nginx(
    nginx_program: str, cached: Serving, secret: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Nginx]:
    """deploy/nginx.conf in front of `cached`; it adds the secret, which must not be in its logs."""
    assert nginx_program
    port = urlsplit(cached.url).port
    assert port is not None
    encoded = quote(secret, safe="")
    with open_nginx(tmp_path_factory.mktemp("nginx"), port, secret=encoded) as running:
        yield running
    for log in (running.log_path.read_text(), running.errors):
        assert secret not in log
        assert encoded not in log


@pytest.fixture(scope="session")
def database_of_strict(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def strict(database_of_strict: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """Two nodes with little patience and room for few requests, whose metrics can be read."""
    with Serving(
        database_of_strict,
        tmp_path_factory.mktemp("pgtide-strict"),
        tcp_read_timeout=2,
        tcp_send_timeout=2,
        max_concurrent_requests='{"initial": 2, "existing": 8}',
        max_live_requests=24,
        prometheus_port=0,
        log_level="debug",
    ) as serving:
        yield serving


@pytest.fixture(scope="session")
def strict_tables(database_of_strict: str, strict: Serving) -> Generator[Tables]:
    """The database of `strict`."""
    assert strict.url
    with closing(Tables(database_of_strict)) as made:
        yield made


@pytest.fixture(scope="session")
def database_of_lone(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def lone(database_of_lone: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """One node, at which equal requests meet."""
    with Serving(
        database_of_lone, tmp_path_factory.mktemp("pgtide-lone"), nodes=1, long_poll_timeout=3
    ) as serving:
        yield serving


@pytest.fixture(scope="session")
def lone_tables(database_of_lone: str, lone: Serving) -> Generator[Tables]:
    """The database of `lone`."""
    assert lone.url
    with closing(Tables(database_of_lone)) as made:
        yield made


@pytest.fixture(scope="session")
def back_end(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[BackEnd]:
    """Two nodes with keys of two environments."""
    folder = tmp_path_factory.mktemp("pgtide-keyed")
    settings = folder / "pgtide.toml"
    settings.write_text(SETTINGS)
    with (
        keyed_serving(
            server_url, folder / "pgtide", config_file=settings, long_poll_timeout=2
        ) as keyed,
        closing(Tables(keyed.database_url)) as tables,
        httpx.Client(timeout=30) as http,
    ):
        yield BackEnd(keyed.serving.url, tables, http)


@pytest.fixture(scope="session")
def guarded(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Guarded]:
    """Two nodes with a secret, keys, and a settings file that tests may change for a while."""
    folder = tmp_path_factory.mktemp("pgtide-guarded")
    files = KeyFiles(folder)
    with (
        keyed_serving(
            server_url,
            folder / "pgtide",
            secret=SECRET,
            secret_keys=SECRET_KEY,
            config_file=files.settings,
            enable_delete=True,
            log_level="debug",
        ) as keyed,
        closing(Tables(keyed.database_url)) as tables,
    ):
        yield Guarded(keyed.serving, tables, files)
