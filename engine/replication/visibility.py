"""Which transactions a snapshot of Postgres sees. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Visibility(NamedTuple):
    """What `pg_current_snapshot()` says, as `xmin:xmax:xip,…`."""

    xmin: int
    xmax: int
    xip: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Visibility:
        """Raises ValueError."""
        xmin, xmax, xip = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in xip.split(",") if xid))

    def sees(self, xid: int) -> bool:
        """Whether the transaction with this 32-bit id had ended when the snapshot was taken."""
        return sees(self.xmin, self.xmax, self.xip, xid)


def sees(xmin: int, xmax: int, xip: frozenset[int], xid: int) -> bool:
    """Whether a snapshot sees the transaction with this 32-bit id."""
    distance = (xid - xmax) & 0xFFFFFFFF
    wide = xmax + (distance if distance < 2**31 else distance - 2**32)
    if wide < xmin:
        return True
    return wide < xmax and wide not in xip
