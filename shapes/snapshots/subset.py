"""Subsets: one-off queries over a shape's rows, with what a client needs to merge them into its log.

The rows are read whole before the first byte is sent: an error is then an ordinary answer, and a slow
client holds no connection to Postgres.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import asyncpg
import orjson

from engine.postgres.table import Column, Table
from shapes.database import Database
from shapes.definition import InvalidRequestError, Subset, texts_of
from shapes.definitions import numbered
from shapes.selection import queryable
from shapes.shape import Shape
from shapes.snapshots.snapshot import (
    ALTERED,
    SnapshotError,
    Visibility,
    explain,
    read_rows,
    without_values,
)
from shapes.snapshots.snapshot_sql import subset_query
from shapes.where import (
    EnumLabelError,
    SubqueryError,
    WhereError,
    parse_order_by,
    parse_subset_where,
)

MEMORY_BYTES = 1 << 20
"""Answers beyond this size go through a file without a name."""

_LARGEST = 2**63 - 1


class Rows(NamedTuple):
    """A finished answer: the JSON object with `metadata` and `data`, to be read from its beginning.

    Whoever gets it closes `file`.
    """

    file: IO[bytes]
    size: int


class Query(NamedTuple):
    """A subset in SQL that is safe to execute: a condition, sort keys, and a limit clause."""

    where: str
    order_by: str
    limit: str


class Subsets:
    """Reads subsets from Postgres. `folder` is where large ones lie while they are sent."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        silence_seconds: float,
        on_altered: Callable[[int], None],
    ) -> None:
        """`on_altered` hears of a table (by oid) that is not what a shape took it for."""
        self._database = database
        self._folder = folder
        self._silence = silence_seconds
        self._on_altered = on_altered

    async def read(self, shape: Shape, query: Query) -> Rows:
        """Run the query in the shape's rows.

        Raises InvalidRequestError for what Postgres does not like about it, and SnapshotError.
        """
        mark = random.getrandbits(31)
        answer = _Answer(mark, self._folder)
        sql = subset_query(
            shape, mark, where=query.where, order_by=query.order_by, limit=query.limit
        )
        try:
            await read_rows(
                self._database,
                sql,
                answer.feed,
                flush=lambda: not answer.durable,
                silence=self._silence,
            )
            return answer.finish()
        except (asyncpg.DataError, asyncpg.FeatureNotSupportedError) as error:
            raise InvalidRequestError({"subset": {"where": without_values(error)}}) from error
        except ALTERED as error:
            self._on_altered(shape.table.oid)
            raise SnapshotError("Failed to create shape, please retry") from error
        except asyncpg.PostgresError as error:
            raise SnapshotError(explain(error)) from error
        finally:
            answer.close()


def make_query(shape: Shape, subset: Subset, queryable_columns: str | None) -> Query:
    """Check a subset against its shape's table. Raises InvalidRequestError."""
    if shape.window is not None:
        raise InvalidRequestError.of_subset("where", "a shape with a window has no subsets")
    if subset.limit is not None and subset.limit <= 0:
        raise InvalidRequestError.of_subset("limit", "must be greater than 0")
    if subset.offset is not None and subset.offset < 0:
        raise InvalidRequestError.of_subset("offset", "must be greater than or equal to 0")
    if subset.order_by is None and (subset.limit, subset.offset) != (None, None):
        raise InvalidRequestError.of_subset(
            "order_by", "order_by is required when limit or offset is present"
        )
    params = numbered(_params(subset.params), InvalidRequestError.of_subset)
    columns = queryable(shape.table, queryable_columns)
    where = _where(subset.where, params, shape.table, columns)
    return Query(where, _order_by(subset, columns), _limit(subset))


def _params(params: str | tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    if not isinstance(params, str):
        return params
    try:
        values: object = orjson.loads(params)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError.of_subset("params", "params must be valid JSON") from error
    texts = texts_of(values)
    if texts is None:
        raise InvalidRequestError.of_subset("params", "params must be a JSON object")
    return texts


def _where(
    text: str | None, params: dict[int, str], table: Table, columns: tuple[Column, ...]
) -> str:
    if text is None:
        return ""
    try:
        return parse_subset_where(text, params, table, {column.name for column in columns})
    except SubqueryError as error:
        message = "Subqueries are not allowed in subsets"
        raise InvalidRequestError.of_subset("where", message) from error
    except EnumLabelError as error:
        # As Postgres says it when it comes upon the label, without a list around it.
        raise InvalidRequestError({"subset": {"where": error.message}}) from error
    except WhereError as error:
        raise InvalidRequestError.of_subset("where", str(error)) from error


def _order_by(subset: Subset, columns: tuple[Column, ...]) -> str:
    if subset.order_by is None:
        return ""
    try:
        return parse_order_by(subset.order_by, columns)
    except WhereError as error:
        raise InvalidRequestError.of_subset("order_by", str(error)) from error


def _limit(subset: Subset) -> str:
    clauses = [
        f"{name} {min(value, _LARGEST)}"
        for name, value in (("limit", subset.limit), ("offset", subset.offset))
        if value is not None
    ]
    return " ".join(clauses)


class _Answer:
    """The answer's JSON, from the pieces of the COPY stream: its first line is the snapshot."""

    def __init__(self, mark: int, folder: Path) -> None:
        self._mark = mark
        # Closed by `close`, or by whoever sends it.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self._finished = False
        self._visibility: Visibility | None = None
        self._held: bytes = b""

    @property
    def durable(self) -> bool:
        return self._visibility is not None and self._visibility.durable

    async def feed(self, data: bytes) -> None:
        """The next piece of the stream."""
        data = self._held + data
        if self._visibility is None:
            end = data.find(b"\n")
            if end < 0:
                self._held = data
                return
            self._visibility = Visibility.parse(data[:end].decode())
            self._file.write(self._beginning(self._visibility))
            data = data[end + 1 :]
        # The comma after the last row must not go out.
        self._file.write(data[:-2])
        self._held = data[-2:]

    def _beginning(self, visibility: Visibility) -> bytes:
        metadata = {
            "xmin": str(visibility.xmin),
            "xmax": str(visibility.xmax),
            "xip_list": [str(xid) for xid in sorted(visibility.xip)],
            "snapshot_mark": self._mark,
            "database_lsn": str(visibility.lsn),
        }
        return b'{"metadata":%b,"data":[' % orjson.dumps(metadata)

    def finish(self) -> Rows:
        if self._visibility is None:
            raise SnapshotError("Postgres sent no snapshot")
        self._file.write(b"]}")
        size = self._file.tell()
        self._file.seek(0)
        self._finished = True
        return Rows(self._file, size)

    def close(self) -> None:
        """Give up what has not been finished."""
        if not self._finished:
            self._file.close()
