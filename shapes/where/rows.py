"""Rows as they come from the log: texts in the order of a relation message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

UNCHANGED: Final = 0
"""Stands in a row for a value that was not sent; the same object as in the log's rows."""

Row: TypeAlias = Sequence[str | int | None]
"""One value per column: its text, None for NULL, or `UNCHANGED`."""

Predicate: TypeAlias = Callable[[Row], bool]
"""Whether a condition is TRUE (neither false nor NULL) of a row."""
