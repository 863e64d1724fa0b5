"""What the operands of an index are in a row."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias

from shapes.where import Operand, Row, UnchangedValueError, compile_value

Read: TypeAlias = Callable[[Row], Any]
"""The value in a row, None for NULL. Raises some PgtideError if it cannot be told."""


class OperandReader:
    """Reads the value of one operand, or a tuple of several, and says whether two rows agree on it."""

    __slots__ = ("positions", "read")

    def __init__(self, operands: tuple[Operand, ...], positions: Mapping[str, int]) -> None:
        readers = [_reader(one, positions) for one in operands]
        self.read: Read = readers[0] if len(readers) == 1 else _together(readers)
        self.positions = tuple({positions[name]: None for one in operands for name in one.columns})

    def same(self, old: Row, new: Row) -> bool:
        return all(old[position] == new[position] for position in self.positions)


def _reader(operand: Operand, positions: Mapping[str, int]) -> Read:
    read, fold = _unfolded(operand, positions), operand.fold
    if fold is None:
        return read

    def read_folded(row: Row) -> str | None:
        text = read(row)
        return None if text is None else fold(text)

    return read_folded


def _unfolded(operand: Operand, positions: Mapping[str, int]) -> Read:
    if operand.expression is not None:
        return compile_value(operand.expression, positions)
    position, column, parse = positions[operand.column], operand.column, operand.parse
    if operand.null:
        return lambda row: row[position] is None

    def read_text(row: Row) -> str | None:
        value = row[position]
        if isinstance(value, int):
            raise UnchangedValueError(column)
        return value

    if parse is None:
        return read_text

    def read_value(row: Row) -> Hashable:
        text = read_text(row)
        return None if text is None else parse(text)

    return read_value


def _together(readers: list[Read]) -> Read:
    """All values as a tuple, None if any is NULL."""

    def read(row: Row) -> tuple[Any, ...] | None:
        values = tuple([one(row) for one in readers])
        return None if None in values else values

    return read
