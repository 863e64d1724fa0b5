"""Ticks on their way into the log: what the query saw becomes what holds at that place of the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import orjson

from engine.log.layout import (
    FIRST_INDEX,
    INDEX_STEP,
    Block,
    Change,
    RelationVersion,
    Row,
    pack_body,
)
from engine.log.writer import LogWriter
from engine.pgoutput import Commit, StreamCommit
from engine.replication.tick import TICK_IDENTITY, Tick

log = logging.getLogger("engine")

MOST_UNSEEN: Final = 20_000
"""A tick beside which more changes than this were committed is left out: another one will come."""

ROWS_IN_BLOCK: Final = 256

_TOLERANCE_US: Final = 60_000_000
"""A transaction's time of commit may be before what a slower clock said in it."""


class TickLog:
    """Stages ticks. `new_version` gives out numbers of relation versions."""

    def __init__(self, writer: LogWriter, new_version: Callable[[], int]) -> None:
        self._writer = writer
        self._new_version = new_version
        self._relations: dict[int, RelationVersion] = {}
        self._latest: dict[int, RelationVersion] = {}
        """How the rows of a table's ticks look, by its oid."""
        for relation in writer.relations():
            self._relations[relation.id] = relation
            if relation.replica_identity == TICK_IDENTITY:
                self._latest[relation.oid] = relation

    def moves(self, tick: Tick, commit_time_us: int) -> bool:
        """Whether it is news: several nodes may have had the same idea. Every role of the database may
        write such a message; one from the future would keep the window from ever moving again."""
        if tick.until > _moment(commit_time_us + _TOLERANCE_US):
            return False
        current = self._writer.cutoff(tick.window)
        return current is None or tick.until > current

    def add(self, tick: Tick, xid: int, commit: Commit | StreamCommit) -> bool:
        """Stage a tick that `moves`, after all that is in the log; False if it had to be left out."""
        current = self._writer.cutoff(tick.window)
        since: str | None = None
        rows: list[Row] = []
        if tick.since is not None and current is not None and tick.since <= current:
            since = current
            unseen = self._writer.unseen(tick.visibility, MOST_UNSEEN)
            if unseen is None:
                log.info("a window of %s.%s moves later: too much is going on", *tick[1:3])
                return False
            rows = tick.leaving(since, self._changes(tick, unseen))
        head: list[str | int | None] = [tick.column, str(tick.seconds), since, tick.until]
        self._stage(self._version(tick), head, rows, xid, commit)
        self._writer.move_cutoff(tick.window, commit.commit_lsn, tick.until)
        return True

    def _changes(
        self, tick: Tick, blocks: list[Block]
    ) -> Iterator[tuple[Mapping[str, int], Row | None, Row | None]]:
        for block in blocks:
            positions = {
                number: relation.positions
                for number in block.relations
                if _is_of(relation := self._relation(number), tick.oid)
            }
            if positions:
                for version, _, new, old in block.changes():
                    if version in positions:
                        yield positions[version], new, old

    def _relation(self, number: int) -> RelationVersion:
        if number not in self._relations:
            self._relations = {relation.id: relation for relation in self._writer.relations()}
        return self._relations[number]

    def _version(self, tick: Tick) -> int:
        known = self._latest.get(tick.oid)
        relation = tick.relation
        if known is None or replace(known, id=0) != relation:
            known = replace(relation, id=self._new_version())
            self._writer.add_relation(known)
            self._latest[tick.oid] = self._relations[known.id] = known
        return known.id

    def _stage(
        self, version: int, head: Row, rows: list[Row], xid: int, commit: Commit | StreamCommit
    ) -> None:
        index = FIRST_INDEX
        for start in range(0, max(len(rows), 1), ROWS_IN_BLOCK):
            part = rows[start : start + ROWS_IN_BLOCK]
            changes: list[Change] = [(version, "W", head, None)]
            changes += [(version, "X", None, row) for row in part]
            end_lsn = 0 if start + ROWS_IN_BLOCK < len(rows) else commit.end_lsn
            body = pack_body((version,), orjson.dumps(changes))
            self._writer.add(
                *(commit.commit_lsn, index, xid, end_lsn, commit.commit_time_us),
                *(len(changes), 1, body),
            )
            index += INDEX_STEP * len(changes)


def _moment(time_us: int) -> str:
    """As cut-offs are written: in UTC."""
    moment = datetime.fromtimestamp(time_us / 1e6, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _is_of(relation: RelationVersion, oid: int) -> bool:
    """Whether rows of the relation are rows of the table; those of ticks are no changes."""
    if relation.replica_identity == TICK_IDENTITY:
        return False
    return relation.oid == oid or any(ancestor[0] == oid for ancestor in relation.ancestors)
