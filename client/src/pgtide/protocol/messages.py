"""What a shape's log consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Operation = Literal["insert", "update", "delete"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a shape's log a reader stands. Keep it, and a later stream goes on exactly there."""

    handle: str
    offset: str


@dataclass(frozen=True, slots=True)
class Change:
    """One row's change. `key` is the same for all changes of a row.

    `value` of an update has the key and what changed, of a delete the key; with `replica="full"`
    both have all columns, and `old_value` has what an update replaced.
    """

    operation: Operation
    key: str
    value: dict[str, Any]
    old_value: dict[str, Any] | None = None
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def position(self) -> tuple[int, int] | None:
        """Commit position and place in the transaction; None for rows of the snapshot."""
        lsn, place = self.headers.get("lsn"), self.headers.get("op_position")
        return None if lsn is None or place is None else (int(lsn), int(place))


@dataclass(frozen=True, slots=True)
class Control:
    """A message about the log itself.

    "up-to-date": what came so far is the state of a moment. "must-refetch": the shape begins anew
    with the next message; forget its rows. "snapshot-end": which transactions the snapshot has.
    """

    kind: str
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)


Message = Change | Control


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one answer. `position` is the one after them.

    `up_to_date`: nothing is missing as of now, and no transaction is torn. `must_refetch`: the shape
    begins anew, with the messages of the next batch.
    """

    messages: tuple[Message, ...]
    position: Position | None
    up_to_date: bool
    must_refetch: bool = False

    @property
    def changes(self) -> list[Change]:
        return [message for message in self.messages if isinstance(message, Change)]
