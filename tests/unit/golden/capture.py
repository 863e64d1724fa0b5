"""Capture what a server sends over logical replication: golden bytes for the decoder's tests.

    python tests/unit/golden/capture.py --database-url postgresql://postgres@localhost/scratch

writes `postgres<major>_proto1.jsonl` and `postgres<major>_proto2.jsonl` beside this file. The
server must be idle, version 14 or later, and run with wal_level=logical, track_commit_timestamp=on
and logical_decoding_work_mem=64kB; the role must be a superuser. The schema `golden`,
the publication `golden` and the replication origin `golden-örigin` are dropped and made anew.

The first line of a file is `{"facts": …}`: what SQL says about the transactions, so that
expectations are made without the decoder. For each step: `xid`, `lsn` and `end_lsn` (the WAL's
insert position just before and just after COMMIT), `committed_us` (microseconds since the Unix
epoch), and what the step's own `Fact`s add. Each further line is one message of the copy stream,
envelope included:
`{"name": "<step>", "hex": "…", "streamed": <between Stream Start and Stream Stop>}`.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

HERE = Path(__file__).parent
MARKER = b"golden-step\0"
ENVELOPE = 25


@dataclass(frozen=True, slots=True)
class Fact:
    """A query whose single value is kept under `name`."""

    name: str
    query: LiteralString


@dataclass(frozen=True, slots=True)
class Streamed:
    """Go on only when the walsender of protocol 2 has sent one more block of the open transaction.

    Otherwise the server would know, when it decodes the block, that it was to be rolled back.
    """


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction (or, unless `transaction`, single statements); named so in the files."""

    name: str
    actions: tuple[LiteralString | Fact | Streamed, ...]
    transaction: bool = True
    commit: bool = True
    after: tuple[LiteralString, ...] = field(default=())


CLEANUP: tuple[LiteralString, ...] = (
    """select pg_replication_origin_drop(roname) from pg_replication_origin
       where roname = 'golden-örigin'""",
    "drop publication if exists golden",
    "drop schema if exists golden cascade",
)

SETUP: tuple[LiteralString, ...] = (
    *CLEANUP,
    "select pg_replication_origin_create('golden-örigin')",
    "create schema golden",
    "create type golden.mood as enum ('sad', 'fine', 'overjoyed')",
    """create table golden.runs (
         id bigint primary key, task text, tags text[], done boolean, score numeric(6, 2),
         mood golden.mood, body text)""",
    "alter table golden.runs alter column body set storage external",
    "create table golden.full_rows (id integer, body text, note varchar(20))",
    "alter table golden.full_rows alter column body set storage external",
    "alter table golden.full_rows replica identity full",
    "create table golden.indexed (id integer, code text not null, note text)",
    "create unique index indexed_code on golden.indexed (code)",
    "alter table golden.indexed replica identity using index indexed_code",
    "create table golden.silent (id integer)",
    "alter table golden.silent replica identity nothing",
    """create table golden."Odd ""Näme" ("Key" integer primary key, "sélect" text)""",
    # Outside the publication: a row fills logical_decoding_work_mem without being sent.
    "create table golden.ballast (body text)",
    "alter table golden.ballast alter column body set storage external",
    """create publication golden for table
         golden.runs, golden.full_rows, golden.indexed, golden.silent, golden."Odd ""Näme\"""",
)

OIDS: LiteralString = """
select relname, oid from pg_class where relnamespace = 'golden'::regnamespace and relkind = 'r'
union all select typname, oid from pg_type where oid = 'golden.mood'::regtype"""

BALLAST: LiteralString = "insert into golden.ballast select repeat('b', 200000)"

STEPS = (
    Step(
        "insert",
        (
            """insert into golden.runs values
                 (1, 'naïve 🚀 task', '{a,"b c"}', true, 12.50, 'overjoyed', '')""",
        ),
    ),
    Step("insert_nulls", ("insert into golden.runs (id) values (-2)",)),
    Step("update", ("update golden.runs set task = 'second', done = false where id = 1",)),
    Step("update_key", ("update golden.runs set id = 10 where id = 1",)),
    Step("delete", ("delete from golden.runs where id = -2",)),
    Step(
        "toast",
        (
            "insert into golden.runs (id, body) values (3, repeat('t', 2100))",
            "update golden.runs set task = 'body stays' where id = 3",
            "update golden.runs set id = 4 where id = 3",
        ),
    ),
    Step(
        "full",
        (
            "insert into golden.full_rows values (1, repeat('ü', 1100), null)",
            "update golden.full_rows set note = 'body stays'",
            "update golden.full_rows set body = null, id = 2",
            "delete from golden.full_rows",
        ),
    ),
    Step(
        "index",
        (
            "insert into golden.indexed values (1, 'a', 'x')",
            "update golden.indexed set note = 'y'",
            "update golden.indexed set code = 'b'",
            "delete from golden.indexed",
        ),
    ),
    Step("nothing", ("insert into golden.silent values (7)",)),
    Step("quoted", ("""insert into golden."Odd ""Näme" values (1, 'tab\tquote''')""",)),
    Step(
        "truncate",
        (
            "insert into golden.full_rows values (5)",
            "truncate golden.runs, golden.full_rows restart identity cascade",
            "truncate golden.runs",
        ),
    ),
    Step(
        "message",
        (Fact("message_lsn", "select pg_logical_emit_message(true, 'préfix', 'cöntent') - '0/0'"),),
    ),
    Step(
        "message_outside",
        (
            Fact(
                "message_lsn",
                "select pg_logical_emit_message(false, '', E'\\\\x00ff'::bytea) - '0/0'",
            ),
        ),
        transaction=False,
    ),
    Step(
        "origin",
        (
            "select pg_replication_origin_session_setup('golden-örigin')",
            """select pg_replication_origin_xact_setup(
                 '16/B374D848', '2024-02-29 12:34:56.789012+00')""",
            "insert into golden.silent values (8)",
        ),
        after=("select pg_replication_origin_session_reset()",),
    ),
    Step(
        "alter",
        ("alter table golden.silent add column note text", "insert into golden.silent values (9)"),
    ),
    Step(
        "stream",
        (
            "insert into golden.runs (id, mood) values (20, 'sad')",
            "insert into golden.full_rows values (1, 'streamed', null)",
            "update golden.full_rows set note = 'n'",
            "update golden.runs set id = 21",
            "delete from golden.full_rows",
            "truncate golden.runs, golden.full_rows",
            Fact(
                "message_lsn", "select pg_logical_emit_message(true, 'golden', 'in stream') - '0/0'"
            ),
            BALLAST,
            Streamed(),
            "savepoint undone",
            "insert into golden.runs (id) values (22)",
            Fact("undone_xid", "select xmin::text::bigint from golden.runs where id = 22"),
            BALLAST,
            Streamed(),
            "rollback to undone",
            "savepoint kept",
            "insert into golden.runs (id) values (23)",
            Fact("kept_xid", "select xmin::text::bigint from golden.runs where id = 23"),
            "release kept",
        ),
    ),
    Step(
        "stream_abort", ("insert into golden.silent values (10)", BALLAST, Streamed()), commit=False
    ),
    Step("after", ("insert into golden.silent values (11)",)),
)

Facts = dict[str, dict[str, int]]


class Walsender:
    """A replication connection with a temporary slot; `received` is its copy stream so far."""

    def __init__(self, database_url: str, slot: str, options: str) -> None:
        info = make_conninfo(database_url, replication="database", client_encoding="UTF8")
        self.received: list[bytes] = []
        self.pgconn = pq.PGconn.connect(info.encode())
        if self.pgconn.status != pq.ConnStatus.OK:
            raise SystemExit(self.pgconn.get_error_message())
        self.run(f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT")
        self.run(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})")

    def run(self, command: str) -> None:
        result = self.pgconn.exec_(command.encode())
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise SystemExit(result.get_error_message())

    def receive_until(self, wanted: Callable[[bytes], bool]) -> None:
        """Wait for a message of which `wanted` is true."""
        while True:
            size, data = self.pgconn.get_copy_data(0)
            if size < 0:
                raise SystemExit(self.pgconn.get_error_message())
            self.received.append(bytes(data))
            if wanted(self.received[-1]):
                return

    def request_keepalive(self, lsn: int) -> None:
        clock = int((time.time() - 946_684_800) * 1e6)
        self.pgconn.put_copy_data(struct.pack(">cQQQQB", b"r", lsn, lsn, lsn, clock, 1))
        self.pgconn.flush()


def marked_step(data: bytes) -> str | None:
    """The step that a marker message names; None if `data` is no marker."""
    payload = data[ENVELOPE:]
    _, found, rest = payload.partition(MARKER)
    return rest[4:].decode() if payload[:1] == b"M" and found else None


def is_stream_stop(data: bytes) -> bool:
    return data[ENVELOPE:] == b"E"


def is_keepalive(data: bytes) -> bool:
    return data[:1] == b"k"


def is_end(data: bytes) -> bool:
    return marked_step(data) == "end"


class Scenario:
    """Runs steps on one connection, in the pace of the walsender that streams open transactions."""

    INSERT_POSITION: LiteralString = "select pg_current_wal_insert_lsn() - '0/0'"

    def __init__(self, connection: psycopg.Connection, walsender: Walsender) -> None:
        self.connection = connection
        self.walsender = walsender

    def value(self, query: LiteralString, parameters: tuple[int, ...] = ()) -> int:
        row = self.connection.execute(query, parameters).fetchone()
        assert row is not None
        return int(row[0])

    def run(self) -> Facts:
        """Run every step; answer the facts by step, and all OIDs under `oids`."""
        execute = self.connection.execute
        facts: Facts = {"oids": dict(execute(OIDS).fetchall())}
        for step in STEPS:
            execute("select pg_logical_emit_message(false, 'golden-step', %s)", [step.name])
            if Streamed() in step.actions:
                self.flush()
                self.walsender.receive_until(lambda data, name=step.name: marked_step(data) == name)
            facts[step.name] = self.run_step(step)
        execute("select pg_logical_emit_message(false, 'golden-step', 'end')")
        self.flush()
        return facts

    def flush(self) -> None:
        """Let the walsenders see what is not committed: a switch of the WAL segment flushes."""
        self.connection.execute("select pg_switch_wal()")

    def run_step(self, step: Step) -> dict[str, int]:
        if not step.transaction:
            return self.run_actions(step)
        self.connection.execute("begin")
        facts = self.run_actions(step)
        facts["xid"] = self.value("select pg_current_xact_id()::xid::text::bigint")
        facts["lsn"] = self.value(self.INSERT_POSITION)
        self.connection.execute("commit" if step.commit else "rollback")
        facts["end_lsn"] = self.value(self.INSERT_POSITION)
        if step.commit:
            facts["committed_us"] = self.value(
                "select extract(epoch from pg_xact_commit_timestamp(%s::text::xid)) * 1000000",
                (facts["xid"],),
            )
        for statement in step.after:
            self.connection.execute(statement)
        return facts

    def run_actions(self, step: Step) -> dict[str, int]:
        facts: dict[str, int] = {}
        for action in step.actions:
            match action:
                case Fact(name, query):
                    facts[name] = self.value(query)
                case Streamed():
                    self.flush()
                    self.walsender.receive_until(is_stream_stop)
                case statement:
                    self.connection.execute(statement)
        return facts


def golden_lines(received: list[bytes]) -> Iterator[dict[str, object]]:
    """The lines of one file: all messages between the first marker and the last, one keepalive."""
    step = ""
    streamed = False
    for data in received:
        marked = marked_step(data)
        kind = data[ENVELOPE : ENVELOPE + 1]
        if marked:
            step = marked
        elif step not in ("", "end") and not is_keepalive(data):
            streamed = streamed and kind != b"E"
            yield {"name": step, "hex": data.hex(), "streamed": streamed}
            streamed = streamed or kind == b"S"
    yield {"name": "keepalive", "hex": received[-1].hex(), "streamed": False}


def capture(url: str, connection: psycopg.Connection) -> None:
    """Run the scenario and write both files."""
    options = "proto_version '{}', publication_names 'golden', messages 'true'"
    walsenders = {
        1: Walsender(url, "golden_proto1", options.format(1)),
        2: Walsender(url, "golden_proto2", options.format(2) + ", streaming 'on'"),
    }
    facts = Scenario(connection, walsenders[2]).run()
    major = connection.info.server_version // 10_000
    for proto, walsender in walsenders.items():
        walsender.receive_until(is_end)
        walsender.request_keepalive(facts["insert"]["lsn"])
        walsender.receive_until(is_keepalive)
        lines = [{"facts": facts}, *golden_lines(walsender.received)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (HERE / f"postgres{major}_proto{proto}.jsonl").write_text(text)
        walsender.pgconn.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--database-url", required=True)
    url: str = parser.parse_args().database_url
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in SETUP:
            connection.execute(statement)
        capture(url, connection)
        for statement in CLEANUP:
            connection.execute(statement)


if __name__ == "__main__":
    main()
