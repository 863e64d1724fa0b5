"""What a client must be told of a history: the protocol's rules applied to each change in turn.

Written apart from the code that it checks, without any index, block, page or JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from log_builder import COLUMNS, Transaction, shape, table

from engine.lsn import Offset
from shapes.shape import Shape

NAMES = tuple(name for name, _ in COLUMNS)
Values = dict[str, str | None]
Message = dict[str, Any]


class Followed(NamedTuple):
    """A shape of the table `t`, and its filter in Python."""

    shape: Shape
    keeps: Callable[[Values], bool]

    @property
    def key(self) -> list[str]:
        return [column.name for column in self.shape.table.primary_key] or list(NAMES)

    @property
    def shown(self) -> list[str]:
        return [column.name for column in self.shape.projection.columns]


def _everything(_: Values) -> bool:
    return True


def followed(
    where: str | None = None,
    keeps: Callable[[Values], bool] = _everything,
    *,
    columns: Sequence[str] | None = None,
    full: bool = False,
    key: Sequence[str] = ("id",),
) -> Followed:
    return Followed(shape(table(key=key), where, columns=columns, full=full), keeps)


FOLLOWED = [
    followed(),
    followed("v = 'a'", lambda row: row["v"] == "a"),
    followed("v = 'b'", lambda row: row["v"] == "b", full=True),
    followed("v in ('a', 'c')", lambda row: row["v"] in ("a", "c"), columns=("id", "w")),
    followed("w is null", lambda row: row["w"] is None),
    followed("id > 3 or v = 'a'", lambda row: int(row["id"] or 0) > 3 or row["v"] == "a"),
    followed("v like 'a%'", lambda row: (row["v"] or "").startswith("a"), key=()),
    followed(
        "w = 'x' and v = 'a'", lambda row: (row["w"], row["v"]) == ("x", "a"), key=("id", "v")
    ),
    followed("v = 'rare'", lambda row: row["v"] == "rare"),
    followed(columns=("id",), full=True),
]


def expected(one: Followed, history: Iterable[Transaction], after: Offset) -> list[Message]:
    """Messages of all changes after an offset, up to a truncate."""
    found: list[Message] = []
    for transaction in history:
        told: list[tuple[Offset, Message]] = []
        for offset, (_, operation, new, old) in zip(
            transaction.offsets(), transaction.changes, strict=True
        ):
            if operation == "T":
                break
            before, now = _kept(one, old), _kept(one, new)
            for extra, message in enumerate(_messages(one, before, now)):
                message["headers"] |= {
                    "relation": ["public", "t"],
                    "txids": [transaction.xid],
                    "lsn": str(transaction.commit_lsn),
                    "op_position": offset.index + extra,
                }
                told.append((offset, message))
        if told:
            told[-1][1]["headers"]["last"] = True
        found += [message for offset, message in told if offset > after]
        if any(change[1] == "T" for change in transaction.changes):
            break
    return found


def _kept(one: Followed, row: Sequence[str | int | None] | None) -> Values | None:
    if row is None:
        return None
    texts = [None if value is None else str(value) for value in row]
    values = dict(zip(NAMES, texts, strict=True))
    return values if one.keeps(values) else None


def _messages(one: Followed, before: Values | None, now: Values | None) -> list[Message]:
    if before is None:
        return [] if now is None else [_message(one, "insert", now, one.shown)]
    if now is None:
        return [_message(one, "delete", before, _of_deleted(one))]
    if _key(one, before) != _key(one, now):
        gone = _message(one, "delete", before, _of_deleted(one))
        come = _message(one, "insert", now, one.shown)
        gone["headers"]["key_change_to"] = come["key"]
        come["headers"]["key_change_from"] = gone["key"]
        return [gone, come]
    changed = [name for name in one.shown if before[name] != now[name]]
    if not changed:
        return []
    if not one.shape.full_replica:
        return [_message(one, "update", now, {*_of_deleted(one), *changed})]
    message = _message(one, "update", now, one.shown)
    return [{**message, "old_value": {name: before[name] for name in changed}}]


def _of_deleted(one: Followed) -> list[str]:
    return [name for name in one.shown if one.shape.full_replica or name in one.key]


def _message(one: Followed, operation: str, row: Values, names: Iterable[str]) -> Message:
    return {
        "key": _key(one, row),
        "value": {name: row[name] for name in names},
        "headers": {"operation": operation},
    }


def _key(one: Followed, row: Values) -> str:
    values = [row[name] for name in one.key]
    return "/".join(['"public"."t"', *("_" if one is None else f'"{one}"' for one in values)])


def decoded(messages: Iterable[bytes]) -> list[Message]:
    return [orjson.loads(message) for message in messages]
