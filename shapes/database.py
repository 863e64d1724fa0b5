"""A node's connections to Postgres: a few for look-ups, a pool for snapshots, one for writing.

They may lead through a pooler that gives every transaction another connection of its own: then no
state outlives a transaction, nothing stays prepared, and at the start nothing is set but the name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import psycopg
from psycopg.conninfo import make_conninfo

from engine.errors import PgtideError
from engine.postgres.database_url import APPLICATION_NAME, named, parameters
from shapes.snapshots.snapshot_sql import DELIMITER, QUOTE
from shapes.tcp_liveness import kept_alive

log = logging.getLogger("node")

# The text form of values, the same as on the replication connection. Parallel plans are off because
# a snapshot's first line must come first; commits are waited for because of what `copy` says.
SNAPSHOT_SETTINGS = {
    "bytea_output": "hex",
    "datestyle": "ISO, DMY",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "intervalstyle": "iso_8601",
    "standard_conforming_strings": "on",
    "max_parallel_workers_per_gather": "0",
    "synchronous_commit": "local",
}
_BEGIN = "begin; " + "; ".join(
    f"set local {name} = '{value}'" for name, value in SNAPSHOT_SETTINGS.items()
)
_SAY_NOTHING = "select pg_logical_emit_message(true, 'pgtide', '')"

CONNECT_SECONDS = 10
ROLLBACK_SECONDS = 2.0

IDLE_SECONDS = 2.0
"""A connection that was not used for so long is tried before it is relied on."""

_ASYNCPG_PARAMETERS = frozenset(
    """host port user password dbname database sslmode sslrootcert sslcert sslkey sslpassword
    sslcrl passfile service target_session_attrs""".split()  # noqa: SIM905
)
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # Of a connection on which Postgres has said that it ends, and which has not ended yet.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)


# Times without a zone, in tables that are not ours, are UTC. Whoever waits for somebody's lock keeps a
# connection from others.
_BEGIN_WORK = """
    begin isolation level read committed;
    set local timezone = 'UTC';
    set local lock_timeout = '10s'
"""
_WORK_SHARE = 3
"""One of so many connections is for writing, so that snapshots cannot keep writers waiting."""


CATALOG = "catalog"


class DatabaseUnavailableError(PgtideError):
    """Postgres cannot be reached right now. It is tried again with the next request."""

    code = "database_unreachable"


class _Line:
    """A connection for look-ups, whose users take turns."""

    __slots__ = ("connection", "turn", "used")

    def __init__(self) -> None:
        self.connection: psycopg.AsyncConnection | None = None
        self.turn = asyncio.Lock()
        self.used = 0.0


class Database:
    """Connections are made when first needed and made again after they broke."""

    def __init__(
        self, url: str, pool_size: int, silence_seconds: float, *, pooled: bool = False
    ) -> None:
        """A look-up that takes longer than `silence_seconds` is given up with its connection.
        `pooled`: the URL leads to a pooler."""
        self._url = named(url)
        self.pooled = self._pooled = pooled
        self.resting = False
        """Set while nobody needs Postgres, which may want to sleep: nothing is asked in passing."""
        self.silence = self._silence = silence_seconds
        self._work_size = max(2, pool_size // _WORK_SHARE)
        self._size = max(2, pool_size - self._work_size)
        self._pool: asyncpg.Pool | None = None
        self._work_pool: asyncpg.Pool | None = None
        self._working = 0
        self._lines: dict[str, _Line] = {}

    async def close(self) -> None:
        """End all connections. They are made again when needed.

        To rest (`resting`), neither a transaction of `work` nor a look-up is broken off: the next call
        ends its connection.
        """
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()
        if self._work_pool is not None and not (self.resting and self._working):
            self._work_pool.terminate()
            self._work_pool = None
        for line in list(self._lines.values()):
            if line.connection is not None and not (self.resting and line.turn.locked()):
                connection, line.connection = line.connection, None
                await connection.close()

    @asynccontextmanager
    async def work(self) -> AsyncGenerator[asyncpg.Connection]:
        """A transaction on a connection that has no other user: committed at the end, rolled back if
        the body raises. Nothing of the body is done twice.

        Raises DatabaseUnavailableError, also if the commit was not confirmed, and
        asyncpg.PostgresError for what Postgres says about a statement.
        """
        self._working += 1
        try:
            pool = await self._opened_work_pool()
            connection: Any = await self._begin_work(pool)
            try:
                yield connection
                if await connection.execute("commit") != "COMMIT":
                    raise RuntimeError("a statement had failed, so nothing was committed")
            except BaseException:
                await _roll_back(connection)
                raise
            finally:
                await pool.release(connection)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            raise DatabaseUnavailableError("Database has a row locked") from error
        except asyncpg.ReadOnlySQLTransactionError as error:
            raise DatabaseUnavailableError("Database takes no writes") from error
        except (*_LOST, asyncpg.TooManyConnectionsError, asyncpg.QueryCanceledError) as error:
            raise DatabaseUnavailableError("Database is unreachable") from error
        finally:
            self._working -= 1

    async def _begin_work(self, pool: asyncpg.Pool) -> Any:
        """A connection in a transaction. Those that broke while nobody used them are passed over."""
        for attempt in range(self._work_size + 1):
            connection: Any = await pool.acquire(timeout=self._silence)
            try:
                await connection.execute(_BEGIN_WORK)
            except BaseException as error:
                connection.terminate()
                await pool.release(connection)
                if not isinstance(error, _LOST) or attempt == self._work_size:
                    raise
            else:
                return connection
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[psycopg.AsyncConnection]:
        """A connection of its own, for what may take long. Raises DatabaseUnavailableError."""
        connection = await self._connect()
        try:
            yield connection
        except psycopg.OperationalError as error:
            if connection.closed:
                raise DatabaseUnavailableError("Database is unreachable") from error
            raise
        finally:
            await connection.close()

    async def dedicated(self) -> psycopg.AsyncConnection:
        """A connection in autocommit mode that is the caller's to close. Raises
        DatabaseUnavailableError."""
        return await self._connect()

    @asynccontextmanager
    async def lookups(self, line: str = CATALOG) -> AsyncGenerator[psycopg.AsyncConnection]:
        """The connection for quick queries of one kind, to one user at a time. Those that are not about
        the catalog, nor others' tables, are of our own tables: they stay prepared.

        Raises DatabaseUnavailableError.
        """
        one = self._lines.setdefault(line, _Line())
        async with one.turn:
            connection = await self._fresh(one)
            if line != CATALOG and not self._pooled:
                connection.prepare_threshold = 0
            try:
                async with asyncio.timeout(self._silence):
                    yield connection
            except TimeoutError as error:
                await connection.close()
                raise DatabaseUnavailableError("Database does not answer") from error
            except psycopg.OperationalError as error:
                if connection.closed:
                    raise DatabaseUnavailableError("Database is unreachable") from error
                raise
            finally:
                one.used = time.monotonic()

    async def _fresh(self, line: _Line) -> psycopg.AsyncConnection:
        """The connection of a line, made anew if it broke while nobody used it."""
        connection = line.connection
        if connection is not None and time.monotonic() - line.used > IDLE_SECONDS:
            with contextlib.suppress(psycopg.OperationalError):
                await connection.execute("select 1")
        if connection is None or connection.closed:
            connection = line.connection = await self._connect()
        return connection

    async def _connect(self) -> psycopg.AsyncConnection:
        try:
            return await psycopg.AsyncConnection.connect(
                make_conninfo(self._url, connect_timeout=CONNECT_SECONDS),
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError("Database is unreachable") from error

    async def copy(
        self,
        query: str,
        output: Callable[[bytes], Coroutine[Any, Any, None]],
        flush: Callable[[], bool],
    ) -> None:
        """COPY a query's rows to `output`, in pieces that end wherever they end.

        If `flush` then says so, the WAL so far is made durable by committing a transaction that says
        nothing, over the same connection: had the server crashed meanwhile, that would fail.
        Raises DatabaseUnavailableError, and asyncpg.PostgresError for what Postgres says about it.
        """
        try:
            pool = await self._snapshot_pool()
            async with pool.acquire() as connection:
                try:
                    async with self._settled(connection):
                        await connection.copy_from_query(
                            query,
                            output=output,
                            format="csv",
                            delimiter=DELIMITER,
                            quote=QUOTE,
                            encoding="UTF8",
                        )
                        if flush():
                            await connection.execute(_SAY_NOTHING)
                except (asyncio.CancelledError, asyncpg.InternalClientError):
                    # The pool would wait for the answer to its own cancellation, which a dead
                    # connection never gives.
                    connection.terminate()
                    raise
        except _LOST as error:
            raise DatabaseUnavailableError("Database is unreachable") from error

    @asynccontextmanager
    async def _settled(self, connection: Any) -> AsyncGenerator[None]:
        """With SNAPSHOT_SETTINGS: those of the connection, or of one transaction behind a pooler."""
        if not self._pooled:
            yield
            return
        await connection.execute(_BEGIN)
        try:
            yield
        except asyncpg.PostgresError:
            with contextlib.suppress(*_LOST):
                await connection.execute("rollback")
            raise
        await connection.execute("commit")

    async def _snapshot_pool(self) -> asyncpg.Pool:
        if self._pool is None:
            self._pool = self._make_pool(self._size, {} if self._pooled else SNAPSHOT_SETTINGS)
        await self._pool
        return self._pool

    async def _opened_work_pool(self) -> asyncpg.Pool:
        if self._work_pool is None:
            self._work_pool = self._make_pool(self._work_size, {}, command_timeout=self._silence)
        pool = self._work_pool
        await pool
        return pool

    def _make_pool(
        self, size: int, at_start: dict[str, str], command_timeout: float | None = None
    ) -> asyncpg.Pool:
        return asyncpg.create_pool(
            _asyncpg_url(self._url),
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=60.0,
            statement_cache_size=0,
            server_settings={"application_name": APPLICATION_NAME, **at_start},
            reset=_keep_as_is,
            timeout=CONNECT_SECONDS,
            command_timeout=command_timeout,
            connection_class=kept_alive(parameters(self._url)),
        )


async def _roll_back(connection: Any) -> None:
    """Undo a transaction, after a statement's cancellation if it must be; a connection that is not
    quick about it is given up."""
    try:
        await connection.execute("rollback", timeout=ROLLBACK_SECONDS)
    except BaseException as error:
        connection.terminate()
        if not isinstance(error, _LOST):
            raise


async def _keep_as_is(_: Any) -> None:
    """No use of a connection leaves state behind, so nothing has to be reset between two uses."""


def _asyncpg_url(url: str) -> str:
    """Without the libpq parameters that asyncpg would take for server settings."""
    parts = urlsplit(url)
    known = [pair for pair in parse_qsl(parts.query) if pair[0] in _ASYNCPG_PARAMETERS]
    return urlunsplit(parts._replace(query=urlencode(known)))
