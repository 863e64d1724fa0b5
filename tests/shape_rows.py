"""A shape's rows out of its messages, with every message checked. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = dict[str, str | None]
Message = dict[str, Any]


class ViolationError(AssertionError):
    """The server sent what it must never send. The message has the client's last events."""


@dataclass(frozen=True)
class Subject:
    """What to follow. Without `keyed` the table has no primary key: equal rows share a key."""

    table: str
    where: str | None = None
    params: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    full: bool = False
    keyed: bool = True

    def parameters(self) -> dict[str, str]:
        found = {"table": self.table}
        if self.where is not None:
            found["where"] = self.where
        for number, value in enumerate(self.params, 1):
            found[f"params[{number}]"] = value
        if self.columns is not None:
            found["columns"] = ",".join(
                '"' + name.replace('"', '""') + '"' for name in self.columns
            )
        if self.full:
            found["replica"] = "full"
        return found


class Rows:
    """A shape's rows. Every message is applied exactly once, in order, or raises ViolationError."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.rows: dict[str, Row] = {}
        self.copies: Counter[str] = Counter()
        self.position = (-1, -1)
        """(lsn, op_position) of the last message from the log."""
        self.seen_lsn = -1
        """Of the last up-to-date: everything that committed before it is in."""
        self.finished = False
        """Whether the snapshot's end was seen."""
        self._open_lsn: int | None = None

    def apply(self, message: Message) -> None:
        headers = message["headers"]
        control = headers.get("control")
        if control == "snapshot-end":
            self.finished = True
        elif control == "up-to-date":
            self._up_to_date(int(headers["global_last_seen_lsn"]))
        elif control is not None or "operation" not in headers:
            raise ViolationError(f"an unknown message: {message}")
        else:
            if "lsn" in headers:
                self._advance(headers)
            elif headers["operation"] != "insert" or self.finished:
                raise ViolationError(f"a change without an LSN: {message}")
            getattr(self, f"_{headers['operation']}")(message["key"], message["value"], message)

    def _advance(self, headers: dict[str, Any]) -> None:
        lsn, index = int(headers["lsn"]), int(headers["op_position"])
        if not self.finished:
            raise ViolationError(f"a change before the snapshot's end: {headers}")
        if (lsn, index) <= self.position:
            raise ViolationError(f"{lsn}_{index} came after {self.position}: repeated or unordered")
        if lsn < self.seen_lsn:
            raise ViolationError(f"{lsn}_{index} came after an up-to-date at {self.seen_lsn}")
        if self._open_lsn is not None and lsn != self._open_lsn:
            raise ViolationError(f"{lsn} began while {self._open_lsn} had not had its last message")
        if self._open_lsn is None and lsn == self.position[0]:
            raise ViolationError(f"{lsn}_{index} came after its transaction's last message")
        if len(headers["txids"]) != 1:
            raise ViolationError(f"not one transaction: {headers}")
        self.position = (lsn, index)
        self._open_lsn = None if headers.get("last") else lsn

    def _up_to_date(self, lsn: int) -> None:
        if lsn < self.seen_lsn:
            raise ViolationError(f"up-to-date went back from {self.seen_lsn} to {lsn}")
        if self._open_lsn is not None:
            raise ViolationError(f"up-to-date in the middle of transaction {self._open_lsn}")
        if lsn < self.position[0]:
            raise ViolationError(f"up-to-date at {lsn}, before {self.position}")
        self.seen_lsn = lsn

    def _insert(self, key: str, value: Row, message: Message) -> None:
        if key in self.rows and self.subject.keyed:
            raise ViolationError(f"insert of a key that is there: {message}; is {self.rows[key]}")
        expected = self.subject.columns
        if expected is not None and set(value) != set(expected):
            raise ViolationError(f"insert without all columns {expected}: {message}")
        self.rows[key] = value
        self.copies[key] += 1

    def _update(self, key: str, value: Row, message: Message) -> None:
        row = self.rows.get(key)
        if row is None:
            raise ViolationError(f"update of an unknown key: {message}")
        for name, old in message.get("old_value", {}).items():
            if row[name] != old:
                raise ViolationError(
                    f"old_value {name}={old!r}, but it is {row[name]!r}: {message}"
                )
        if self.subject.full and ("old_value" not in message or value.keys() != row.keys()):
            raise ViolationError(f"an update that is not full: {message}")
        if not value.keys() <= row.keys():
            raise ViolationError(f"update of unknown columns: {message}")
        self.rows[key] = row | value

    def _delete(self, key: str, value: Row, message: Message) -> None:
        row = self.rows.get(key)
        if row is None:
            raise ViolationError(f"delete of an unknown key: {message}")
        for name, old in value.items():
            if row[name] != old:
                raise ViolationError(
                    f"delete of {name}={old!r}, but it is {row[name]!r}: {message}"
                )
        self.copies[key] -= 1
        if not self.copies[key]:
            del self.rows[key], self.copies[key]


def difference(found: Mapping[str, Row], expected: Mapping[str, Row], most: int = 5) -> str:
    """What is wrong with a client's rows, in words; empty if nothing is."""
    lines: list[str] = []
    missing = [key for key in expected if key not in found]
    surplus = [key for key in found if key not in expected]
    wrong = [key for key in expected if key in found and found[key] != expected[key]]
    for what, keys in (("missing", missing), ("surplus", surplus), ("wrong", wrong)):
        if keys:
            lines.append(f"{len(keys)} {what}:")
            lines += [
                f"  {key[:200]}  has {found.get(key)}, SELECT has {expected.get(key)}"
                for key in keys[:most]
            ]
    return "\n".join(lines)
