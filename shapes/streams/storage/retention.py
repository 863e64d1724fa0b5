"""Which parts of the table of chunks are opened and dropped. Pure.

What is appended goes to the newest part that is in use. A part is dropped as a whole, so that nothing
has to be deleted row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

AGE_SHARE: Final = 14
"""A part takes what is appended in a 14th of the retention's age: so much longer may something stay."""

BYTES_SHARE: Final = 16
"""It is followed by the next one at a 16th of the retention's size."""


class Part(NamedTuple):
    """`age`: seconds since it came into use, negative if it will soon. `size` in bytes, with indexes.
    `is_empty`: nothing was ever appended."""

    number: int
    age: float
    size: int
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Retention:
    """How long chunks are kept, and how many bytes of them."""

    age: float
    bytes: int

    def wants_another(self, parts: Sequence[Part]) -> bool:
        """Whether it is time for another part. `parts` are in the order of their numbers."""
        if not parts or parts[-1].age < 0:
            return False
        newest = parts[-1]
        if newest.is_empty:
            return False
        return newest.age > self.age / AGE_SHARE or newest.size > self.bytes / BYTES_SHARE

    def dispensable(self, parts: Sequence[Part]) -> int | None:
        """The next part to drop: the first one, if all that is in it is too old, or all together is
        too much; never the one in use. What is in a part came before the next one was in use."""
        if len(parts) < 2 or parts[1].age < 0:
            return None
        too_old = parts[1].age > self.age
        too_much = sum(part.size for part in parts) > self.bytes
        return parts[0].number if too_old or too_much else None
