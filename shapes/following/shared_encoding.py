"""Encodes once what several feeds have in common."""

from __future__ import annotations

from types import TracebackType

from shapes.following.encoder import Entry
from shapes.following.feed import Encode
from shapes.shape import Projection, Shape

_Key = tuple[Projection, bool, tuple[int, ...]]


class SharedEncoding:
    """An `Encode` for one round of publishing. One change may concern thousands of overlapping
    shapes, to all of which it looks the same.

    What is encoded after the round, for readers that were slower, is not shared: nothing of the
    round is kept for them.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        # The entries are kept so that no others get their identity.
        self._encoded: dict[_Key, tuple[list[Entry], list[bytes]]] | None = {}

    def __call__(self, shape: Shape, entries: list[Entry]) -> list[bytes]:
        encoded = self._encoded
        if encoded is None:
            return self._encode(shape, entries)
        key = (shape.projection, shape.full_replica, tuple(map(id, entries)))
        found = encoded.get(key)
        if found is None:
            found = encoded[key] = entries, self._encode(shape, entries)
        return found[1]

    def __enter__(self) -> SharedEncoding:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._encoded = None
