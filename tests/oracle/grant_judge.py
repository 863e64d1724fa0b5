"""The judge of what readers were sent: by every version that the rows ever had."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from grant_history import LEDGER, MARK, RUNS, Past, Row
from grant_readers import COLUMNS, Grant, GrantReader, Message
from pulse import Pulse

GONE_SECONDS = 1.0
"""How long after the end of a grant something may still come."""

SLOW_STEPS = 3
"""An end is noticed, comes through to the reader, and is told to whoever asks again: each of these
may take as long as the machine takes for any answer at that time."""

FIELDS = {
    "friendlyId": "id",
    "id": "id",
    "taskIdentifier": "task",
    "payload": "payload",
    "output": "output",
    "ttl": "ttl",
}
"""Those that are shown as they are stored."""


class Judge:
    """Says what is wrong with what a reader was sent."""

    def __init__(self, past: Past, pulse: Pulse) -> None:
        self._past = past
        self._pulse = pulse
        self.seen: Counter[str] = Counter()

    def faults(self, reader: GrantReader) -> list[str]:
        found: list[str] = []
        grant = reader.grant
        for at, message in reader.messages:
            fault = self._fault(grant, message)
            if self.is_late(grant, at):
                fault = f"it came at {at}, after the end of the grant at {grant.expires_at}"
            if fault:
                found.append(f"{fault}: {json.dumps(message)}\n  for {grant.about}")
        return found

    def is_late(self, grant: Grant, at: float) -> bool:
        """Whether a grant was over at a time (seconds since 1970), and everybody could know it."""
        end = grant.expires_at
        if end is None or at <= end + GONE_SECONDS:
            return False
        return at > end + GONE_SECONDS + SLOW_STEPS * self._pulse.slowest(end, at)

    def faults_of_text(self, grant: Grant, text: str) -> list[str]:
        """By the marks alone, for what is no message."""
        return [
            f"{mark} is in no version that may be seen\n  for {grant.about}"
            for mark in sorted(set(MARK.findall(text)))
            if not self._may_see(grant, mark)
        ]

    def missing(self, reader: GrantReader, rows: Sequence[Row]) -> list[str]:
        """What a reader that is up to date lacks of these rows, or has too much."""
        grant = reader.grant
        expected = {str(row["id"]): row for row in rows if grant.allows(row)}
        held = {str(value["id"]): value for value in reader.rows.values()}
        if held.keys() != expected.keys():
            return [f"has {sorted(held)} and not {sorted(expected)}"]
        return [
            f"{value} is not {row}"
            for key, value in held.items()
            if not _equal(grant, value, row := expected[key], whole=True)
        ]

    def _may_see(self, grant: Grant, mark: str) -> bool:
        return any(
            table == grant.table and column in grant.columns and grant.allows(row)
            for table, column, row in self._past.marked[mark]
        )

    def _fault(self, grant: Grant, message: Message) -> str:
        if faults := self.faults_of_text(grant, json.dumps(message)):
            return faults[0]
        headers, value = message["headers"], message["value"]
        operation = headers["operation"]
        if "txids" not in headers:
            self.seen["snapshot"] += 1
            versions = self._past.versions[grant.table, _key(grant, value)]
            if any(grant.allows(row) and _equal(grant, value, row) for row in versions):
                return ""
            return "a row of a snapshot that was never like this within the grant"
        changes = [
            one
            for xid in headers["txids"]
            for one in self._past.changes[int(xid)]
            if one.table == grant.table
        ]
        before = message.get("old_value", {})
        key = _key(grant, value)
        for change in changes:
            old, new = change.old, change.new
            was = old is not None and grant.allows(old)
            is_now = new is not None and grant.allows(new)
            moved = old is not None and new is not None and old["id"] != new["id"]
            if ("key_change_to" in headers or "key_change_from" in headers) and not (
                was and is_now and moved
            ):
                continue
            fits = False
            if operation == "delete" and old is not None and old["id"] == key:
                fits = was and (not is_now or moved) and _equal(grant, value, old)
            elif operation == "insert" and new is not None and new["id"] == key:
                fits = is_now and (not was or moved) and _equal(grant, value, new)
            elif operation == "update" and old and new and new["id"] == key:
                fits = was and is_now and not moved and _equal(grant, value, new)
                fits = fits and _equal(grant, before, old)
            if fits:
                kind = "out" if operation == "delete" and new is not None else operation
                self.seen[f"{grant.table} {'in' if kind == 'insert' and old else kind}"] += 1
                return ""
        return "no change within the grant"


def _key(grant: Grant, value: Message) -> Any:
    return value["id"] if grant.table == RUNS else int(value["id"])


def _equal(grant: Grant, value: Message, row: Row, *, whole: bool = False) -> bool:
    """Whether a message's fields are those of a version; `whole`: and all that there are."""
    if grant.table == LEDGER:
        texts = {name: None if one is None else str(one) for name, one in row.items()}
        if whole and value.keys() != grant.columns:
            return False
        return all(name in grant.columns and one == texts[name] for name, one in value.items())
    fields = {name: row[column] for name, column in FIELDS.items()}
    fields["runTags"] = "{" + ",".join(row["tags"]) + "}"
    shown = {name for name in fields if COLUMNS.get(name, FIELDS.get(name)) in grant.columns}
    if not set(value) & fields.keys() <= shown or (whole and not shown <= set(value)):
        return False
    if "metadata" in value and json.loads(value["metadata"]) != row["metadata"]:
        return False
    return all(value[name] == one for name, one in fields.items() if name in value)
