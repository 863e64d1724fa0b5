"""A connection on which several statements go to Postgres at once, and their results come back at once.

Group commit sends the same few statements all the time. One after the other, each would be a round trip
of its own, and waiting for one costs more processor time than what it asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

_BINARY = 1
_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class Statement(NamedTuple):
    """A text that stays prepared under its name; `types` are the OIDs of its parameters."""

    name: bytes
    text: bytes
    types: tuple[int, ...] = ()


class Step(NamedTuple):
    """A statement and its parameters in binary format. Rows come back in binary format, too."""

    statement: Statement
    values: Sequence[bytes | None] = ()


class StatementError(Exception):
    """What Postgres says about a statement. Those behind it were not run."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(f"{state}: {message}")
        self.state = state
        """SQLSTATE."""
        self.message = message


class ConnectionLostError(Exception):
    """The connection is gone; whether the statements were run is not known."""


class Pipeline:
    """A connection in pipeline mode, for one user at a time. Whoever is cancelled while he waits for
    it has to close it."""

    def __init__(self, connection: psycopg.AsyncConnection, *, prepared: bool) -> None:
        """Takes over a connection that is in no transaction. `prepared`: statements may stay prepared,
        since every transaction has the same connection to the server."""
        self._owner = connection
        self._connection: PGconn = connection.pgconn
        self._keeps = prepared
        self._prepared: set[bytes] = set()
        self._expected: deque[Statement | None] = deque()
        """What the next results are of; None: of statements that are run."""
        self._results: list[PGresult] = []
        self._error: StatementError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writing = False
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._connection.enter_pipeline_mode()
        self._socket = self._connection.socket
        self._loop.add_reader(self._socket, self._read)

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self._connection.transaction_status == TransactionStatus.IDLE

    async def run(self, steps: Sequence[Step]) -> list[PGresult]:
        """The results of statements that are run together, up to one that fails.

        Raises StatementError (the connection can be used on; an open transaction has failed), or
        ConnectionLostError.
        """
        if self.closed:
            raise ConnectionLostError
        self._results, self._error = [], None
        self._waiter = self._loop.create_future()
        try:
            for step in steps:
                self._send(step)
            self._connection.pipeline_sync()
            self._flush()
            await self._waiter
        except psycopg.OperationalError as error:
            # Nobody waits any more: what is lost is said here.
            self._waiter = None
            self._lose()
            raise ConnectionLostError from error
        finally:
            self._waiter = None
        if self._error is not None:
            raise self._error
        return self._results

    def close(self) -> None:
        """End the connection, whatever is under way."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        if self._writing:
            self._loop.remove_writer(self._socket)
        self._connection.finish()

    def _send(self, step: Step) -> None:
        statement, values = step
        formats = [_BINARY] * len(values)
        if not self._keeps:
            self._connection.send_query_params(
                statement.text, values, statement.types, formats, _BINARY
            )
        else:
            if statement.name not in self._prepared:
                self._connection.send_prepare(statement.name, statement.text, statement.types)
                self._expected.append(statement)
            self._connection.send_query_prepared(statement.name, values, formats, _BINARY)
        self._expected.append(None)

    def _flush(self) -> None:
        """Send on. What does not fit into the socket goes when there is room."""
        left = bool(self._connection.flush())
        if left and not self._writing:
            self._loop.add_writer(self._socket, self._write)
        elif self._writing and not left:
            self._loop.remove_writer(self._socket)
        self._writing = left

    def _write(self) -> None:
        try:
            self._flush()
        except psycopg.OperationalError:
            self._lose()

    def _read(self) -> None:
        try:
            self._connection.consume_input()
            if self._waiter is None:
                # Nobody asked: a notice, or the end.
                return
            ended = False
            while not self.closed and not self._connection.is_busy():
                result = self._connection.get_result()
                if result is None:
                    # Results are ended by one nothing; a second one is what a dead connection has.
                    if ended:
                        break
                    ended = True
                    continue
                ended = False
                if result.status == ExecStatus.PIPELINE_SYNC:
                    self._expected.clear()
                    if not self._waiter.done():
                        self._waiter.set_result(None)
                    return
                self._take(result)
            if not self.closed and self._connection.status == ConnStatus.BAD:
                self._lose()
        except psycopg.OperationalError:
            self._lose()

    def _take(self, result: PGresult) -> None:
        if not self._expected:
            # Postgres ends the connection, and says why: to nobody who has asked for something.
            self._lose()
            return
        statement = self._expected.popleft()
        if result.status in _DONE:
            if statement is None:
                self._results.append(result)
            else:
                self._prepared.add(statement.name)
        elif result.status == ExecStatus.FATAL_ERROR:
            state = result.error_field(DiagnosticField.SQLSTATE) or b""
            message = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b""
            self._error = StatementError(state.decode(), message.decode("utf-8", "replace"))

    def _lose(self) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionLostError())
