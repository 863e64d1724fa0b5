"""Changes to a run's metadata that wait to be sent."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal, cast

from pgtide.errors import InvalidRequestError
from pgtide.protocol.exchange import dump

Target = Literal["operations", "parentOperations", "rootOperations"]
Operation = dict[str, Any]

UNSAFE = ("__proto__", "constructor", "prototype")


class OperationList:
    """Operations on one run's metadata, in order, with those left out that do not matter any more.

    What is left has the same effect: a value that is set, or increments, at the same place as an
    earlier one take its place if nothing in between concerns it. So a worker that sets its progress a
    thousand times between two flushes sends one operation.
    """

    def __init__(self) -> None:
        self._operations: list[Operation] = []

    def __len__(self) -> int:
        return len(self._operations)

    def add(self, operation: Operation) -> None:
        """Raises InvalidRequestError for what the server would refuse."""
        _check(operation)
        kind = operation["type"]
        if kind == "update":
            self._operations = [operation]
            return
        place = _place(operation)
        if kind == "set" and operation["key"] == place:
            # The whole value is replaced: what was done to the old one does not matter.
            self._operations = [one for one in self._operations if _place(one) != place]
        elif self._joined(operation, place):
            return
        self._operations.append(operation)

    def take(self) -> list[Operation]:
        taken, self._operations = self._operations, []
        return taken

    def _joined(self, operation: Operation, place: str | None) -> bool:
        """Whether the latest operation that concerns the same value has taken this one in."""
        for at in range(len(self._operations) - 1, -1, -1):
            earlier = self._operations[at]
            if earlier["type"] != "update" and _place(earlier) != place:
                continue
            kind = operation["type"]
            if earlier["type"] != kind or earlier.get("key") != operation["key"]:
                return False
            if kind == "increment":
                total = earlier["value"] + operation["value"]
                self._operations[at] = {**earlier, "value": total}
                return True
            if kind == "set":
                if earlier["value"] is None:
                    # A path does not replace what is null.
                    return False
                self._operations[at] = operation
                return True
            return kind == "delete"
        return False


def _place(operation: Operation) -> str | None:
    """The top-level key whose value an operation concerns; None: all of them."""
    if operation["type"] == "update":
        return None
    key: str = operation["key"]
    if operation["type"] != "delete" and key.startswith("$."):
        return key[2:].split(".", 1)[0]
    return key


def _check(operation: Operation) -> None:
    if operation["type"] == "update":
        return
    key: Any = operation["key"]
    if not isinstance(key, str):
        raise InvalidRequestError("a key of metadata is a text")
    parts = key[2:].split(".") if key.startswith("$.") else [key]
    if key == "$." or key == "__proto__" or (len(parts) > 1 and set(parts) & set(UNSAFE)):
        raise InvalidRequestError(f"{key!r} cannot be a key of metadata")


@dataclass(slots=True)
class Delivery:
    """One request's worth of operations. However often it is sent, it counts once."""

    body: bytes
    key: str = field(default_factory=lambda: str(uuid.uuid4()))


class Pending:
    """What one run's worker has noted and not delivered. Any thread may add."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lists: dict[Target, OperationList] = {}
        self._delivery: Delivery | None = None

    @property
    def is_empty(self) -> bool:
        return self._delivery is None and not any(map(len, self._lists.values()))

    def add(self, target: Target, operation: Operation) -> None:
        """Raises InvalidRequestError for what cannot be written as JSON or the server refuses."""
        # A copy: what the caller does to a list later must not be sent as if it were now.
        noted: Operation = json.loads(dump(operation))
        with self._lock:
            self._lists.setdefault(target, OperationList()).add(noted)

    def next_delivery(self) -> Delivery | None:
        """What to send now: again what was not delivered, or all that is new. None: nothing."""
        with self._lock:
            if self._delivery is None and not self.is_empty:
                body = {target: one.take() for target, one in self._lists.items() if len(one)}
                self._delivery = Delivery(dump(body))
            return self._delivery

    def settled(self, delivery: Delivery) -> None:
        """It was delivered, or refused for good."""
        if self._delivery is delivery:
            self._delivery = None


class Recorder:
    """The operations of metadata, for whoever takes them."""

    def record(self, target: Target, operation: Operation) -> None:
        raise NotImplementedError

    _target: Target = "operations"

    def set(self, key: str, value: object) -> None:
        """Give `key` a value. A key that begins with `$.` is a path: `$.rows.0.done`."""
        self.record(self._target, {"type": "set", "key": key, "value": value})

    def delete(self, key: str) -> None:
        """Drop a key."""
        self.record(self._target, {"type": "delete", "key": key})

    def increment(self, key: str, by: float = 1) -> None:
        """Add to a number; what is missing counts as 0."""
        if isinstance(by, bool) or not isinstance(cast("object", by), int | float):
            raise InvalidRequestError("an increment is a number")
        self.record(self._target, {"type": "increment", "key": key, "value": by})

    def decrement(self, key: str, by: float = 1) -> None:
        self.increment(key, -by)

    def append(self, key: str, value: object) -> None:
        """Add to the end of a list; what is missing becomes one."""
        self.record(self._target, {"type": "append", "key": key, "value": value})

    def remove(self, key: str, value: object) -> None:
        """Drop the elements of a list that are equal to `value`."""
        self.record(self._target, {"type": "remove", "key": key, "value": value})

    def update(self, values: Mapping[str, object]) -> None:
        """Replace the whole of the metadata."""
        self.record(self._target, {"type": "update", "value": dict(values)})


class Relative(Recorder):
    """The metadata of the run's parent or root, through the same flushes."""

    def __init__(self, pending: Recorder, target: Target) -> None:
        self._pending = pending
        self._target = target

    def record(self, target: Target, operation: Operation) -> None:
        self._pending.record(target, operation)
