"""A connection to Postgres's walsender: logical replication over libpq's copy mode.

Connecting and the commands before the stream are ordinary blocking libpq calls: `connect` is to be
run in a thread, `ask` runs a command in one. The stream itself never blocks: watch `fileno` and call
`receive`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.pq import abc

from engine import pgoutput
from engine.errors import DatabaseSetupError, PgtideError
from engine.postgres.database_url import named
from engine.postgres.refusal import remedy_for
from engine.redaction import redact

_SETTINGS = (
    # The text form of values, the same as in snapshots.
    "set client_encoding = 'UTF8'",
    "set datestyle = 'ISO, DMY'",
    "set timezone = 'UTC'",
    "set intervalstyle = 'iso_8601'",
    "set bytea_output = 'hex'",
    "set extra_float_digits = 1",
    # Transactions above this are streamed while in progress, so that they hold up nobody at commit.
    "set logical_decoding_work_mem = '16MB'",
)


class ReplicationError(PgtideError):
    """The replication connection ended or was refused; the message has Postgres's reason."""

    code = "replication_error"


class SlotInUseError(DatabaseSetupError):
    """Another process reads from this replication slot, or holds its lock."""

    code = "slot_in_use"


class Walsender:
    """One replication connection. Raises ReplicationError when it is lost, at any call."""

    def __init__(self, connection: abc.PGconn) -> None:
        self._connection = connection
        self._acknowledged = (0, 0)

    @classmethod
    def connect(cls, database_url: str, *, timeout: int = 10) -> Walsender:
        """Connect and fix the text form of values. Blocks up to `timeout` seconds."""
        conninfo = make_conninfo(
            named(database_url), replication="database", connect_timeout=timeout
        )
        connection = pq.PGconn.connect(conninfo.encode())
        walsender = cls(connection)
        if connection.status != pq.ConnStatus.OK:
            error = walsender._not_connected()
            connection.finish()
            raise error
        try:
            for statement in _SETTINGS:
                walsender.query(statement)
        except PgtideError:
            connection.finish()
            raise
        return walsender

    def query(self, command: str) -> list[Sequence[str | None]]:
        """Run one command before the stream has begun; blocks. Rows of text values."""
        result = self._connection.exec_(command.encode())
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise self._refused(command, result)
        return [
            [_text(result.get_value(row, column)) for column in range(result.nfields)]
            for row in range(result.ntuples)
        ]

    async def ask(self, command: str) -> list[Sequence[str | None]]:
        """`query` in a thread. Who is cancelled meanwhile comes back once the thread has let go of the
        connection, which is lost then."""
        running = asyncio.get_running_loop().run_in_executor(None, self.query, command)
        try:
            # Waiting for it does not cancel it.
            await asyncio.wait([running])
        except asyncio.CancelledError:
            # To end the connection under a thread that uses it would crash this process.
            self._break_off()
            await asyncio.wait([running])
            running.exception()
            raise
        return running.result()

    def _break_off(self) -> None:
        """Let whoever waits for Postgres hear that the connection is lost."""
        lost = contextlib.suppress(OSError, psycopg.OperationalError)
        with lost, socket.socket(fileno=os.dup(self.fileno())) as shared:
            shared.shutdown(socket.SHUT_RDWR)

    def start(self, slot: str, lsn: str, publication: str) -> None:
        """Begin streaming from `lsn` (`X/Y`, 0/0 for where the slot stands)."""
        names = publication.replace('"', '""').replace("'", "''")
        command = (
            f'START_REPLICATION SLOT "{slot}" LOGICAL {lsn} '
            f"(proto_version '2', streaming 'on', messages 'true', publication_names '\"{names}\"')"
        )
        result = self._connection.exec_(command.encode())
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise self._refused(command, result)
        self._connection.nonblocking = 1

    @property
    def backend_pid(self) -> int:
        """Process id of the server's side."""
        return self._connection.backend_pid

    def fileno(self) -> int:
        return self._connection.socket

    def receive(self) -> Iterator[bytes]:
        """Messages of the copy stream that are here now. Does not wait."""
        connection = self._connection
        get = connection.get_copy_data
        while True:
            length, data = get(1)
            if length > 0:
                yield bytes(data)
            elif length == 0:
                return
            else:
                raise self._ended()

    def consume(self) -> None:
        """Take what the socket has; call it when `fileno` is readable, before `receive`."""
        try:
            self._connection.consume_input()
        except psycopg.OperationalError as error:
            raise self._error("the replication connection was lost") from error

    def acknowledge(self, written: int, flushed: int, *, reply: bool = False) -> None:
        """Send a standby status update: what was received and what is durable."""
        self._acknowledged = (written, flushed)
        clock = time.time_ns() // 1000
        update = pgoutput.standby_status_update(written, flushed, flushed, clock, reply)
        try:
            self._connection.put_copy_data(update)
            self._connection.flush()
        except psycopg.OperationalError as error:
            raise self._error("the replication connection was lost") from error

    def acknowledge_again(self) -> None:
        """Repeat the last status update, as a sign of life; nothing before the first one."""
        if any(self._acknowledged):
            self.acknowledge(*self._acknowledged)

    def close(self) -> None:
        self._connection.finish()

    def _ended(self) -> ReplicationError:
        result = self._connection.get_result()
        detail = "Postgres ended the stream"
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            detail = result.get_error_message().strip()
        elif self._connection.status != pq.ConnStatus.OK:
            detail = self._message()
        return ReplicationError(f"the replication connection ended: {redact(detail)}")

    def _refused(self, command: str, result: abc.PGresult) -> PgtideError:
        text = result.get_error_message().strip() or self._message()
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        if state == "55006":
            return SlotInUseError(
                f"{text}: another engine reads from it; stop that one, or give this one a name of "
                "its own with --stream-id"
            )
        if state == "55000" and "wal_level" in text:
            return DatabaseSetupError(
                f"{text}: run `alter system set wal_level = logical;` and restart Postgres"
            )
        return ReplicationError(f"Postgres refused `{command.split()[0]}`: {redact(text)}")

    def _error(self, what: str) -> PgtideError:
        text = self._message()
        if "must be superuser or replication role" in text or re.search(
            r"permission denied to start WAL sender|REPLICATION attribute", text
        ):
            return DatabaseSetupError(
                f"{what}: the role lacks the REPLICATION attribute; as a superuser run "
                "`alter role <the role of DATABASE_URL> with replication;`"
            )
        return ReplicationError(f"{what}: {redact(text)}")

    def _not_connected(self) -> PgtideError:
        error = self._error("cannot connect for replication")
        if isinstance(error, DatabaseSetupError):
            return error
        return ReplicationError(f"{error}. {remedy_for(str(error))}")

    def _message(self) -> str:
        return " ".join(self._connection.get_error_message().split())


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
