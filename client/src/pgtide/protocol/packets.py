"""Payloads and outputs: a text and the type that says how to read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pgtide.errors import InvalidRequestError
from pgtide.protocol import superjson

JSON = "application/json"
SUPER_JSON = "application/super+json"
TEXT = "text/plain"
STORE = "application/store"


@dataclass(frozen=True, slots=True)
class Packet:
    """`data` is None where there is no value."""

    data: str | None
    type: str = JSON

    @property
    def size(self) -> int:
        """In bytes."""
        return len((self.data or "").encode())


@dataclass(frozen=True, slots=True)
class StoredPacket:
    """Stands for a large value that is kept elsewhere and could not be fetched from there."""

    path: str


def pack(value: Any) -> Packet:
    """Text stays text, what JSON can express is JSON, dates, sets and the like are SuperJSON.

    Raises InvalidRequestError for values of other types.
    """
    if value is None:
        return Packet(None)
    if isinstance(value, str):
        return Packet(value, TEXT)
    try:
        plain, meta = superjson.encode(value)
        if meta is None:
            return Packet(_dump(plain), JSON)
        return Packet(_dump({"json": plain, "meta": meta}), SUPER_JSON)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the payload cannot be written as JSON: {error}") from error


def unpack(data: str | None, kind: str | None) -> Any:
    """The value. Text that is not what its type says, and types that are not known, stay text."""
    if data is None or data == "":
        return None
    if kind == STORE:
        return StoredPacket(data)
    if kind not in (JSON, SUPER_JSON):
        return data
    try:
        value = json.loads(data)
    except ValueError:
        return data
    return superjson.decode(value) if kind == SUPER_JSON else value


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
