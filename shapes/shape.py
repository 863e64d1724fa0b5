"""What a client may follow: table, filter, columns, modes. Pure."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from engine.postgres.table import Column, Table
from shapes.runs.presentation import Presentation
from shapes.where import Condition
from shapes.windows.window import Window


class Handle(NamedTuple):
    """Names one snapshot of one shape. `generation` is its time of birth in microseconds."""

    hash: int
    generation: int

    def __str__(self) -> str:
        return f"{self.hash}-{self.generation}"

    @classmethod
    def parse(cls, text: str) -> Handle | None:
        """Read a handle; None if this is none of ours."""
        first, _, second = text.partition("-")
        if not (first.isascii() and first.isdigit() and second.isascii() and second.isdigit()):
            return None
        if len(first) > 20 or len(second) > 20:
            return None
        handle = cls(int(first), int(second))
        # Exactly as it was given out: an answer carries the handle that was asked with.
        return handle if max(handle) < 2**64 and str(handle) == text else None


@dataclass(frozen=True, eq=False)
class Projection:
    """A table and the columns of it that a shape delivers, shared by all shapes that agree on them.

    With a `presentation`, `columns` are those that its fields are made from.
    """

    table: Table
    columns: tuple[Column, ...]
    explicit: bool
    presentation: Presentation | None = None

    @cached_property
    def schema_header(self) -> bytes:
        """The `electric-schema` header: an object with an entry per column."""
        if self.presentation is not None:
            return _escape(orjson.dumps(self.presentation.schema).decode())
        schema = {column.name: _describe(column) for column in self.columns}
        return _escape(orjson.dumps(schema).decode())

    @cached_property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns that make up a row's key: the primary key, or all if there is none.

        All that the shape has: columns that are added later do not change the keys that it gave out.
        """
        if self.presentation is not None:
            return tuple(one for one in self.columns if one.name == self.presentation.key)
        return self.table.primary_key or self.columns


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A shape in canonical form. Two requests mean the same shape if and only if `hash` agrees."""

    projection: Projection
    condition: Condition | None
    full_replica: bool
    changes_only: bool
    hash: int
    window: Window | None = None

    @property
    def table(self) -> Table:
        return self.projection.table

    @property
    def reads(self) -> frozenset[str]:
        """Names of the columns that it shows or that its filter reads."""
        return frozenset(column.name for column in self.projection.columns) | self.filtered_by

    @property
    def filtered_by(self) -> frozenset[str]:
        """Names of the columns that decide which rows it has."""
        names = frozenset[str]() if self.condition is None else self.condition.columns
        return names if self.window is None else names | {self.window.column}


def make_shape(
    projection: Projection,
    condition: Condition | None,
    *,
    full_replica: bool = False,
    changes_only: bool = False,
    window: Window | None = None,
) -> Shape:
    """Build a shape and compute its identity."""
    table = projection.table
    presentation = projection.presentation
    definition = (
        table.oid,
        table.schema,
        table.name,
        [column.name for column in table.primary_key],
        [(column.name, column.type_oid, column.modifier) for column in projection.columns],
        projection.explicit,
        None if condition is None else condition.sql,
        full_replica,
        changes_only,
        *(() if presentation is None else (presentation.identity,)),
        *(() if window is None else (list(window),)),
    )
    digest = hashlib.blake2b(orjson.dumps(definition), digest_size=8).digest()
    identity = int.from_bytes(digest, "big")
    return Shape(projection, condition, full_replica, changes_only, identity, window)


def new_generation(after: int = 0) -> int:
    """A generation that has not been used: now, and later than `after`."""
    return max(time.time_ns() // 1000, after + 1)


def _escape(text: str) -> bytes:
    """Everything beyond ASCII as JSON escapes: header values are not read as UTF-8."""
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(code) if code < 127 else f"\\u{code:04x}" for code in codes).encode()


_TIME_TYPES = frozenset(("time", "timetz", "timestamp", "timestamptz"))
_INTERVAL_FIELDS = {
    "YEAR": 1 << 2,
    "MONTH": 1 << 1,
    "DAY": 1 << 3,
    "HOUR": 1 << 10,
    "MINUTE": 1 << 11,
    "SECOND": 1 << 12,
}


def _describe(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": column.type}
    if column.dims:
        entry["dims"] = column.dims
    if column.key_index is not None:
        entry["pk_index"] = column.key_index
    if column.not_null:
        entry["not_null"] = True
    if column.modifier > -1:
        entry.update(_describe_modifier(column.type, column.modifier))
    return entry


def _describe_modifier(name: str, modifier: int) -> dict[str, Any]:
    """A type modifier in words, as `format_type` reads it (src/backend/utils/adt/*typmodout)."""
    if name == "varchar":
        return {"max_length": modifier - 4}
    if name == "bpchar":
        return {"length": modifier - 4}
    if name in ("bit", "varbit"):
        return {"length": modifier}
    if name == "numeric":
        packed = modifier - 4
        scale = (packed & 0x7FF) ^ 1024
        return {"precision": (packed >> 16) & 0xFFFF, "scale": scale - 1024}
    if name in _TIME_TYPES:
        return {"precision": modifier} if modifier > 0 else {}
    if name == "interval":
        return _describe_interval(modifier)
    return {"type_mod": modifier}


def _describe_interval(modifier: int) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    precision = modifier & 0xFFFF
    mask = (modifier >> 16) & 0x7FFF
    if mask != 0x7FFF:
        names = [name for name, bit in _INTERVAL_FIELDS.items() if mask & bit]
        entry["fields"] = names[0] if len(names) == 1 else f"{names[0]} TO {names[-1]}"
    if precision != 0xFFFF:
        entry["precision"] = precision
    return entry
