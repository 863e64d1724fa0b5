"""Operators and functions of bytea, beside the comparisons."""

from __future__ import annotations

from typing import Final

from shapes.where.semantics.routine import Routine
from shapes.where.semantics.types import BYTEA, INT4
from shapes.where.values import binary

BINARY_ROUTINES: Final = (
    Routine("||", (BYTEA, BYTEA), BYTEA, binary.joined),
    Routine("length", (BYTEA,), INT4, binary.length, operator=False),
    Routine("octet_length", (BYTEA,), INT4, binary.length, operator=False),
)
