"""What the scenario of `capture.py` must decode to, written by hand from its SQL.

OIDs, xids, LSNs and times come from the capture's facts, which SQL told. Nothing here comes from
the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from golden.captured import Facts

from engine.lsn import Lsn, parse_lsn
from engine.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    RelationColumn,
    Row,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
    Truncate,
    Type,
)

Expected: TypeAlias = tuple[int | None, Message]
"""What `decode` answers: the xid, inside a streamed block, and the message."""

BOOL, INT8, INT4, TEXT, TEXT_ARRAY, VARCHAR, NUMERIC = 16, 20, 23, 25, 1009, 1043, 1700

NULLS: Row = [None] * 6
"""All columns of `runs` but its key, in an old row of which only the key was sent."""

SECOND: Row = ["second", '{a,"b c"}', "f", "12.50", "overjoyed", ""]
"""All columns of `runs` but its key, after the step `update`."""


class Tables:
    """The scenario's relations, as Relation messages and by OID."""

    def __init__(self, oids: Mapping[str, int]) -> None:
        mood = oids["mood"]
        self.runs_oid = oids["runs"]
        self.full_oid = oids["full_rows"]
        self.indexed_oid = oids["indexed"]
        self.silent_oid = oids["silent"]
        self.odd_oid = oids['Odd "Näme']
        self.mood = Type(mood, "golden", "mood")
        self.runs = Relation(
            self.runs_oid,
            "golden",
            "runs",
            "d",
            (
                RelationColumn("id", INT8, -1, True),
                RelationColumn("task", TEXT, -1, False),
                RelationColumn("tags", TEXT_ARRAY, -1, False),
                RelationColumn("done", BOOL, -1, False),
                # numeric(6, 2): precision in the high half, scale in the low one, 4 on top.
                RelationColumn("score", NUMERIC, (6 << 16 | 2) + 4, False),
                RelationColumn("mood", mood, -1, False),
                RelationColumn("body", TEXT, -1, False),
            ),
        )
        self.full_rows = Relation(
            self.full_oid,
            "golden",
            "full_rows",
            "f",
            (
                RelationColumn("id", INT4, -1, True),
                RelationColumn("body", TEXT, -1, True),
                RelationColumn("note", VARCHAR, 20 + 4, True),
            ),
        )
        self.indexed = Relation(
            self.indexed_oid,
            "golden",
            "indexed",
            "i",
            (
                RelationColumn("id", INT4, -1, False),
                RelationColumn("code", TEXT, -1, True),
                RelationColumn("note", TEXT, -1, False),
            ),
        )
        self.silent = Relation(
            self.silent_oid, "golden", "silent", "n", (RelationColumn("id", INT4, -1, False),)
        )
        self.silent_altered = self.silent._replace(
            columns=(*self.silent.columns, RelationColumn("note", TEXT, -1, False))
        )
        self.odd = Relation(
            self.odd_oid,
            "golden",
            'Odd "Näme',
            "d",
            (RelationColumn("Key", INT4, -1, True), RelationColumn("sélect", TEXT, -1, False)),
        )


class Scenario:
    """The messages of every step, under protocol version `proto`."""

    def __init__(self, facts: Facts, proto: int) -> None:
        self.facts = facts
        self.tables = Tables(facts["oids"])
        self.steps = self.small_steps() | (self.streamed() if proto > 1 else self.unstreamed())
        # An ALTER's invalidation comes a second time at its commit.
        self.steps["after"] = self.transaction("after", self.tables.silent_altered, self.silent(11))

    def small_steps(self) -> dict[str, list[Expected]]:
        """The steps that fit into logical_decoding_work_mem."""
        tables = self.tables
        odd: Message = ("I", tables.odd_oid, ["1", "tab\tquote'"], None, False)
        origin = Origin(parse_lsn("16/B374D848"), "golden-örigin")
        outside = self.emitted("message_outside", False, "", b"\x00\xff")
        contents: dict[str, tuple[Message, ...]] = {
            "insert": self.insert(),
            "insert_nulls": (self.runs("I", ["-2", *NULLS]),),
            "update": (self.runs("U", ["1", *SECOND]),),
            "update_key": (self.runs("U", ["10", *SECOND], ["1", *NULLS]),),
            "delete": (self.runs("D", None, ["-2", *NULLS]),),
            "toast": self.toast(),
            "full": self.full(),
            "index": self.index(),
            "nothing": (tables.silent, self.silent(7, ())),
            "quoted": (tables.odd, odd),
            "truncate": self.truncate(),
            "message": (self.emitted("message", True, "préfix", "cöntent".encode()),),
            "origin": (origin, self.silent(8, ())),
            "alter": (tables.silent_altered, self.silent(9)),
        }
        steps = {step: self.transaction(step, *messages) for step, messages in contents.items()}
        steps["message_outside"] = [(None, outside)]
        return steps

    # -- what the steps hold -----------------------------------------------------------------------

    def insert(self) -> tuple[Message, ...]:
        row: Row = ["1", "naïve 🚀 task", '{a,"b c"}', "t", "12.50", "overjoyed", ""]
        return self.tables.mood, self.tables.runs, self.runs("I", row)

    def toast(self) -> tuple[Message, ...]:
        nulls: Row = [None] * 4
        return (
            self.runs("I", ["3", None, *nulls, "t" * 2100]),
            self.runs("U", ["3", "body stays", *nulls, UNCHANGED]),
            self.runs("U", ["4", "body stays", *nulls, UNCHANGED], ["3", *NULLS]),
        )

    def full(self) -> tuple[Message, ...]:
        body = "ü" * 1100
        return (
            self.tables.full_rows,
            self.full_rows("I", ["1", body, None]),
            # The body of this new row was not sent: it is the old row's.
            self.full_rows("U", ["1", body, "body stays"], ["1", body, None]),
            self.full_rows("U", ["2", None, "body stays"], ["1", body, "body stays"]),
            self.full_rows("D", None, ["2", None, "body stays"]),
        )

    def index(self) -> tuple[Message, ...]:
        oid = self.tables.indexed_oid
        return (
            self.tables.indexed,
            ("I", oid, ["1", "a", "x"], None, False),
            ("U", oid, ["1", "a", "y"], None, False),
            ("U", oid, ["1", "b", "y"], [None, "a", None], True),
            ("D", oid, None, [None, "b", None], True),
        )

    def truncate(self) -> tuple[Message, ...]:
        tables = self.tables
        return (
            self.full_rows("I", ["5", None, None]),
            *self.truncation(cascade=True, restart_identity=True),
            # A truncated table has a new file, so the server describes it again.
            tables.mood,
            tables.runs,
            Truncate((tables.runs_oid,), False, False),
        )

    def truncation(self, *, cascade: bool, restart_identity: bool) -> tuple[Message, ...]:
        tables = self.tables
        oids = (tables.runs_oid, tables.full_oid)
        described = (tables.mood, tables.runs, tables.full_rows)
        return *described, Truncate(oids, cascade, restart_identity)

    def large(self) -> tuple[Message, ...]:
        """The step `stream`, up to its first savepoint."""
        tables = self.tables
        nulls: Row = [None] * 4
        streamed: Row = ["1", "streamed", "n"]
        return (
            tables.mood,
            tables.runs,
            self.runs("I", ["20", *nulls, "sad", None]),
            tables.full_rows,
            self.full_rows("I", ["1", "streamed", None]),
            self.full_rows("U", streamed, ["1", "streamed", None]),
            self.runs("U", ["21", *nulls, "sad", None], ["20", *NULLS]),
            self.full_rows("D", None, streamed),
            *self.truncation(cascade=False, restart_identity=False),
            self.emitted("stream", True, "golden", b"in stream"),
        )

    # -- how they are sent -------------------------------------------------------------------------

    def transaction(self, step: str, *messages: Message) -> list[Expected]:
        commit = self.commit(step)
        begin = Begin(commit.commit_lsn, commit.commit_time_us, self.facts[step]["xid"])
        return [(None, message) for message in (begin, *messages, commit)]

    def commit(self, step: str) -> Commit:
        facts = self.facts[step]
        return Commit(0, Lsn(facts["lsn"]), Lsn(facts["end_lsn"]), facts["committed_us"])

    def unstreamed(self) -> dict[str, list[Expected]]:
        """Only what was not rolled back."""
        return {
            "stream": self.transaction("stream", *self.large(), self.runs("I", ["23", *NULLS])),
        }

    def streamed(self) -> dict[str, list[Expected]]:
        """Everything, in blocks; of the rollbacks, the server tells afterwards."""
        facts = self.facts["stream"]
        xid, undone, kept = facts["xid"], facts["undone_xid"], facts["kept_xid"]
        aborted = self.facts["stream_abort"]["xid"]
        mood, runs = self.tables.mood, self.tables.runs
        silent = self.tables.silent_altered
        return {
            "stream": [
                *self.block(xid, True, xid, *self.large()),
                *self.block(xid, False, undone, mood, runs, self.runs("I", ["22", *NULLS])),
                (None, StreamAbort(xid, undone)),
                *self.block(xid, False, kept, mood, runs, self.runs("I", ["23", *NULLS])),
                (None, StreamCommit(xid, *self.commit("stream"))),
            ],
            "stream_abort": [
                *self.block(aborted, True, aborted, silent, self.silent(10)),
                (None, StreamAbort(aborted, aborted)),
            ],
        }

    def block(self, top: int, first: bool, xid: int, *messages: Message) -> list[Expected]:
        inside: list[Expected] = [(xid, message) for message in messages]
        return [(None, StreamStart(top, first)), *inside, (None, StreamStop())]

    # -- messages ----------------------------------------------------------------------------------

    def runs(self, op: str, new: Row | None, key: Row | None = None) -> Message:
        return op, self.tables.runs_oid, new, key, key is not None

    def full_rows(self, op: str, new: Row | None, old: Row | None = None) -> Message:
        return op, self.tables.full_oid, new, old, False

    def silent(self, number: int, note: tuple[None, ...] = (None,)) -> Message:
        """`note` is empty before the ALTER that added this column."""
        return "I", self.tables.silent_oid, [str(number), *note], None, False

    def emitted(
        self, step: str, transactional: bool, prefix: str, content: bytes
    ) -> LogicalMessage:
        return LogicalMessage(transactional, Lsn(self.facts[step]["message_lsn"]), prefix, content)
