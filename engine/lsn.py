"""Write-ahead log positions.

An LSN is an unsigned 64-bit byte position in Postgres's write-ahead log. Postgres prints it as two
hexadecimal halves (`16/B374D848`); on the wire to clients it is always an unsigned decimal string.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

Lsn = NewType("Lsn", int)

_LSN = re.compile("([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")

MAX_LSN = Lsn(2**64 - 1)


class Offset(NamedTuple):
    """A position in the log: the commit LSN of a transaction and an index within it.

    Row changes of a transaction have the indexes 2, 4, 6, … in statement order; the odd number after a
    change's own belongs to the second half of a key change. Index 0 belongs to no change: `(lsn, 0)`
    is the boundary before the transaction that commits at `lsn`. It sorts after every change of every
    earlier transaction even when that transaction's commit record ends exactly at `lsn`.
    """

    lsn: int
    index: int

    def __str__(self) -> str:
        return f"{self.lsn}_{self.index}"


def parse_lsn(text: str) -> Lsn:
    """Read Postgres's `X/Y` form. Raises ValueError if it is anything else."""
    match = _LSN.fullmatch(text)
    if match is None:
        raise ValueError(f"not an LSN: {text!r}")
    return Lsn((int(match[1], 16) << 32) | int(match[2], 16))


def format_lsn(lsn: int) -> str:
    """Postgres's `X/Y` form of an LSN."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
