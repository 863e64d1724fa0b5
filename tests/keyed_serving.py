"""A server that is closed to whoever has no key, with pgtide's own tables: what tests of runs use."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql
from serving import Serving, Setting, fresh_database

from engine.postgres.migrate import migrate

ZONE = "America/St_Johns"
"""Of the database: half an hour off whole hours, so that times that are not in UTC are seen."""


class Keyed(NamedTuple):
    serving: Serving
    database_url: str


@contextmanager
def keyed_serving(server_url: str, folder: Path, **settings: Setting) -> Generator[Keyed]:
    """Two nodes on a new database, for as long as this lasts. Keys are in `settings`: `secret_keys`, or
    those of a `config_file`."""
    with fresh_database(server_url) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            name = sql.Identifier(connection.info.dbname)
            connection.execute(sql.SQL("alter database {} set timezone to {}").format(name, ZONE))
        serving = Serving(url, folder, **{"insecure": False, **settings})
        asyncio.run(migrate(url, stream_id=serving.stream_id))
        with serving:
            yield Keyed(serving, url)
