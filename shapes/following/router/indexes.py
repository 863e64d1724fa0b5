"""The kinds of indexes that there are keys for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapes.following.router.lookups import (
    ElementLookup,
    HashLookup,
    Lookup,
    PartLookup,
    PrefixLookup,
)
from shapes.following.router.operands import OperandReader
from shapes.following.router.spans import SpanLookup
from shapes.where import Index, Kind, Operand


def make_lookup(index: Index, positions: Mapping[str, int]) -> Lookup[Any]:
    """An empty index."""
    if index.kind is Kind.ELEMENT:
        (operand,) = index.operands
        return ElementLookup(OperandReader((Operand(operand.column),), positions), operand.parse)
    reader = OperandReader(index.operands, positions)
    match index.kind:
        case Kind.VALUE:
            return HashLookup(reader)
        case Kind.SPAN:
            return SpanLookup(reader)
        case Kind.PREFIX:
            return PrefixLookup(reader)
        case Kind.PART:
            return PartLookup(reader)
