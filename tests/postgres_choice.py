"""Which Postgres the tests run: the embedded one of the default version, or PGTIDE_TEST_POSTGRES.

That is a version that the Python package brings (16, 18), or the folder of any installation, such as
/usr/lib/postgresql/15. PGTIDE_TEST_DATABASE_URL names a server that runs already instead (logical WAL,
a superuser, 100 slots); tests that harm their servers, or need settings, still start their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psycopg

from engine.embedded import EmbeddedPostgres
from engine.embedded.place import packaged
from engine.embedded.server import DEFAULT_VERSION


def new_server(
    directory: Path, port: int = 0, options: Mapping[str, str] | None = None
) -> EmbeddedPostgres:
    """A server of the chosen Postgres, not started."""
    chosen = os.environ.get("PGTIDE_TEST_POSTGRES") or str(DEFAULT_VERSION)
    if chosen.isdigit():
        return EmbeddedPostgres(directory, port, int(chosen), options)
    return EmbeddedPostgres(directory, port, options=options, installation=Path(chosen))


def stream_in_progress(connection: psycopg.Connection) -> None:
    """From now on the database's transactions are streamed while they are in progress: all of them, or,
    as Postgres 14 and 15 do it at the most, those whose changes take more than 64 kB."""
    version = connection.info.server_version
    if version >= 160000:
        setting = "debug_logical_replication_streaming = 'immediate'"
    else:
        setting = "logical_decoding_work_mem = '64kB'"
    connection.execute(f"alter database {connection.info.dbname} set {setting}".encode())


def program(server: EmbeddedPostgres, name: str) -> Path:
    """psql and the like, for a running server. Some installations have none: newer ones do, too."""
    own = server.bin / name
    return own if own.exists() else packaged(DEFAULT_VERSION) / "bin" / name
