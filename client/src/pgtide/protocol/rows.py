"""The rows of a shape, as its messages make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgtide.protocol.messages import Batch, Change, Position

Row = dict[str, Any]


class RowSet:
    """Rows by key, as of the last up-to-date: transactions show as a whole.

    A row is never changed in place. When the shape begins anew the rows stay until those of the new
    snapshot are complete, so that nobody sees an empty set in between.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.ready = False
        self.position: Position | None = None
        self._pending: dict[str, Row | None] = {}
        """What changed since the last up-to-date; None for a row that left."""
        self._anew = False

    def apply(self, batch: Batch) -> Mapping[str, Row | None] | None:
        """What a complete state changed: rows by key, None for one that left, in the order of their
        last change. None as long as the state is not complete."""
        if batch.must_refetch:
            self._pending = {}
            self._anew = True
            return None
        for message in batch.messages:
            if isinstance(message, Change):
                self._note(message)
        if not batch.up_to_date:
            return None
        changed = self._settle()
        self.position = batch.position
        self.ready = True
        return changed

    def _note(self, change: Change) -> None:
        before = self._pending.pop(change.key, None)
        if change.operation == "delete":
            self._pending[change.key] = None
            return
        if change.operation == "update":
            if before is None and not self._anew:
                before = self.rows.get(change.key)
            self._pending[change.key] = {**(before or {}), **change.value}
        else:
            self._pending[change.key] = change.value

    def _settle(self) -> dict[str, Row | None]:
        pending, self._pending = self._pending, {}
        if self._anew:
            self._anew = False
            for key in self.rows:
                pending.setdefault(key, None)
        changed: dict[str, Row | None] = {}
        for key, row in pending.items():
            if row == self.rows.get(key):
                continue
            changed[key] = row
            if row is None:
                del self.rows[key]
            else:
                self.rows[key] = row
        return changed
